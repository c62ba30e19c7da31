"""deploy/k8s: the manifests fit their schemas, and describe the same system as docker-compose.yml."""

import re
from base64 import b64decode
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry

from deploy.k8s.check import ManifestError, built, fits, overlays, problems
from deploy.k8s.make_secrets import main as make_secrets
from services.gateway.settings import GatewaySettings
from services.inference.settings import InferenceSettings
from services.recorder.settings import RecorderSettings
from shared.settings import ServiceSettings
from shared.web.hosting import edge_app, http_app

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "inference": InferenceSettings,
    "recorder": RecorderSettings,
}
each = pytest.mark.parametrize("overlay", overlays(), ids=lambda overlay: overlay.name)
every_service = pytest.mark.parametrize("service", SERVICES)
Object = dict[str, Any]


@cache
def objects(overlay: Path) -> list[Object]:
    return built(overlay)


def of_kind(kind: str, overlay: Path | None = None) -> list[Object]:
    return [thing for thing in objects(overlay or overlays()[0]) if thing["kind"] == kind]


def pods(overlay: Path | None = None) -> dict[str, Object]:
    """The pod templates that we write, by name."""
    found = {}
    for thing in objects(overlay or overlays()[0]):
        job = thing["spec"].get("jobTemplate") if thing["kind"] == "CronJob" else thing
        if job and "template" in job.get("spec", {}):
            found[thing["metadata"]["name"]] = job["spec"]["template"]
    return found


def container(name: str, overlay: Path | None = None) -> Object:
    [only] = pods(overlay)[name]["spec"]["containers"]
    found: Object = only
    return found


def environment(name: str, overlay: Path | None = None) -> dict[str, str]:
    """Return a container's variables with their configured values; for a secret, its name and key."""
    [settings] = [thing["data"] for thing in of_kind("ConfigMap", overlay) if "ALLOWED_HOSTS" in thing["data"]]
    resolved = {}
    for variable in container(name, overlay)["env"]:
        source = variable.get("valueFrom", {})
        if "configMapKeyRef" in source:
            resolved[variable["name"]] = settings[source["configMapKeyRef"]["key"]]
        elif "secretKeyRef" in source:
            resolved[variable["name"]] = "{name}/{key}".format(**source["secretKeyRef"])
        else:
            resolved[variable["name"]] = variable["value"]
    return resolved


def compose() -> dict[str, dict[str, str]]:
    """The variables of each service in docker-compose.yml, with its defaults; of a secret, nothing."""
    listed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return {
        name: {key: re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", value) for key, value in service["environment"].items()}
        for name, service in listed.items()
        if isinstance(service.get("environment"), dict)
    }


@each
def test_every_object_fits_the_schema_of_its_kind(overlay: Path) -> None:
    assert list(problems(overlay)) == []


@pytest.mark.parametrize(
    ("kind", "name", "change", "found"),
    [
        ("StatefulSet", "gateway", {"spec": {"replicaz": 3}}, "replicaz"),
        ("StatefulSet", "gateway", {"spec": {"replicas": "three"}}, "three"),
        ("HorizontalPodAutoscaler", "inference", {"apiVersion": "autoscaling/v9"}, "autoscaling/v9"),
        ("RabbitmqCluster", "rabbitmq", {"spec": {"replicas": 2}}, "2 is not one of"),
        ("Cluster", "postgres", {"spec": {"instances": 0}}, "minimum"),
        ("ScaledObject", "recorder", {"spec": {"triggers": []}}, "triggers"),
        ("TriggerAuthentication", "recorder", {"spec": {"secretRef": {}}}, "secretRef"),
    ],
)
def test_a_wrong_field_is_rejected_by_name(kind: str, name: str, change: Object, found: str) -> None:
    [right] = [thing for thing in of_kind(kind) if thing["metadata"]["name"] == name]
    fits(right)
    wrong = deepcopy(right)
    for field, value in change.items():
        wrong[field] = {**wrong[field], **value} if isinstance(value, dict) else value
    with pytest.raises(ManifestError, match=f"{kind} {name}.*{found}"):
        fits(wrong)


def test_an_overlay_that_kustomize_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere.yaml]\n")
    [problem] = problems(tmp_path)
    assert "nowhere.yaml" in problem


