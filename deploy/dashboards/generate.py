"""Writes the dashboard that the chart ships: rate, errors and duration of every service; where events and charges are.

`python deploy/dashboards/generate.py` after a change; a test asserts that what is checked in is what this prints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "helm/svyaz/dashboards/svyaz.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT, COLUMNS = 8, 7, 3
# Ours to answer for; refusals such as NOT_FOUND are the caller's.
FAULTS = "INTERNAL|UNKNOWN|UNAVAILABLE|DEADLINE_EXCEEDED|DATA_LOSS|UNIMPLEMENTED"

NAMESPACE = 'namespace=~"$namespace"'
SERVICE = f'{NAMESPACE}, service=~"$service"'
# The probes' own requests say nothing about clients.
CLIENTS = f'{NAMESPACE}, route!~"/healthz|/readyz"'


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One graph: its lines are (query, legend)."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    description: str = ""


def rate(metric: str, labels: str, by: str) -> str:
    """Events a second, summed by some labels."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def share(metric: str, bad: str, labels: str, by: str) -> str:
    """The part of a counter that a further selector picks; 0 where it picks nothing yet."""
    total = rate(metric, labels, by)
    return f"({rate(metric, f'{labels}, {bad}', by)} or 0 * {total}) / {total}"


def quantile(q: float, metric: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram over some labels."""
    labelled = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, labelled)})"


def largest(metric: str, labels: str, by: str) -> str:
    """Replicas show the same thing, or what they last saw of it: the largest counts."""
    return f"max by ({by}) ({metric}{{{labels}}})"


def objective(name: str) -> tuple[str, str]:
    """The line not to be crossed."""
    return f"max(svyaz:slo_{name}{{{NAMESPACE}}})", "objective"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Objectives": (
        Panel(
            title="Error budgets: times too fast, over an hour",
            unit="none",
            description="1 uses up a month's budget in a month; 14.4 in two days, and pages.",
            lines=((f"svyaz:burn:rate1h{{{NAMESPACE}}}", "{{slo}} {{service}}"),),
        ),
        Panel(
            title="Error budgets: times too fast, over three days",
            unit="none",
            lines=((f"svyaz:burn:rate3d{{{NAMESPACE}}}", "{{slo}} {{service}}"),),
        ),
        Panel(
            title="Pods that answer",
            unit="none",
            lines=((f"sum by (service) (up{{{NAMESPACE}}})", "{{service}}"),),
        ),
    ),
    "Gateway": (
        Panel(
            title="Rate",
            unit="reqps",
            lines=((rate("svyaz_http_requests_total", CLIENTS, "status"), "{{status}}"),),
        ),
        Panel(
            title="Errors",
            unit="percentunit",
            lines=((share("svyaz_http_requests_total", 'status=~"5.."', CLIENTS, "route"), "{{route}}"),),
        ),
        Panel(
            title="Duration",
            unit="s",
            lines=(
                (quantile(0.5, "svyaz_http_duration_seconds", CLIENTS), "p50"),
                (quantile(0.99, "svyaz_http_duration_seconds", CLIENTS), "p99"),
                (f"topk(5, {quantile(0.99, 'svyaz_http_duration_seconds', CLIENTS, 'route')})", "p99 {{route}}"),
                objective("gateway_latency_seconds"),
            ),
        ),
    ),
    "Services": (
        Panel(
            title="Rate",
            unit="reqps",
            lines=((rate("svyaz_rpc_requests_total", SERVICE, "service"), "{{service}}"),),
        ),
        Panel(
            title="Errors",
            unit="percentunit",
            description="Calls that failed through our fault; refusals don't count.",
            lines=((share("svyaz_rpc_requests_total", f'code=~"{FAULTS}"', SERVICE, "service"), "{{service}}"),),
        ),
        Panel(
            title="Duration, p99",
            unit="s",
            lines=(
                (quantile(0.99, "svyaz_rpc_duration_seconds", SERVICE, "service"), "{{service}}"),
                objective("service_latency_seconds"),
            ),
        ),
        Panel(
            title="Codes other than OK",
            unit="reqps",
            lines=(
                (rate("svyaz_rpc_requests_total", f'{SERVICE}, code!="OK"', "service, code"), "{{service}} {{code}}"),
            ),
        ),
        Panel(
            title="The ten slowest methods, p99",
            unit="s",
            lines=(
                (f"topk(10, {quantile(0.99, 'svyaz_rpc_duration_seconds', SERVICE, 'service, method')})", "{{method}}"),
            ),
        ),
        Panel(
            title="Calls in flight",
            unit="none",
            description="A process refuses more than MAX_CONCURRENT_CALLS.",
            lines=((largest("svyaz_rpc_in_flight", SERVICE, "service"), "{{service}}, the busiest pod"),),
        ),
    ),
    "Events": (
        Panel(
            title="Published",
            unit="ops",
            lines=(
                (rate("svyaz_relay_published_total", SERVICE, "stream"), "{{stream}}"),
                (rate("svyaz_relay_failures_total", SERVICE, "stream"), "{{stream}}, failed"),
            ),
        ),
        Panel(
            title="Outbox: oldest unsent event",
            unit="s",
            lines=(
                (largest("svyaz_outbox_oldest_seconds", SERVICE, "service"), "{{service}}"),
                objective("outbox_age_seconds"),
            ),
        ),
        Panel(
            title="Outbox: unsent events, blocked keys",
            unit="none",
            lines=(
                (largest("svyaz_outbox_unsent", SERVICE, "service"), "{{service}}"),
                (largest("svyaz_outbox_blocked_keys", SERVICE, "service"), "{{service}}, blocked keys"),
            ),
        ),
        Panel(
            title="Consumers: events by outcome",
            unit="ops",
            lines=((rate("svyaz_consumer_events_total", SERVICE, "consumer, outcome"), "{{consumer}} {{outcome}}"),),
        ),
        Panel(
            title="Consumers: age of events when handled",
            unit="s",
            lines=(
                (largest("svyaz_consumer_lag_seconds", SERVICE, "consumer"), "{{consumer}}"),
                objective("consumer_lag_seconds"),
            ),
        ),
        Panel(
            title="Consumers: parked keys, pauses",
            unit="none",
            lines=(
                (largest("svyaz_consumer_parked_keys", SERVICE, "consumer"), "{{consumer}}, parked keys"),
                (largest("svyaz_consumer_paused", SERVICE, "consumer"), "{{consumer}}, paused"),
            ),
        ),
        Panel(
            title="Timers: lateness, p99",
            unit="s",
            lines=(
                (
                    quantile(0.99, "svyaz_timer_lateness_seconds", SERVICE, "service, purpose"),
                    "{{service}} {{purpose}}",
                ),
                objective("timer_lateness_seconds"),
            ),
        ),
        Panel(
            title="Timers: due, given up",
            unit="none",
            lines=(
                (largest("svyaz_timers_due", SERVICE, "service"), "{{service}}, due"),
                (largest("svyaz_timers_given_up", SERVICE, "service"), "{{service}}, given up"),
            ),
        ),
        Panel(
            title="Callbacks",
            unit="ops",
            lines=(
                (rate("svyaz_hub_deliveries_total", NAMESPACE, "outcome"), "{{outcome}}"),
                (f"max(svyaz_hub_suspended_subscriptions{{{NAMESPACE}}})", "suspended subscriptions"),
            ),
        ),
    ),
    "Orders and billing": (
        Panel(
            title="Orders that ended, an hour",
            unit="none",
            lines=((f"sum by (outcome) (increase(svyaz_orders_total{{{NAMESPACE}}}[1h]))", "{{outcome}}"),),
        ),
        Panel(
            title="Rows of bulk orders, a minute",
            unit="none",
            lines=(
                (
                    f"sum by (outcome) (60 * rate(svyaz_bulk_rows_total{{{NAMESPACE}}}[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
        ),
        Panel(
            title="Charges: not yet sealed, not yet sent",
            unit="none",
            lines=(
                (f"max(svyaz_billing_unsealed{{{NAMESPACE}}})", "unsealed"),
                (f"max(svyaz_billing_unsent{{{NAMESPACE}}})", "unsent"),
            ),
        ),
        Panel(
            title="Charges: the oldest that billing has not got",
            unit="s",
            lines=(
                (f"max(svyaz_billing_oldest_unsent_seconds{{{NAMESPACE}}})", "oldest"),
                objective("billing_unsent_age_seconds"),
            ),
        ),
        Panel(
            title="Charges: the oldest that billing has not booked",
            unit="s",
            lines=(
                (f"max(svyaz_billing_oldest_unacknowledged_seconds{{{NAMESPACE}}})", "oldest"),
                objective("billing_unacknowledged_age_seconds"),
            ),
        ),
        Panel(
            title="Charges that do not fit what was ordered, by the days' certificates",
            unit="none",
            lines=((f"max(svyaz_billing_discrepancies{{{NAMESPACE}}})", "discrepancies"),),
        ),
    ),
}


def variable(name: str, query: str, *, multi: bool) -> dict[str, Any]:
    """A choice at the top of the dashboard."""
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": multi,
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if multi else {}),
    }


def graph(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana reads it."""
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": "objective"},
                    "properties": [
                        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
                        {"id": "custom.fillOpacity", "value": 0},
                    ],
                }
            ],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.lines)
        ],
    }


def dashboard() -> dict[str, Any]:
    """The whole dashboard, rows below each other."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH * COLUMNS, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        y += 1
        for at, panel in enumerate(row):
            panels.append(graph(panel, len(panels) + 1, at % COLUMNS * WIDTH, y + at // COLUMNS * HEIGHT))
        y += -(-len(row) // COLUMNS) * HEIGHT
    return {
        "uid": "svyaz",
        "title": "Svyaz",
        "tags": ["svyaz"],
        "schemaVersion": 39,
        "timezone": "browser",
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                variable("namespace", "label_values(svyaz_rpc_requests_total, namespace)", multi=False),
                variable(
                    "service", 'label_values(svyaz_rpc_requests_total{namespace=~"$namespace"}, service)', multi=True
                ),
            ]
        },
        "panels": panels,
    }


def rendered() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(rendered())
