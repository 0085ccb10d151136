"""The chart: valid for Kubernetes, strict about its values, complete for every service, and closed by default."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from svyaz_cli.services import SERVICES
from tests.deploy.conftest import CHART, ROOT, Manifest, Render, Tool

KUBERNETES = "1.37"
# Definitions of the Prometheus operator: not in Kubernetes' schemas.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
OF_EVERY_SERVICE = {
    "ServiceAccount",
    "ConfigMap",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "NetworkPolicy",
    "ServiceMonitor",
}
# Calls go one way (ARCHITECTURE.md); everything else goes by events. The hub is the gateway's, and reads logs.
CALLS = {
    "gateway": {"catalog", "customers", "orders", "hub"},
    "hub": {"catalog", "customers", "orders"},
    "orders": {"catalog", "customers"},
    "catalog": set[str](),
    "customers": set[str](),
}
EVERYTHING = ["--set", "ingress.enabled=true,ingress.className=nginx,otlp.endpoint=http://collector:4317"]
EVERYTHING += ["--set", "image.pullSecrets={pull},services.orders.env.GREETING=hello"]


def component(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def of(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind by service; migrations and rules go by their own names."""
    return {component(manifest): manifest for manifest in manifests if manifest["kind"] == kind}


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


@pytest.mark.parametrize("arguments", [[], EVERYTHING], ids=["as shipped", "everything on"])
def test_helm_finds_nothing_to_complain_about(arguments: list[str], tool: Tool) -> None:
    done = tool("helm", "lint", "--strict", "--kube-version", f"{KUBERNETES}.0", CHART, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [[], EVERYTHING], ids=["as shipped", "everything on"])
def test_kubernetes_would_accept_every_object(arguments: list[str], render: Render) -> None:
    rendered = render(*arguments)
    assert len(rendered) > len(OF_EVERY_SERVICE)
    for manifest in rendered:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_names_are_unique(render: Render) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in render(*EVERYTHING)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "typo",
    [
        "imgae.tag=1",
        "services.catlog.image=catalog",
        "services.orders.replicas=3",
        "services.orders.secrets.databse=x",
        "services.orders.calls={catalogue}",
        "services.orders.env.DATABASE_URL=postgresql://orders:hunter2@db/orders",
        "services.orders.env.lower=x",
        "services.orders.resources.requests.cpu=fast",
        "services.orders.autoscaling.min=1",
        "defaults.drain.second=3",
        "slo.gatewayAvailability=100",
        "slo.gatewayAvalability=99",
        "oidc.algorithm=none",
        "oidc.issuer=issuer",
        "network.postgresql.prot=5432",
        "network.prometheus[0].namespaceSelectors.matchLabels.a=b",
        "monitoring.interval=soon",
        "unknown=1",
    ],
)
def test_a_value_that_nobody_knows_is_refused(typo: str, tool: Tool) -> None:
    done = tool("helm", "template", "svyaz", CHART, "--set", typo)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr, done.stderr


def test_the_schema_allows_no_unknown_attribute_anywhere() -> None:
    def objects(node: Any, path: str) -> Iterator[tuple[str, Manifest]]:
        if isinstance(node, dict):
            if node.get("type") == "object":
                yield path, node
            for key, child in node.items():
                yield from objects(child, f"{path}/{key}")

    free = {"#/$defs/strings", "#/$defs/env"}
    for path, node in objects(json.loads((CHART / "values.schema.json").read_text()), "#"):
        assert node.get("additionalProperties") == ({"type": "string"} if path in free else False), path


def test_every_service_has_all_its_objects(manifests: list[Manifest], values: Manifest) -> None:
    assert set(values["services"]) == set(CALLS)
    for kind in OF_EVERY_SERVICE:
        assert set(CALLS) <= set(of(manifests, kind)), kind


