"""Backups under load, by the procedures of docs/operations/running.md, and the contents of a restored one."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.broker import Broker
from tests.support.bundles import make_bundle
from tests.support.database import is_settled, query
from tests.support.postgres import PostgresServer
from tests.support.processes import Process, running
from tests.support.stack import ids, server_stack
from tests.support.waiting import until_now

CLIENTS = 4


@contextmanager
def answering(url: str) -> Iterator[list[str]]:
    """Send requests meanwhile; yields the growing list of the answers' ids."""
    answered: list[str] = []
    enough: list[bool] = []

    def work() -> None:
        with httpx.Client(timeout=30) as client:
            while not enough:
                response = client.post(f"{url}/predecir", json={"edad": 47, "sexo": "F", "tsh": 1.5})
                assert response.status_code == 200
                answered.append(response.json()["id"])

    with ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(work) for _ in range(CLIENTS)]
        try:
            yield answered
        finally:
            enough.append(True)
    for each in working:
        each.result()


def more(answered: list[str], count: int) -> None:
    """Wait for so many more answers."""
    enough = len(answered) + count
    until_now(lambda: len(answered) >= enough, seconds=60)


def snapshot(process: Process, folder: Path, copy: Path) -> None:
    """Copy `folder` as it is at one moment, as a snapshot of the disk does."""
    os.kill(process.popen.pid, signal.SIGSTOP)
    try:
        shutil.copytree(folder, copy)
    finally:
        os.kill(process.popen.pid, signal.SIGCONT)


def replace_folder(copy: Path, place: Path) -> None:
    shutil.rmtree(place)
    shutil.copytree(copy, place)


def overwrite_files(copy: Path, place: Path) -> None:
    """Copy over the present files, which stay the same files for the file system."""
    shutil.copytree(copy, place, dirs_exist_ok=True)


def test_a_restored_laptop_has_every_answer_of_the_backup(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        make_bundle(folder / "var", DatosPaciente)
    with running("services.local", old) as process, answering(process.url) as answered:
        more(answered, 200)
        before = list(answered)
        snapshot(process, old / "var/gateway", new / "var/gateway")
        more(answered, 50)
        vacuum = f"VACUUM INTO '{new / 'predicciones.db'}'"
        subprocess.run(["sqlite3", "predicciones.db", vacuum], cwd=old, check=True, timeout=60)
        more(answered, 50)
    with running("services.local", new) as process:
        until_now(lambda: is_settled(process), seconds=60)
        assert set(before) <= {row[0] for row in query(new, "SELECT id FROM predicciones")}
        accounts = process.get("/conciliacion").json()["gateways"]
        assert [(account["diferencia"], account["en_cuarentena"]) for account in accounts] == [(0, 0)] * 2


@pytest.mark.parametrize("put_back", [replace_folder, overwrite_files])
def test_an_outbox_restored_under_load_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, put_back: Callable[[Path, Path], None]
) -> None:
    outbox, copy = tmp_path / "var/gateway", tmp_path / "copy"
    make_bundle(tmp_path / "var", DatosPaciente)
    with running("services.local", tmp_path) as process:
        with answering(process.url) as answered:
            more(answered, 200)
            snapshot(process, outbox, copy)
            more(answered, 200)
        until_now(lambda: is_settled(process), seconds=60)
    put_back(copy, outbox)
    with running("services.local", tmp_path) as process, answering(process.url) as later:
        more(later, 400)  # beyond the numbers that were used after the copy
    with running("services.local", tmp_path) as process:
        until_now(lambda: is_settled(process), seconds=60)
        accounts = process.get("/conciliacion").json()["gateways"]
    assert sorted(answered + later) == [row[0] for row in query(tmp_path, "SELECT id FROM predicciones ORDER BY id")]
    assert sorted(account["registradas"] for account in accounts) == sorted([len(answered), len(later)])
    assert all(account["respondidas"] == account["registradas"] for account in accounts)
    assert query(tmp_path, "SELECT gateway_id, seq FROM predicciones GROUP BY 1, 2 HAVING count(*) > 1") == []


def test_a_restored_gateway_delivers_under_both_ids_and_all_adds_up(tmp_path: Path, broker: Broker) -> None:
    """The relay of the first gateway waits after its first batch, so that its outbox and the copy hold events."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    with server_stack(tmp_path, broker) as stack, stack.recorder() as recorder:
        environment = stack.environment | {"INFERENCE_URL": stack.inference.url}
        with running("services.gateway", first, environment | {"RELAY_LINGER_MS": "600000"}) as gateway:
            until_now(lambda: gateway.get("/health/ready").status_code == 200)
            before = [predicted(gateway)]
            until_now(lambda: ids(recorder) == before, seconds=60)
            before += [predicted(gateway) for _ in range(10)]
            snapshot(gateway, first / "var", second / "var")
        with running("services.gateway", second, environment) as gateway:
            until_now(lambda: gateway.get("/health/ready").status_code == 200)
            later = [predicted(gateway) for _ in range(15)]  # up to numbers beyond those in the copy
            assert gateway.stop() == 0
        until_now(lambda: ids(recorder) == sorted(before + later), seconds=60)
        accounts = recorder.get("/conciliacion").json()["gateways"]
    accounts = [account for account in accounts if account["respondidas"]]
    assert sorted(account["registradas"] for account in accounts) == [11, 15]
    for account in accounts:
        assert account["respondidas"] == account["registradas"]


def predicted(gateway: Process) -> str:
    """Return the id of one answer."""
    answer: str = plain_http.post(f"{gateway.url}/predecir", json={"edad": 47, "sexo": "F", "tsh": 1.5}).json()["id"]
    return answer


def test_a_restored_postgresql_counts_the_answers_after_its_backup(
    tmp_path: Path, broker: Broker, postgres: PostgresServer
) -> None:
    with server_stack(tmp_path, broker) as stack:
        first, second = postgres.new_database(), postgres.new_database()
        dump = str(tmp_path / "predicciones.dump")
        with stack.recorder(postgres.url(first)) as recorder, answering(stack.gateway.url) as answered:
            until_now(lambda: len(ids(recorder)) >= 100, seconds=60)
            before = ids(recorder)
            command = [str(postgres.binaries / "pg_dump"), "--format=custom", f"--file={dump}", postgres.url(first)]
            subprocess.run(command, check=True, timeout=60)
            more(answered, 50)
        with stack.recorder(postgres.url(first)) as recorder:
            until_now(lambda: ids(recorder) == sorted(answered), seconds=60)
        command = [str(postgres.binaries / "pg_restore"), f"--dbname={postgres.url(second)}", dump]
        subprocess.run(command, check=True, timeout=60)
        with stack.recorder(postgres.url(second)) as recorder:
            restored = ids(recorder)
            assert set(before) <= set(restored) < set(answered)
            assert stack.gateway.stop() == 0  # and sends its report, as every 25 s
            missing = len(answered) - len(restored)
            until_now(lambda: recorder.get("/conciliacion").json()["diferencia"] == missing, seconds=90)
