"""Alerts: each fires when it should, is silent when it should be, and tells the person on call what to do."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import ROOT, Manifest, Render, Tool

TESTS = sorted((ROOT / "tests/deploy/alerts").glob("*.yaml"))
RUNBOOKS = ROOT / "docs/runbooks"


def alerts_of(rules: Manifest) -> list[Manifest]:
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


@pytest.fixture(scope="module")
def rules_file(rules: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(rules, sort_keys=False))
    return path


def test_promtool_accepts_the_rules(tool: Tool, rules_file: Path) -> None:
    done = tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", rules_file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.stem)
def test_an_alert_fires_and_is_silent_as_its_test_says(test: Path, tool: Tool, rules_file: Path) -> None:
    shutil.copy(test, rules_file.parent)
    done = tool("promtool", "test", "rules", test.name, cwd=rules_file.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_that_sees_it_fire_and_one_that_sees_it_silent(rules: Manifest) -> None:
    expected = {(alert["alert"], alert["labels"]["severity"]) for alert in alerts_of(rules)}
    fired, silent = set(), set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                assert check["alertname"] == path.stem
                fired |= {(path.stem, alert["exp_labels"]["severity"]) for alert in check["exp_alerts"]}
            if not any(check["exp_alerts"] for check in case["alert_rule_test"]):
                silent.add(path.stem)
    assert fired == expected
    assert silent == {alert for alert, _ in expected}


def test_every_alert_names_its_runbook_and_every_runbook_its_alert(rules: Manifest) -> None:
    alerts = alerts_of(rules)
    for alert in alerts:
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert (ROOT / alert["annotations"]["runbook_url"]).is_file(), alert["alert"]
        assert alert["labels"]["severity"] in {"page", "ticket"}
    written = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert written == {alert["alert"] for alert in alerts}


def test_every_objective_is_watched(rules: Manifest, values: Manifest) -> None:
    expressions = "\n".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    for slo in values["slo"]:
        series = "svyaz:slo_" + re.sub(r"([A-Z])", r"_\1", slo).lower()
        assert series in expressions, f"no alert compares with {series}"


def test_an_objective_of_the_values_reaches_its_alert(render: Render) -> None:
    (found,) = [m for m in render("--set", "slo.outboxAgeSeconds=7") if m["kind"] == "PrometheusRule"]
    objectives = {rule["record"]: rule["expr"] for rule in found["spec"]["groups"][0]["rules"] if "record" in rule}
    assert objectives["svyaz:slo_outbox_age_seconds"] == "vector(7)"


def test_the_runbooks_are_where_the_values_say(render: Render) -> None:
    (found,) = [
        m for m in render("--set", "monitoring.runbooks=https://wiki.test/run/") if m["kind"] == "PrometheusRule"
    ]
    for alert in alerts_of(found["spec"]):
        assert alert["annotations"]["runbook_url"] == f"https://wiki.test/run/{alert['alert']}.md"
