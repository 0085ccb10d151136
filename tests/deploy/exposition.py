"""A process that has every metric of the platform, each moving, for Prometheus to scrape: `exposition.py PORT`.

The metrics are the ones that the code declares: a name or label that changes there is missing on the dashboard here.
"""

import importlib
import itertools
import re
import sys
import time
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = [ROOT / "chassis", *sorted((ROOT / "services").iterdir())]
DECLARATION = re.compile(r'(Counter|Gauge|Histogram)\(\s*"svyaz_')
LABELS = {
    "service": ["orders"],
    "method": ["OrderService/CreateProductOrder"],
    "code": ["OK", "NOT_FOUND", "INTERNAL"],
    "route": ["/tmf-api/productOrderingManagement/v4/productOrder"],
    "status": ["200", "503"],
    "stream": ["ORDERS"],
    "consumer": ["orders-0"],
    "outcome": ["handled", "completed", "failed", "delivered"],
    "purpose": ["provision"],
    "system": ["provisioning"],
    "why": ["refused", "overdue", "held", "ahead", "hash", "back"],
}


def metrics() -> dict[str, Counter | Gauge | Histogram]:
    """Our metrics by the names under which they were declared."""
    for distribution in DISTRIBUTIONS:
        for path in sorted(distribution.rglob("*.py")):
            if DECLARATION.search(path.read_text()):
                importlib.import_module(".".join(path.relative_to(distribution).with_suffix("").parts))
    found: dict[str, Counter | Gauge | Histogram] = {}
    for collector in set(REGISTRY._collector_to_names):
        if isinstance(collector, Counter | Gauge | Histogram) and collector._name.startswith("svyaz_"):
            found[collector._name] = collector
    return found


def move(metric: Counter | Gauge | Histogram) -> None:
    """Something happens to each of the metric's series."""
    for values in itertools.product(*(LABELS[label] for label in metric._labelnames)):
        series = metric.labels(*values) if values else metric
        if isinstance(series, Histogram):
            series.observe(0.03)
        else:
            series.inc()


def main() -> None:
    """Serves until it is stopped."""
    ours = metrics()
    start_http_server(int(sys.argv[1]), addr="127.0.0.1")
    while True:
        for metric in ours.values():
            move(metric)
        time.sleep(0.2)


if __name__ == "__main__":
    main()
