"""schemathesis over every service: requests made from its OpenAPI document, and every check of the responses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.diseases.thyroid import DatosPaciente
from shared.web.api_keys import Role
from tests.contract.test_authorization import OPENS
from tests.support.attack_table import Attack
from tests.support.attacked import Attacked
from tests.support.bundles import make_bundle
from tests.support.paths import ROOT
from tests.support.processes import clean_environment, running
from tests.support.waiting import until_now

SCHEMATHESIS = Path(sys.prefix) / "schemathesis/bin/schemathesis"
RISK = "Schemathesis"
EXAMPLES = 10
"""Requests of each operation and phase that are made at random, beside all that cover the document."""
SEED = 20_261_130
ANSWER_SECONDS, RUN_SECONDS = 60, 900
"""Longest waits for one answer and for a run, which takes 10 to 20 s of CPU: a hang fails, a busy machine does not."""


def schemathesis(url: str, folder: Path, key: str | None = None, *words: str, settings: str = "") -> str:
    """Run schemathesis on the service at `url` with every check; `key` reads the document. Returns its output."""
    if not SCHEMATHESIS.exists():
        pytest.fail(f"no schemathesis at {SCHEMATHESIS}: run `make schemathesis`", pytrace=False)
    config = folder / "schemathesis.toml"
    config.write_text((ROOT / "docs/schemathesis.toml").read_text() + settings)
    command = [SCHEMATHESIS, "--no-color", "--config-file", config, "run", f"{url}/openapi.json", "--checks", "all"]
    command += ["--max-examples", str(EXAMPLES), "--seed", str(SEED), "--warnings", "off", *words]
    command += ["--request-timeout", str(ANSWER_SECONDS)]
    if key is not None:
        command += ["--header", f"Authorization: Bearer {key}"]
    ended = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert ended.returncode in {0, 1}, ended.stdout + ended.stderr  # 1: it found something
    return ended.stdout


def count(attack: Attack, what: str, output: str) -> None:
    """Count the cases of a run, and what it found."""
    generated = re.search(r"(\d+) generated", output)
    found = re.search(r"found (\d+) ", output)
    assert generated, output
    with attack(RISK, what) as tries:
        tries.number = int(generated[1])
        tries.successes = [output[-4000:]] * int(found[1] if found else 0)


def keys(services: Attacked) -> str:
    """Return settings that send each operation with a key of a role that may use it."""
    lines = []
    for route in sorted(set().union(*OPENS.values()) - OPENS[None]):
        role = next(role for role in Role if route in OPENS[role])
        header = f'{{ Authorization = "Bearer {services.key(role)}" }}'
        lines.append(f'\n[[operations]]\ninclude-name = "{route}"\nheaders = {header}\n')
    return "".join(lines)


@pytest.mark.parametrize("name", ["gateway", "inference", "recorder"])
def test_a_service_with_keys_passes_every_check(services: Attacked, attack: Attack, tmp_path: Path, name: str) -> None:
    # An address that no route has is 404 for a key, whatever the method: the check of methods expects 405.
    output = schemathesis(
        services[name].process.url,
        tmp_path,
        services.key(Role.OPS),
        "--exclude-checks",
        "unsupported_method",
        settings=keys(services),
    )
    count(attack, f"{name}, with keys", output)
    assert services.failures() == []


def test_the_local_profile_without_keys_passes_every_check(attack: Attack, tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente, card=b"<!doctype html><title>card</title>")
    with running("services.local", tmp_path) as local:
        until_now(lambda: local.get("/health/ready").status_code == 200)
        count(attack, "local profile, without keys", schemathesis(local.url, tmp_path))
        assert "Traceback" not in local.errors()
        assert "unexpected_error" not in local.errors()
