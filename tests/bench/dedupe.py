"""Those who are in the base twice, found among made-up customers: `make bench NAME=dedupe`.

Families live at one address and share a telephone, copies have slips, another script, another address, missing values;
what is measured is the whole engine, from rows to pairs: normalising, blocking, learning, scoring. Precision and recall
are counted against the copies that were made.
"""

import argparse
import resource
import sys
import time

import numpy as np

from customers.matching.linkage import link
from customers.matching.records import records
from tests.bench.figures import report
from tests.people import population

SIZE = 1_000_000
# On two processors.
MOST_SECONDS = 300.0
LEAST = 0.99


def main() -> int:
    """Measures, prints the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=SIZE)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    rows, pairs = population(arguments.rows, seed=arguments.seed)
    true = np.array(sorted(one << 32 | other for one, other in pairs), dtype=np.int64)
    del pairs
    begun, cpu = time.perf_counter(), time.process_time()
    linked = link(records(iter(rows)), least=0.5)
    seconds, processor = time.perf_counter() - begun, time.process_time() - cpu
    right = int(np.isin(linked.pairs, true).sum())
    what = f"{arguments.rows} customers, {len(true)} pairs of one person"
    ok = [
        report(f"duplicates among {what}", seconds, "s", goal=MOST_SECONDS * arguments.rows / SIZE, lower=True),
        report(f"precision among {what}", right / max(1, len(linked.pairs)), "share", goal=LEAST),
        report(f"recall among {what}", right / max(1, len(true)), "share", goal=LEAST),
        report("processor time of it", processor, "s", goal=2 * MOST_SECONDS * arguments.rows / SIZE, lower=True),
        report(
            "most memory of it",
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "MiB",
            goal=6 * 1024,
            lower=True,
        ),
    ]
    return 0 if all(ok) else 1


if __name__ == "__main__":
    sys.exit(main())
