"""docker-compose.yml: what a container may use and reach, compared with deploy/k8s; deploy/pin-images."""

import re
import stat
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.k8s.check import built
from services.recorder.ingest.consumer import OTHER_PREFETCH
from services.recorder.settings import RecorderSettings
from shared.contracts.event_batches import LARGEST_BODY
from tests.support.rabbitmq import largest_message

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
each = pytest.mark.parametrize("service", SERVICES)


@each
def test_a_container_has_bounds_and_no_right_it_does_not_need(service: str) -> None:
    settings = SERVICES[service]
    assert settings["read_only"] == (service != "rabbitmq")
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", settings["mem_limit"])
    assert settings["pids_limit"] <= 2048
    assert settings["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert ("cap_add" in settings) == (service in {"rabbitmq", "s3"})


def test_a_recorder_holds_the_largest_messages_of_the_broker_in_its_memory() -> None:
    """Three quarters of it are for the process, its transaction, and messages that are not freed yet."""
    limit = largest_message()
    [broker] = [thing for thing in built(ROOT / "deploy/k8s/overlays/clinic") if thing["kind"] == "RabbitmqCluster"]
    assert f"max_message_size = {limit}\n" in broker["spec"]["rabbitmq"]["additionalConfig"]
    assert limit > LARGEST_BODY
    prefetched = RecorderSettings.model_fields["broker_prefetch"].default + 2 * OTHER_PREFETCH
    assert SERVICES["recorder"]["mem_limit"] == "1g"
    assert prefetched * limit <= 256 << 20


def pairs_in_compose() -> set[frozenset[str]]:
    """Return the services that share a network."""
    members: dict[str, list[str]] = {}
    for service, settings in SERVICES.items():
        for network in settings["networks"]:
            members.setdefault(network, []).append(service)
    return {frozenset(pair) for sharing in members.values() for pair in combinations(sharing, 2)}


def pairs_in_kubernetes() -> set[frozenset[str]]:
    """Return the parts of which one may connect to the other, by the policies of outgoing connections."""
    policies = [
        thing["spec"] for thing in built(ROOT / "deploy/k8s/overlays/clinic") if thing["kind"] == "NetworkPolicy"
    ]
    pairs = set()
    for policy in policies:
        targets = [target for rule in policy.get("egress", []) for target in rule.get("to", [])]
        names = [name for target in targets for name in names_of(target.get("podSelector"))]
        pairs |= {frozenset({source, name}) for source in names_of(policy["podSelector"]) for name in names}
    return {pair for pair in pairs if len(pair) == 2}


def names_of(selector: dict[str, Any] | None) -> list[str]:
    labels = (selector or {}).get("matchLabels", {})
    return [labels[key] for key in ("app.kubernetes.io/name", "cnpg.io/cluster") if key in labels]


def test_a_service_reaches_what_its_policy_in_kubernetes_allows() -> None:
    assert pairs_in_compose() == pairs_in_kubernetes()


def test_only_the_network_of_the_balancer_leads_outside() -> None:
    assert [name for name, network in COMPOSE["networks"].items() if not network.get("internal")] == ["outside"]
    assert [name for name, settings in SERVICES.items() if "outside" in settings["networks"]] == ["haproxy"]


def test_no_password_is_an_argument_of_a_process() -> None:
    script = (ROOT / "deploy/postgres.sh").read_text()
    assert "$POSTGRES_RECORDER_PASSWORD" not in script
    assert "$POSTGRES_ANALYST_PASSWORD" not in script
    commands = [settings.get(key, "") for settings in SERVICES.values() for key in ("command", "entrypoint")]
    healthchecks = [settings.get("healthcheck", "") for settings in SERVICES.values()]
    assert not re.search("PASSWORD|SECRET|_KEY", f"{commands} {healthchecks}")


DOCKER = """#!/bin/sh
# An engine whose registry knows the images named in KNOWN.
eval "image=\\${$#}"
case " $KNOWN " in *" $image "*) ;; *) echo "no such image: $image" >&2; exit 1 ;; esac
[ "$1" = pull ] || echo "${image%%:*}@sha256:$(echo "$image" | sha256sum | cut -d' ' -f1)"
"""


def pin(folder: Path, known: list[str], *, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run deploy/pin-images in a copy of the repository at `folder`, with an engine that knows these images."""
    (folder / "deploy").mkdir(exist_ok=True)
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("docker-compose.yml", "deploy/pin-images"):
        (folder / name).write_text((ROOT / name).read_text())
    docker = folder / "bin/docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "KNOWN": " ".join(known)}
    limited = [] if largest_file is None else ["prlimit", f"--fsize={largest_file}"]
    command = [*limited, sys.executable, str(folder / "deploy/pin-images")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_images_are_pinned_by_the_digests_of_the_registry(tmp_path: Path) -> None:
    images = re.findall(r"_IMAGE:-([^}]+)\}", (ROOT / "docker-compose.yml").read_text())
    (tmp_path / ".env").write_text("PREDECIR_TLS=1\nHAPROXY_IMAGE=haproxy:old\n")
    for _ in range(2):
        assert pin(tmp_path, images).returncode == 0
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines[0] == "PREDECIR_TLS=1"
    assert len(lines) == 1 + len(set(images))
    for image in images:
        assert any(re.fullmatch(rf"\w+_IMAGE={re.escape(image)}@sha256:[0-9a-f]{{64}}", line) for line in lines)


def test_an_image_without_a_digest_is_not_pinned(tmp_path: Path) -> None:
    ended = pin(tmp_path, [])
    assert (ended.returncode, (tmp_path / ".env").exists()) == (1, False)
    assert "no such image" in ended.stderr


def test_the_file_of_digests_is_for_its_owner(tmp_path: Path) -> None:
    pin(tmp_path, re.findall(r"_IMAGE:-([^}]+)\}", (ROOT / "docker-compose.yml").read_text()))
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_pinning_loses_no_password_on_a_disk_that_is_full(tmp_path: Path) -> None:
    kept = "".join(f"PASSWORD_{number}={'x' * 48}\n" for number in range(10))
    (tmp_path / ".env").write_text(kept)
    images = re.findall(r"_IMAGE:-([^}]+)\}", (ROOT / "docker-compose.yml").read_text())
    assert pin(tmp_path, images, largest_file=100).returncode != 0
    assert (tmp_path / ".env").read_text().startswith(kept)
