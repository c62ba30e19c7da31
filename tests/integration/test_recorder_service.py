"""`python -m services.recorder` as a process: its exit codes, its lines, its read API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SECONDS = 30


@contextmanager
def recorder(folder: Path, url: str) -> Iterator[subprocess.Popen[str]]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": "0", "DATABASE_URL": url}
    command = [sys.executable, "-m", "services.recorder"]
    pipes = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=pipes, stderr=pipes, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_serves_an_empty_history_and_stops_when_told(tmp_path: Path) -> None:
    with recorder(tmp_path, "sqlite:///./predicciones.db") as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("ready on http://127.0.0.1:")
        address = ready.split()[-1]
        with urllib.request.urlopen(f"{address}/predicciones", timeout=SECONDS) as answer:  # noqa: S310 - ours
            assert orjson.loads(answer.read()) == {"predicciones": [], "siguiente": None}
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["predicciones.db"]


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("mysql://u:secreto@localhost/db", 78, "recorder: settings: DATABASE_URL: expected"),
        ("sqlite:///./nowhere/p.db", 69, "recorder: cannot use the database ./nowhere/p.db: "),
        ("postgresql://u:secreto@127.0.0.1:1/db", 69, "recorder: cannot use the database db on 127.0.0.1 port 1: "),
    ],
)
def test_a_database_it_cannot_use_is_one_line_and_an_exit_code(tmp_path: Path, url: str, code: int, said: str) -> None:
    with recorder(tmp_path, url) as process:
        _, errors = process.communicate(timeout=SECONDS)

    assert process.returncode == code
    assert errors.startswith(said)
    assert errors.count("\n") == 1
    assert "secreto" not in errors
