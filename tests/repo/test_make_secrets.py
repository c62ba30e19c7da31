"""deploy/make-secrets: what it creates is kept, and an upgraded stack still reads messages without a proof."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.gateway.settings import GatewaySettings
from tests.support.paths import ROOT

UNSIGNED = "RECORDER_UNSIGNED_MESSAGES=true"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the program, as in a clone."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/make-secrets", tmp_path / "deploy")
    return tmp_path


def make(folder: Path) -> str:
    command = [sys.executable, str(folder / "deploy/make-secrets")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def lines(folder: Path) -> list[str]:
    return (folder / ".env").read_text().splitlines()


def test_a_new_stack_has_a_secret_and_reads_no_unsigned_messages(folder: Path) -> None:
    make(folder)
    path = folder / "var/compose/enrolment.key"
    secret = GatewaySettings(enrolment_secret_file=path).enrolment_secret()
    assert secret is not None
    assert f"ENROLMENT_SECRET={secret.decode()}" in lines(folder)
    assert UNSIGNED not in lines(folder)
    before = (folder / ".env").read_bytes(), path.read_bytes()
    assert make(folder) == ""
    assert ((folder / ".env").read_bytes(), path.read_bytes()) == before


def test_passwords_survive_a_disk_that_is_full(folder: Path) -> None:
    make(folder)
    kept = [line for line in lines(folder) if not line.startswith("ENROLMENT_SECRET=")]
    (folder / ".env").write_text("\n".join(kept) + "\n")
    command = ["prlimit", "--fsize=64", sys.executable, str(folder / "deploy/make-secrets")]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode != 0
    assert lines(folder)[: len(kept)] == kept


def test_an_upgraded_stack_reads_unsigned_messages_until_the_line_is_deleted(folder: Path) -> None:
    make(folder)
    earlier = [line for line in lines(folder) if not line.startswith("ENROLMENT_SECRET=")]
    (folder / ".env").write_text("\n".join(earlier) + "\n")
    assert "RECORDER_UNSIGNED_MESSAGES is on" in make(folder)
    assert UNSIGNED in lines(folder)
    (folder / ".env").write_text("\n".join(line for line in lines(folder) if line != UNSIGNED) + "\n")
    make(folder)
    assert UNSIGNED not in lines(folder)
