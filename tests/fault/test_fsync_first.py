"""An answer is sent only after its fsync, observed in the gateway's system calls."""

import re
from pathlib import Path

import httpx
import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.processes import running
from tests.support.waiting import until_now

_STRACE = Path("/usr/bin/strace")
_CALLS = "write,writev,pwrite64,sendto,sendmsg,fsync,fdatasync"
_WAL = re.compile(r"outbox\.db-wal>")
_SOCKET = re.compile(r"\(\d+<(?:socket|TCP)")
_SYNC = re.compile(r"^(\d+) +f(?:data)?sync\(\d+<[^>]*outbox\.db-wal>(\) += 0)?")
_SYNCED = re.compile(r"^(\d+) +<\.\.\. f(?:data)?sync resumed>\) += 0")


def traced(trace: Path) -> tuple[str, ...]:
    """Return the command that writes a process's calls to `trace`; the process stays our own child."""
    if not _STRACE.exists():
        pytest.fail(f"no {_STRACE}: install Debian's package `strace`", pytrace=False)
    return (str(_STRACE), "-D", "-f", "-y", "-s", "65536", "-e", f"trace={_CALLS}", "-o", str(trace))


def syncs(lines: list[str]) -> list[tuple[int, int]]:
    """Return the lines at which each sync of the outbox began and succeeded."""
    begun: dict[str, int] = {}
    found: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if match := _SYNC.match(line):
            if match[2]:
                found.append((number, number))
            else:
                begun[match[1]] = number
        elif (match := _SYNCED.match(line)) and match[1] in begun:
            found.append((begun.pop(match[1]), number))
    return found


def test_no_answer_leaves_before_a_sync_of_the_outbox_has_returned(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    trace = tmp_path / "trace"
    with running("services.inference", tmp_path) as model, httpx.Client(timeout=30) as client:
        environment = {"INFERENCE_URL": model.url}
        with running("services.gateway", tmp_path, environment, prefix=traced(trace)) as gateway:
            until_now(lambda: gateway.get("/health/ready").status_code == 200, seconds=60)
            asked = [
                client.post(f"{gateway.url}/predecir", json={"edad": age, "sexo": "F", "tsh": 1.5})
                for age in range(20, 40)
            ]
            assert gateway.stop() == 0
    until_now(lambda: trace.read_text(errors="replace").endswith("+++ exited with 0 +++\n"), seconds=30)
    lines = trace.read_text(errors="replace").splitlines()
    done = syncs(lines)
    for answer in asked:
        assert answer.status_code == 200
        naming = [(number, line) for number, line in enumerate(lines) if answer.json()["id"] in line]
        written = next(number for number, line in naming if _WAL.search(line))
        given = next(number for number, line in naming if _SOCKET.search(line))
        assert [sync for sync in done if written < sync[0] and sync[1] < given], "given before it was on disk"