def test_every_service_with_a_database_migrates_it_before_the_release(
    manifests: list[Manifest], values: Manifest
) -> None:
    expected = {
        f"svyaz-{name}-migration": [service["module"], "migrate"]
        for name, service in values["services"].items()
        if "database" in service["secrets"]
    }
    jobs = {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == "Job"}
    assert {name: job["spec"]["template"]["spec"]["containers"][0]["args"] for name, job in jobs.items()} == expected
    for job in jobs.values():
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    # What a hook needs must itself be a hook that runs earlier: nothing else of the release exists yet.
    for manifest in manifests:
        if component(manifest) == "migration" and manifest["kind"] != "Job":
            assert int(manifest["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0


def test_a_migration_has_the_owners_url_and_a_service_only_its_own(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests):
        variables = {variable["name"] for container in pod["containers"] for variable in container["env"]}
        assert ("MIGRATION_DATABASE_URL" in variables) == name.endswith("-migration")


def test_only_the_gateway_has_a_cluster_address(manifests: list[Manifest]) -> None:
    headless = {
        name for name, service in of(manifests, "Service").items() if service["spec"].get("clusterIP") == "None"
    }
    assert headless == set(CALLS) - {"gateway"}


def test_no_pod_may_do_more_than_it_must(render: Render) -> None:
    for name, pod in pods(render(*EVERYTHING)):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert not container["image"].endswith(":latest")


def test_a_pod_has_time_to_be_forgotten_and_to_drain(manifests: list[Manifest], values: Manifest) -> None:
    drain = values["defaults"]["drain"]
    for name, deployment in of(manifests, "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["containers"][0]["lifecycle"]["preStop"] == {"sleep": {"seconds": drain["preStopSeconds"]}}, name
        assert pod["terminationGracePeriodSeconds"] > drain["preStopSeconds"] + drain["seconds"]
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_a_client_secret_is_for_those_who_call_others_by_themselves(manifests: list[Manifest]) -> None:
    with_client = {
        name
        for name, deployment in of(manifests, "Deployment").items()
        for variable in deployment["spec"]["template"]["spec"]["containers"][0].get("env", ())
        if variable["name"] == "SERVICE_CLIENT_SECRET"
    }
    assert with_client == {"orders", "hub"}
    configs = of(manifests, "ConfigMap")
    assert {name for name in CALLS if "SERVICE_TOKEN_URL" in configs[name]["data"]} == with_client


def test_probes_go_where_no_call_can_be_in_their_way(manifests: list[Manifest]) -> None:
    for name, deployment in of(manifests, "Deployment").items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert asked == {
            "startup": {"path": "/readyz", "port": "metrics"},
            "readiness": {"path": "/readyz", "port": "metrics"},
            # Which never asks the database.
            "liveness": {"path": "/livez", "port": "metrics"},
        }, name


def allowed(rules: list[Manifest], side: str) -> set[tuple[str, int]]:
    """(service, port) of the rules that name a service of the release."""
    return {
        (peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"], port["port"])
        for rule in rules
        for peer in rule[side]
        if "app.kubernetes.io/component" in peer.get("podSelector", {}).get("matchLabels", {})
        for port in rule["ports"]
    }


def test_calls_go_one_way_in_the_policies_and_in_the_addresses(manifests: list[Manifest]) -> None:
    policies, configs = of(manifests, "NetworkPolicy"), of(manifests, "ConfigMap")
    for name, called in CALLS.items():
        spec = policies[name]["spec"]
        assert allowed(spec["egress"], "to") == {(other, 8080) for other in called}
        callers = {other for other, calls in CALLS.items() if name in calls}
        assert allowed(spec["ingress"], "from") == {(other, 8080) for other in callers}
        addresses = {key: value for key, value in configs[name]["data"].items() if key.endswith("_ADDRESS")}
        assert addresses == {
            f"{other.upper()}_ADDRESS": f"svyaz-{other}.svyaz.svc.cluster.local:8080" for other in called
        }


def test_the_chart_runs_what_svyaz_run_runs(values: Manifest) -> None:
    for service in SERVICES:
        there = values["services"][service.name]
        assert there["module"] == service.module
        assert set(there["calls"]) == set(service.calls) == CALLS[service.name]
        assert ("database" in there["secrets"]) == (service.database is not None)
        assert (there["protocol"] == "http") == service.speaks_http
    assert len(SERVICES) == len(values["services"])


def test_what_no_policy_allows_is_denied(manifests: list[Manifest]) -> None:
    deny = of(manifests, "NetworkPolicy")["default-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "Job"}:
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert deny["podSelector"]["matchLabels"].items() <= labels.items()


def outside(policy: Manifest) -> set[int]:
    """Ports that a pod may reach beyond the release, DNS aside."""
    return {
        port["port"]
        for rule in policy["spec"]["egress"]
        if not allowed([rule], "to")
        for port in rule["ports"]
        if port["port"] != 53
    }


def test_a_service_reaches_outside_only_what_it_has_a_secret_for(render: Render, manifests: list[Manifest]) -> None:
    policies = of(manifests, "NetworkPolicy")
    assert outside(policies["gateway"]) == {443}
    assert outside(policies["migration"]) == {5432}
    for name in set(CALLS) - {"gateway"}:
        assert outside(policies[name]) == {5432, 4222, 443}, name
    traced = of(render("--set", "otlp.endpoint=http://collector:4317"), "NetworkPolicy")
    assert outside(traced["gateway"]) == {443, 4317}


def test_callbacks_leave_from_the_hub_alone_and_never_to_a_private_address(render: Render) -> None:
    for name, policy in of(render("--set", "network.callbacks.port=8443"), "NetworkPolicy").items():
        rules = [r for r in policy["spec"].get("egress", []) if {"protocol": "TCP", "port": 8443} in r["ports"]]
        assert bool(rules) == (name == "hub")
        for rule in rules:
            for peer in rule["to"]:
                assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"} <= set(
                    peer["ipBlock"]["except"]
                )


def test_secrets_are_named_never_given(render: Render) -> None:
    rendered = render(*EVERYTHING)
    assert not [manifest for manifest in rendered if manifest["kind"] == "Secret"]
    secret = re.compile(r"URL$|SECRET|PASSWORD|TOKEN|CREDENTIAL|KEY")
    public = {"OIDC_JWKS_URL", "SERVICE_TOKEN_URL"}
    for name, pod in pods(rendered):
        for variable in pod["containers"][0]["env"]:
            if secret.search(variable["name"]):
                assert set(variable) == {"name", "valueFrom"}, name
                assert set(variable["valueFrom"]) == {"secretKeyRef"}
    for name, config in of(rendered, "ConfigMap").items():
        if name in CALLS:
            assert not {key for key in config["data"] if secret.search(key)} - public
    # user:password@ in any address
    assert not re.search(r"://[^/\s\"']*:[^/\s\"']*@", yaml.safe_dump_all(rendered))


def test_what_the_services_read_from_their_environment_is_what_the_chart_gives(manifests: list[Manifest]) -> None:
    modules = ("customers/customers/service.py", "orders/orders/main.py", "orders/orders/fulfilment/adapters.py")
    places = [ROOT / "chassis/chassis/config.py", *(ROOT / "services" / module for module in modules)]
    read = {name for place in places for name in re.findall(r'"([A-Z][A-Z0-9_]+)"', place.read_text())}
    read |= {"SVYAZ_SERVICE"} | {f"{name.upper()}_ADDRESS" for name in CALLS}
    for name, config in of(manifests, "ConfigMap").items():
        if name in CALLS:
            assert set(config["data"]) <= read, name


def test_a_change_of_the_configuration_rolls_the_pods(render: Render, manifests: list[Manifest]) -> None:
    def checksum(rendered: list[Manifest], name: str) -> str:
        metadata = of(rendered, "Deployment")[name]["spec"]["template"]["metadata"]
        return str(metadata["annotations"]["checksum/config"])

    changed = render("--set", "services.orders.logLevel=DEBUG")
    assert checksum(changed, "orders") != checksum(manifests, "orders")
    assert checksum(changed, "catalog") == checksum(manifests, "catalog")


def test_prometheus_keeps_our_service_label(manifests: list[Manifest]) -> None:
    for monitor in of(manifests, "ServiceMonitor").values():
        assert [endpoint["honorLabels"] for endpoint in monitor["spec"]["endpoints"]] == [True]


BUCKET = """
network: {bucket: {port: 9000, to: [{podSelector: {matchLabels: {app: garage}}}]}}
services:
  customers:
    %s
    bucket: {url: s3://documents/svyaz, variable: DOCUMENT_STORE, env: {AWS_REGION: here}}
    secrets: {bucket: svyaz-documents}
"""


def test_documents_lie_in_a_bucket_instead_of_on_a_volume(tool: Tool, render: Render, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(BUCKET % "volume: null")
    rendered = render("--values", str(values))
    for manifest in rendered:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    pod = of(rendered, "Deployment")["customers"]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["tmp"]
    keys = {one["name"]: one["valueFrom"]["secretKeyRef"]["name"] for one in pod["containers"][0]["env"]}
    assert keys["AWS_ACCESS_KEY_ID"] == keys["AWS_SECRET_ACCESS_KEY"] == "svyaz-documents"
    config = of(rendered, "ConfigMap")["customers"]["data"]
    assert (config["DOCUMENT_STORE"], config["AWS_REGION"]) == ("s3://documents/svyaz", "here")
    ways_out = of(rendered, "NetworkPolicy")["customers"]["spec"]["egress"]
    assert [way["to"] for way in ways_out if way["ports"] == [{"protocol": "TCP", "port": 9000}]] == [
        [{"podSelector": {"matchLabels": {"app": "garage"}}}]
    ]
    values.write_text(BUCKET % "maxConcurrentCalls: 64")
    done = tool("helm", "template", "svyaz", CHART, "--values", values)
    assert "customers has a volume and a bucket" in done.stderr


def test_a_service_may_be_left_out_unless_somebody_calls_it(tool: Tool, render: Render, tmp_path: Path) -> None:
    without = tmp_path / "values.yaml"
    without.write_text("services: {hub: null, gateway: {calls: [catalog, customers, orders]}}")
    assert "hub" not in of(render("--values", str(without)), "Deployment")
    without.write_text("services: {hub: null}")
    done = tool("helm", "template", "svyaz", CHART, "--values", without)
    assert "gateway calls hub, which is not among the services" in done.stderr


def test_without_the_prometheus_operator_nothing_of_its_own_is_made(render: Render) -> None:
    assert not {manifest["kind"] for manifest in render("--set", "monitoring.enabled=false")} & CUSTOM