@every_service
def test_variables_are_settings_and_those_of_compose(service: str) -> None:
    fields = {(info.alias or name).upper() for name, info in SERVICES[service].model_fields.items()}
    variables = set(environment(service))
    assert variables <= fields
    # In compose a script chooses PREDECIR_VAR, one of the folders of a volume that all gateways share.
    assert variables ^ set(compose()[service]) == ({"PREDECIR_VAR"} if service == "gateway" else set())


@each
@every_service
def test_every_service_names_its_file_of_keys_so_that_none_starts_without(overlay: Path, service: str) -> None:
    for variables in (environment(service, overlay), compose()[service]):
        assert variables["PREDECIR_KEYS"] == "/var/predecir/var/access/access.json"


@pytest.mark.parametrize("name", [*SERVICES, "training", "mlflow"])
def test_values_are_those_of_compose(name: str) -> None:
    ours, theirs = environment(name), compose()[name]
    assert set(theirs) <= set(ours)
    moved = {"REFERENCE_KEY_FILE", "ENROLMENT_SECRET_FILE", "ALLOWED_HOSTS"}
    plain = {key for key in theirs if not ours[key].startswith("predecir-") and key not in moved}
    assert {key: ours[key] for key in plain} == {key: theirs[key] for key in plain}
    assert set(theirs.get("ALLOWED_HOSTS", "").split(",")) <= {*ours.get("ALLOWED_HOSTS", "").split(","), ""}


def test_secrets_lead_to_where_compose_leads(tmp_path: Path) -> None:
    assert make_secrets(tmp_path) == 0
    made = {thing["metadata"]["name"]: thing for thing in yaml.safe_load_all((tmp_path / "secrets.yaml").read_text())}
    for thing in made.values():
        fits(thing)
    secret = {
        name: {key: b64decode(value).decode() for key, value in thing["data"].items()} for name, thing in made.items()
    }
    hidden = re.compile(r":[0-9a-f]{48}@")
    for service, key in (("gateway", "BROKER_URL"), ("recorder", "BROKER_URL"), ("recorder", "DATABASE_URL")):
        found = hidden.sub(":@", secret[f"predecir-{service}"][key])
        assert found.replace("postgres-rw", "postgres") == compose()[service][key].replace(
            "run make up, which makes it", ""
        )
    first = (tmp_path / "secrets.yaml").read_bytes()
    assert make_secrets(tmp_path) == 0
    assert (tmp_path / "secrets.yaml").read_bytes() == first


