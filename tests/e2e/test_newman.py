"""The Postman collection, run by newman against the local profile."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import Process

NEWMAN = Path(sys.prefix) / "newman/node_modules/.bin/newman"


def newman(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the collection with newman to its end."""
    if not NEWMAN.exists():
        pytest.fail(f"no newman at {NEWMAN}: run `make newman`", pytrace=False)
    command = [str(NEWMAN), "run", f"{ROOT}/docs/postman.json", "--color", "off", "--disable-unicode", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_every_request_works_unchanged_with_the_local_profile(page_server: Process) -> None:
    ended = newman("--env-var", f"servidor={page_server.url}")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_request_that_fails_ends_newman_with_an_error(page_server: Process) -> None:
    nowhere = "http://127.0.0.1:1"  # nothing listens there
    ended = newman("--env-var", f"servidor={page_server.url}", "--env-var", f"inferencia={nowhere}")
    assert ended.returncode == 1
    assert "AssertionError" in ended.stdout
