"""The workflows of GitHub Actions: actionlint rejects a broken one, and rules that actionlint does not have."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.artifacts.signing import signing_key

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
ACTIONLINT = Path(sys.executable).parent / "actionlint"
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ACTIONLINT), "-no-color", "-shellcheck=", "-pyflakes=", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("needs: quick", "needs: quik", '"quik" which does not exist'),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-24.40", '"ubuntu-24.40" is unknown'),
        ("pull_request:", "pull_requests:", 'unknown Webhook event "pull_requests"'),
        ("matrix.python }}-bookworm", "matrix.pyton }}-bookworm", '"pyton" is not defined'),
    ],
)
def test_actionlint_is_red_on_a_broken_workflow(tmp_path: Path, right: str, wrong: str, finding: str) -> None:
    ours = (ROOT / ".github/workflows/ci.yml").read_text()
    broken = tmp_path / "ci.yml"
    broken.write_text(ours)
    assert lint(broken).returncode == 0
    broken.write_text(ours.replace(right, wrong))
    ended = lint(broken)
    assert ended.returncode == 1
    assert finding in ended.stdout


@each
def test_every_action_is_pinned_to_a_commit_that_its_comment_names(path: Path) -> None:
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses
    assert [use for use in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []


@each
def test_a_job_may_read_the_code_and_nothing_else_and_has_an_end(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    assert [name for name, job in jobs(path).items() if "permissions" in job or "timeout-minutes" not in job] == []
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each
def test_every_target_that_is_made_is_in_the_menu(path: Path) -> None:
    menu = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    made = {target for step in steps(path) for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert made
    assert made <= menu


@each
def test_no_secret_is_written_into_a_script(path: Path) -> None:
    assert [step["run"] for step in steps(path) if "${{" in step.get("run", "")] == []


def test_a_site_brings_its_signing_key_and_its_storage(tmp_path: Path) -> None:
    [step] = [step for step in steps(ROOT / ".github/workflows/pipeline.yml") if step.get("id") == "site"]
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / ".dvc").mkdir()
    environment = {"PATH": "/usr/bin:/bin", "BUNDLE_KEY": private.decode(), "DVC_REMOTE_URL": "s3://bucket/predecir"}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    assert signing_key(tmp_path / "var/keys").public_key() == key.public_key()
    public = (tmp_path / "var/keys/bundle.pub").read_bytes()
    assert serialization.load_pem_public_key(public) == key.public_key()
    assert (tmp_path / "var/keys/bundle.key").stat().st_mode & 0o77 == 0
    config = (tmp_path / ".dvc/config.local").read_text()
    assert config.splitlines() == [
        "[core]",
        "    remote = site",
        "['remote \"site\"']",
        "    url = s3://bucket/predecir",
    ]


def test_without_a_site_nothing_is_written(tmp_path: Path) -> None:
    [step] = [step for step in steps(ROOT / ".github/workflows/pipeline.yml") if step.get("id") == "site"]
    environment = {"PATH": "/usr/bin:/bin", "BUNDLE_KEY": "", "DVC_REMOTE_URL": ""}
    subprocess.run(["bash", "-eo", "pipefail", "-c", step["run"]], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
