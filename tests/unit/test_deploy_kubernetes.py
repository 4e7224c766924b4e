"""The Kubernetes manifests: valid by the schemas, whole as a kustomization, and true to the code.

The schemas come with `kubernetes-validate`; nothing is asked of a cluster or a network. `Kustomization` is no kind that
a cluster knows, so its files are checked here, key by key.
"""

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from services.portal.commands.broker import Settings as BrokerSettings
from services.portal.commands.schema import Settings as MigrationSettings
from shared.runtime.settings import load
from shared.web.health import CHECK_TIMEOUT_S
from tests.unit.test_deploy import (
    DEPLOY,
    MASTER_KEYS,
    PORTLESS,
    ROOT,
    health_paths,
    is_admin_command,
    migration_variables,
    role,
    service_variables,
    services,
    settings_from,
    settings_type,
    stopping_s,
    topology_variables,
    variables,
)
from tests.unit.test_deploy_image import stages

BASE = DEPLOY / "kubernetes" / "base"
EXAMPLE = DEPLOY / "kubernetes" / "overlays" / "example"
OLDEST = "1.30"  # the first with a preStop of kind sleep switched on
NEWEST = kubernetes_validate.latest_version()
# What the Secrets would hold, by key.
HELD = {
    "SEATKEEPER_POSTGRES_DSN": "postgres://service:word@db/seatkeeper",
    "SEATKEEPER_REDIS_URL": "redis://:word@cache:6379/0",
    "SEATKEEPER_RABBITMQ_URL": "amqp://user:word@broker:5672/seatkeeper",
    "SEATKEEPER_SECRETS_KEYS": MASTER_KEYS,
    "SEATKEEPER_SECRETS_CURRENT": "k1",
    "SEATKEEPER_OWNER_DSN": "postgres://owner:word@db/seatkeeper",
}

Manifest = dict[str, Any]