def test_secrets_are_for_their_owner_and_files_made_later_are_not(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.touch()
    make_secrets(tmp_path / "k8s")
    after.touch()
    assert (tmp_path / "k8s/secrets.yaml").stat().st_mode & 0o077 == 0
    assert after.stat().st_mode == before.stat().st_mode


def secrets_named(thing: object) -> set[str]:
    """The secrets that an object, or a part of one, refers to."""
    if isinstance(thing, list):
        return {name for part in thing for name in secrets_named(part)}
    if not isinstance(thing, dict):
        return set()
    found = {name for part in thing.values() for name in secrets_named(part)}
    for key in ("secretKeyRef", "secret", "passwordSecret"):
        found |= {thing[key]["name"]} if "name" in thing.get(key, {}) else set()
    found |= {reference["name"] for reference in thing.get("secretTargetRef", [])}
    return found | ({thing["secretName"]} if "secretName" in thing else set())


@each
def test_every_secret_that_is_named_is_made_and_no_other(overlay: Path, tmp_path: Path) -> None:
    make_secrets(tmp_path)
    made = {thing["metadata"]["name"] for thing in yaml.safe_load_all((tmp_path / "secrets.yaml").read_text())}
    assert secrets_named(objects(overlay)) == made | {"predecir-tls"}


@every_service
def test_ports_are_the_images_and_the_balancers(service: str) -> None:
    stage = (ROOT / "Dockerfile").read_text().partition(f" AS {service}\n")[2].partition("\nFROM ")[0]
    port = int(re.findall(r"ENV PORT=(\d+)", stage)[0])
    assert container(service)["ports"] == [{"name": "http", "containerPort": port}]
    [serving] = [thing for thing in of_kind("Service") if thing["metadata"]["name"] == service]
    assert serving["spec"]["clusterIP"] == "None"
    [balancer] = [thing["data"]["haproxy.cfg"] for thing in of_kind("ConfigMap") if "haproxy.cfg" in thing["data"]]
    assert f'{service}"${{PREDECIR_DOMAIN}}":{port}' in balancer


@each
@every_service
async def test_probes_ask_what_the_service_answers(service: str, overlay: Path) -> None:
    registry = CollectorRegistry()
    app = edge_app(http_app(service, registry=registry), environment(service, overlay)["ALLOWED_HOSTS"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://10.0.0.7:8000") as client:
        for kind, path in (("startup", "live"), ("liveness", "live"), ("readiness", "ready")):
            asked = container(service, overlay)[f"{kind}Probe"]["httpGet"]
            assert asked["path"] == f"/health/{path}"
            headers = {header["name"]: header["value"] for header in asked["httpHeaders"]}
            assert (await client.get(asked["path"], headers=headers)).status_code == 200
            assert (await client.get(asked["path"])).status_code == 403  # the kubelet's own error


@each
def test_pods_may_do_nothing_they_need_not(overlay: Path) -> None:
    accounts = {thing["metadata"]["name"]: thing for thing in of_kind("ServiceAccount", overlay)}
    for name, template in pods(overlay).items():
        spec, only = template["spec"], container(name, overlay)
        assert not accounts[spec["serviceAccountName"]]["automountServiceAccountToken"]
        assert not spec["automountServiceAccountToken"]
        assert not spec["enableServiceLinks"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "/tmp" in {mount["mountPath"] for mount in only["volumeMounts"]}  # noqa: S108 - the only place to write
        assert {"cpu", "memory"} <= set(only["resources"]["requests"])
        assert "memory" in only["resources"]["limits"]


@each
def test_the_namespace_admits_restricted_pods_only_and_brokers_are_such(overlay: Path) -> None:
    [namespace] = of_kind("Namespace", overlay)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    [broker] = of_kind("RabbitmqCluster", overlay)
    spec = broker["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for only in (*spec["containers"], *spec["initContainers"]):
        assert only["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@each
def test_pods_have_a_limit_in_number_and_memory(overlay: Path) -> None:
    [limits], [quota] = of_kind("LimitRange", overlay), of_kind("ResourceQuota", overlay)
    assert "memory" in limits["spec"]["limits"][0]["default"]
    counted = ("replicas", "maxReplicas", "maxReplicaCount", "instances")
    largest = [thing["spec"][name] for thing in objects(overlay) for name in counted if name in thing.get("spec", {})]
    assert int(quota["spec"]["hard"]["pods"]) > 2 * sum(largest) - len(largest)


@each
def test_every_pod_has_a_policy_and_nothing_is_open_without_one(overlay: Path) -> None:
    policies = {thing["metadata"]["name"]: thing["spec"] for thing in of_kind("NetworkPolicy", overlay)}
    assert policies["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    chosen = {spec["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name") for spec in policies.values()}
    assert set(pods(overlay)) <= chosen


@each
def test_selectors_choose_a_pod_and_ports_have_its_names(overlay: Path) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods(overlay).items()}
    for serving in of_kind("Service", overlay):
        name = serving["spec"]["selector"]["app.kubernetes.io/name"]
        assert labels[name]["app.kubernetes.io/name"] == name
        ports = {port["name"] for port in container(name, overlay)["ports"]}
        assert {port["targetPort"] for port in serving["spec"]["ports"]} <= ports
    for budget in of_kind("PodDisruptionBudget", overlay):
        name = budget["metadata"]["name"]
        assert budget["spec"]["selector"] == {"matchLabels": {"app.kubernetes.io/name": name}}
        assert name in {*labels, "rabbitmq"}


@each
def test_the_names_doctors_use_are_admitted(overlay: Path) -> None:
    [ingress] = of_kind("Ingress", overlay)
    hosts = {rule["host"] for rule in ingress["spec"]["rules"]}
    assert hosts == {host for tls in ingress["spec"]["tls"] for host in tls["hosts"]}
    assert hosts <= set(environment("gateway", overlay)["ALLOWED_HOSTS"].split(","))