@cache
def documents(folder: Path) -> list[Manifest]:
    files = sorted(file for file in folder.glob("*.yaml") if file.name != "kustomization.yaml")
    return [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


@cache
def kustomization(folder: Path) -> Manifest:
    content: Manifest = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return content


def named(kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in documents(BASE) if one["kind"] == kind}


def workloads() -> dict[str, Manifest]:
    return named("Deployment") | named("Job")


def pod(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def deployed(service: str) -> tuple[Manifest, Manifest]:
    """The service's pod and its only container."""
    spec = pod(named("Deployment")[f"seatkeeper-{service}"])
    (only,) = spec["containers"]
    return spec, only


def config(*folders: Path) -> dict[str, str]:
    """The variables of the generated ConfigMap, those of later folders over those of earlier ones."""
    values: dict[str, str] = {}
    for folder in folders:
        (generated,) = kustomization(folder)["configMapGenerator"]
        assert set(generated) <= {"name", "behavior", "literals"}
        assert generated["name"] == "seatkeeper-settings"
        values |= dict(literal.split("=", 1) for literal in generated["literals"])
    return values


def environment(container: Manifest, *folders: Path) -> dict[str, str]:
    """What a container's process would see."""
    sources = [one["configMapRef"]["name"] for one in container.get("envFrom", [])]
    assert sources in ([], ["seatkeeper-settings"])
    values = config(*folders) if sources else {}
    return values | {one["name"]: HELD[one["valueFrom"]["secretKeyRef"]["key"]] for one in container["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    "document",
    [*documents(BASE), *documents(EXAMPLE)],
    ids=lambda one: f"{one['kind']}-{one['metadata']['name']}",
)
def test_every_manifest_is_valid_by_the_strict_schema(document: Manifest, version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelled_field_would_be_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Service", "spec": {"prots": []}}, NEWEST, strict=True
        )


def test_the_kustomizations_hold_what_kustomize_knows_and_name_every_file() -> None:
    known = {"apiVersion", "kind", "resources", "configMapGenerator", "namespace", "images", "replicas"}
    for folder in (BASE, EXAMPLE):
        content = kustomization(folder)
        assert set(content) <= known
        assert content["apiVersion"] == "kustomize.config.k8s.io/v1beta1"
        assert content["kind"] == "Kustomization"
        files = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert files == set(content["resources"]) - {"../../base"}
    assert "namespace" not in kustomization(BASE)
    assert "../../base" in kustomization(EXAMPLE)["resources"]


def test_the_example_names_every_image_and_workloads_that_exist() -> None:
    used = {container["image"] for one in workloads().values() for container in pod(one)["containers"]}
    listed = kustomization(EXAMPLE)["images"]
    assert used == {one["name"] for one in listed}
    assert all(one.keys() == {"name", "newTag"} for one in listed)
    assert {one["name"] for one in kustomization(EXAMPLE)["replicas"]} <= set(named("Deployment"))
    (space,) = (one for one in documents(EXAMPLE) if one["kind"] == "Namespace")
    assert kustomization(EXAMPLE)["namespace"] == space["metadata"]["name"]


def test_each_service_has_a_deployment_and_those_that_are_called_a_service() -> None:
    names = {f"seatkeeper-{service}" for service in services()}
    assert names == set(named("Deployment")) == set(named("PodDisruptionBudget"))
    assert names - {f"seatkeeper-{service}" for service in PORTLESS} == set(named("Service"))
    for service in services():
        assert deployed(service)[1]["image"] == f"seatkeeper-{service}"


@pytest.mark.parametrize("service", services())
def test_every_selector_finds_the_services_pods(service: str) -> None:
    name = f"seatkeeper-{service}"
    deployment = named("Deployment")[name]
    labels = {"app.kubernetes.io/name": "seatkeeper", "app.kubernetes.io/component": service}
    assert labels == deployment["spec"]["template"]["metadata"]["labels"]
    assert labels == deployment["spec"]["selector"]["matchLabels"]
    assert labels == named("PodDisruptionBudget")[name]["spec"]["selector"]["matchLabels"]
    assert all(labels == one["labelSelector"]["matchLabels"] for one in pod(deployment)["topologySpreadConstraints"])
    if service not in PORTLESS:
        assert labels == named("Service")[name]["spec"]["selector"]


@pytest.mark.parametrize("folders", [(BASE,), (BASE, EXAMPLE)], ids=["base", "example"])
@pytest.mark.parametrize("service", services())
def test_the_settings_are_whole_and_the_ports_are_those_listened_on(service: str, folders: tuple[Path, ...]) -> None:
    settings = settings_from(service, environment(deployed(service)[1], *folders))
    server = settings.server
    ports = {one["name"]: one["containerPort"] for one in deployed(service)[1]["ports"]}
    public = {} if service in PORTLESS else {"http": server.port}
    assert public | {"health": server.health_port} == ports
    assert (server.host, server.health_host) == ("0.0.0.0", "0.0.0.0")
    assert settings.rabbitmq is not None


def test_every_variable_is_a_setting() -> None:
    assert set(config(BASE, EXAMPLE)) <= service_variables()
    for service in services():
        own = {one["name"] for one in deployed(service)[1]["env"]}
        assert set() == own - variables(settings_type(service)), service


def test_secrets_are_referred_to_and_never_held() -> None:
    assert not named("Secret")
    assert not named("ConfigMap")
    confidential = {
        "SEATKEEPER_POSTGRES_DSN",
        "SEATKEEPER_REDIS_URL",
        "SEATKEEPER_RABBITMQ_URL",
        "SEATKEEPER_OWNER_DSN",
        "SEATKEEPER_SECRETS_KEYS",
    }
    assert set() == confidential & set(config(BASE, EXAMPLE))
    for one in all_variables():
        assert one.keys() == {"name", "valueFrom"}
        assert one["name"] == one["valueFrom"]["secretKeyRef"]["key"]


@pytest.mark.parametrize("service", services())
def test_each_service_connects_with_a_role_of_its_own(service: str) -> None:
    secrets = {one["name"]: one["valueFrom"]["secretKeyRef"]["name"] for one in deployed(service)[1]["env"]}
    assert secrets["SEATKEEPER_POSTGRES_DSN"] == f"seatkeeper-{service}"
    assert "seatkeeper-owner" not in secrets.values()


def test_the_migration_runs_a_command_that_exists_with_the_owners_dsn_alone() -> None:
    (container,) = pod(named("Job")["seatkeeper-migrate"])["containers"]
    assert container["image"] == "seatkeeper-portal"
    assert is_admin_command(container["command"] + container["args"])
    assert {one["name"] for one in container["env"]} <= migration_variables()
    assert load(MigrationSettings, file=None, environ=environment(container))


def test_the_topology_is_declared_by_a_command_that_exists_with_the_brokers_url_alone() -> None:
    (container,) = pod(named("Job")["seatkeeper-facts"])["containers"]
    assert container["image"] == "seatkeeper-portal"
    assert is_admin_command(container["command"] + container["args"])
    assert {one["name"] for one in container["env"]} <= topology_variables()
    assert load(BrokerSettings, file=None, environ=environment(container))


def test_all_share_one_broker() -> None:
    referred = {
        name: one["valueFrom"]["secretKeyRef"]["name"]
        for name, workload in workloads().items()
        for one in pod(workload)["containers"][0]["env"]
        if one["name"] == "SEATKEEPER_RABBITMQ_URL"
    }
    names = {f"seatkeeper-{service}" for service in services()}
    assert dict.fromkeys(names | {"seatkeeper-facts"}, "seatkeeper-rabbitmq") == referred


def test_the_guide_runs_every_job_before_the_services() -> None:
    guide = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    (block,) = (one for one in re.findall(r"^```\n(.*?)^```", guide, re.MULTILINE | re.DOTALL) if "delete job" in one)
    delete, first, wait, everything, *_ = block.splitlines()
    jobs = named("Job")
    assert set(jobs) == set(re.findall(r"seatkeeper-\w+", delete)) == set(re.findall(r"job/(\S+)", wait))
    (chosen,) = re.findall(r"-l 'app\.kubernetes\.io/component in \((.*)\)'", first)
    components = {one["metadata"]["labels"]["app.kubernetes.io/component"] for one in jobs.values()}
    assert components == set(chosen.split(", "))
    assert "apply -k" in first
    assert everything == first.partition(" -l ")[0]


@pytest.mark.parametrize("service", services())
def test_the_probes_ask_paths_that_the_health_port_answers(service: str) -> None:
    container = deployed(service)[1]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    asked = {name: (probe["httpGet"]["port"], probe["httpGet"]["path"]) for name, probe in probes.items()}
    assert asked == {
        "startup": ("health", "/healthz"),
        "liveness": ("health", "/healthz"),
        "readiness": ("health", "/readyz"),
    }
    assert {path for _, path in asked.values()} <= health_paths()
    assert probes["readiness"]["timeoutSeconds"] > CHECK_TIMEOUT_S


@pytest.mark.parametrize("folders", [(BASE,), (BASE, EXAMPLE)], ids=["base", "example"])
@pytest.mark.parametrize("service", services())
def test_there_is_time_to_drain(service: str, folders: tuple[Path, ...]) -> None:
    spec, container = deployed(service)
    sleep_s = 0 if service in PORTLESS else container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep_s > 0 or service in PORTLESS
    needed_s = sleep_s + stopping_s(settings_from(service, environment(container, *folders)))
    assert spec["terminationGracePeriodSeconds"] >= needed_s


def test_what_runs_our_code_has_no_rights_and_writes_nothing() -> None:
    user, group = map(int, stages()["runtime"]["USER"].split(":"))
    for name, workload in workloads().items():
        spec = pod(workload)
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": group,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} == container["resources"].keys()


def test_a_rollout_never_takes_a_pod_away_before_its_successor_is_ready() -> None:
    for deployment in named("Deployment").values():
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert deployment["spec"]["replicas"] > 1


def test_the_deployments_differ_only_where_their_services_do() -> None:
    own = {"name", "image", "ports", "env", "lifecycle", "resources"}

    def alike(service: str) -> tuple[Manifest, Manifest]:
        spec, container = deployed(service)
        common = {key: value for key, value in spec.items() if key not in {"containers", "topologySpreadConstraints"}}
        return common, {key: value for key, value in container.items() if key not in own}

    first, *others = services()
    for service in others:
        assert alike(first) == alike(service), service


def test_the_ingress_leads_every_route_to_the_service_that_has_it() -> None:
    routed = 0
    for service in sorted(set(services()) - PORTLESS):
        for operation, _ in import_module(f"services.{service}.app").routes(Mock()):
            path = operation.path
            assert backend(path) == {"name": f"seatkeeper-{service}", "port": {"name": "http"}}, path
            routed += 1
    assert routed >= 10


def test_the_guide_lists_every_secret_with_what_it_holds() -> None:
    guide = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(seatkeeper-\w+)` \|(.*)", guide, re.MULTILINE)
    listed = {(name, key) for name, row in rows for key in re.findall(r"SEATKEEPER_\w+", row)}
    used = [one["valueFrom"]["secretKeyRef"] for one in all_variables()]
    assert {(one["name"], one["key"]) for one in used} == listed
    roles = {found for _, row in rows for found in re.findall(r"seatkeeper_\w+", row)}
    assert {role(service) for service in services()} == roles


def test_the_guide_counts_the_connections_of_the_example() -> None:
    counts = {one["name"]: one["count"] for one in kustomization(EXAMPLE)["replicas"]}
    connections = 0
    for service in services():
        deployment = named("Deployment")[f"seatkeeper-{service}"]["spec"]
        pods = counts.get(f"seatkeeper-{service}", deployment["replicas"])
        pods += deployment["strategy"]["rollingUpdate"]["maxSurge"]
        settings = settings_from(service, environment(deployed(service)[1], BASE, EXAMPLE))
        connections += pods * settings.postgres.pool_size
    assert f"{connections} in the example" in (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")


def all_variables() -> list[Manifest]:
    """The variables that are written out in any container."""
    return [one for workload in workloads().values() for one in pod(workload)["containers"][0]["env"]]


def backend(path: str) -> Manifest | None:
    """The Service that an ingress sends a path to: the longest prefix, whole segments only."""
    (ingress,) = (one for one in documents(EXAMPLE) if one["kind"] == "Ingress")
    (rule,) = ingress["spec"]["rules"]
    best: Manifest = max(
        (one for one in rule["http"]["paths"] if _matches(one, path)), key=lambda one: len(one["path"]), default={}
    )
    found: Manifest | None = best["backend"]["service"] if best else None
    return found


def _matches(rule: Manifest, path: str) -> bool:
    assert rule["pathType"] == "Prefix"
    return path == rule["path"] or path.startswith(f"{rule['path']}/")
