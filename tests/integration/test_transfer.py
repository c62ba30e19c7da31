"""`python -m services.recorder transfer` between a real SQLite file and a real PostgreSQL server."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection

from services.recorder.db.database import open_database
from services.recorder.enrolment.keys import BY_OPERATOR, BY_SECRET, enrol, read_keys, revoke
from services.recorder.ingest.writes import write_batch
from shared.contracts.gateway_proof import GatewayKey
from shared.contracts.transport import Delivery
from shared.database_url import read_url
from shared.diseases.thyroid import DatosPaciente
from tests.support.analysts_suite import Anemia, Renamed, described, plain, query
from tests.support.postgres import PostgresServer
from tests.support.recorder_suite import START, delivery, event, feedback_event, recording
from tests.support.rows import made_up
from tests.support.waiting import until_now

ROOT = Path(__file__).parents[2]
SECONDS = 120
AWKWARD = (0.1 + 0.2, 5.0, -0.0, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 12345678901234567, None)


class Place:
    """A database by its URL, as `recording` takes it."""

    def __init__(self, url: str) -> None:
        self.url = url


def place(url: str) -> Any:  # noqa: ANN401 - stands for a Target; only its URL is needed
    return Place(url)


def file(path: Path) -> Any:  # noqa: ANN401 - the same
    return place(f"sqlite:///{path}")


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    return postgres.new_database()


def transfer(
    source: str, target: str, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **(environment or {})}
    arguments = [part for option, url in (("--from", source), ("--to", target)) if url for part in (option, url)]
    return subprocess.run(
        [sys.executable, "-m", "services.recorder", "transfer", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


async def fill(target: Any, batch: Sequence[Delivery]) -> None:  # noqa: ANN401 - a Place
    async with recording(target) as opened:
        await opened.store.record(batch)


def awkward() -> list[Delivery]:
    """Return numbers that the databases spell differently, any script, a duplicate, feedback and unreadable bytes."""
    good = [event(tsh=value, note='日本語 "\\ \u2028 😀', probability=1 / 3) for value in AWKWARD]
    times = [
        event(
            time=START.replace(microsecond=micro),
            reference="5f" * 32,
            plausible=["negativo", "hipertiroidismo"],
            key_id=key_id,
        )
        for micro, key_id in ((0, ""), (1, "3f9c0a61b2d4"), (999_999, "b2d43f9c0a61"))
    ]
    of = orjson.loads(good[0])["id"]
    feedback = [
        feedback_event(of, "hipertiroidismo", reason='«ñ» "\\ \u2028\n😀'),
        feedback_event(of, key_id="3f9c0a61b2d4"),
    ]
    batch = [delivery(seq, body) for seq, body in enumerate([*good, *times, *feedback], 1)]
    return [*batch, delivery(1, good[0], gateway="g2"), delivery(90, b"\x00\xff"), delivery(91, b"{", gateway="g2")]


def all_rows(path: Path, table: str, columns: str, order: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY {order}").fetchall()  # noqa: S608 - ours
    finally:
        connection.close()


def by_hand(path: Path, statement: str) -> None:
    """Change a row directly, as with an SQLite browser."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute(statement)
    finally:
        connection.close()


async def test_rows_are_equal_after_a_transfer_there_and_back(
    tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    await fill(file(tmp_path / "one.db"), awkward())

    forth = transfer("sqlite:///./one.db", postgres.url(database), tmp_path)
    back = transfer(postgres.url(database), "sqlite:///./two.db", tmp_path)

    assert (forth.returncode, back.returncode) == (0, 0), forth.stderr + back.stderr
    assert "predicciones: 13 rows in the source, 13 in the target; 13 new; digest " in forth.stdout
    assert "duplicados: 1 rows in the source, 1 in the target; 1 new" in forth.stdout
    assert "resultados: 2 rows in the source, 2 in the target; 2 new" in forth.stdout
    assert "cuarentena: 2 rows in the source, 2 in the target; 2 new" in forth.stdout
    assert forth.stdout.splitlines() == back.stdout.splitlines()
    plain = (
        "id, timestamp, output, probabilidad, modelo, modelo_version, modelo_digest, paciente_digest, gateway_id, seq"
    )
    for table, columns, order in (
        ("predicciones", f"{plain}, hash, referencia, registrado, clave_id", "id"),
        ("resultados", "*", "id"),
        ("duplicados", "*", "gateway_id, seq"),
        ("cuarentena", "recibido, motivo, gateway_id, seq, cuerpo, prediccion_id", "gateway_id, seq"),
    ):
        rows = all_rows(tmp_path / "one.db", table, columns, order)
        assert rows
        assert all_rows(tmp_path / "two.db", table, columns, order) == rows
    documents = [
        [tuple(map(orjson.loads, row)) for row in all_rows(tmp_path / name, "predicciones", *query)]
        for name, query in (
            (name, ("inputs, probabilidades, coalesce(plausibles, 'null')", "id")) for name in ("one.db", "two.db")
        )
    ]
    assert documents[0] == documents[1]


async def test_a_second_transfer_copies_only_new_rows(tmp_path: Path, postgres: PostgresServer, database: str) -> None:
    source = file(tmp_path / "one.db")
    await fill(source, [delivery(seq) for seq in range(1, 6)])
    assert transfer(source.url, postgres.url(database), tmp_path).returncode == 0
    await fill(source, [delivery(seq) for seq in range(6, 9)])

    again = [transfer(source.url, postgres.url(database), tmp_path) for _ in range(2)]

    assert [ended.returncode for ended in again] == [0, 0]
    assert "8 rows in the source, 8 in the target; 3 new" in again[0].stdout
    assert "8 rows in the source, 8 in the target; 0 new" in again[1].stdout


async def test_a_target_in_use_keeps_its_rows_and_its_sequence(
    tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    source, target = file(tmp_path / "one.db"), Place(postgres.url(database))
    await fill(source, [delivery(1), delivery(2, b"unreadable"), delivery(3, b"unreadable")])
    await fill(target, [delivery(1, gateway="g9"), delivery(2, b"other unreadable", gateway="g9")])

    ended = transfer(source.url, target.url, tmp_path)
    await fill(target, [delivery(3, b"more unreadable", gateway="g9")])

    assert ended.returncode == 0, ended.stdout
    assert "predicciones: 1 rows in the source, 2 in the target; 1 new" in ended.stdout
    bodies = postgres.query(database, "SELECT convert_from(cuerpo, 'UTF8') FROM cuarentena ORDER BY gateway_id, seq")
    assert bodies == ["unreadable", "unreadable", "other unreadable", "more unreadable"]


@pytest.mark.parametrize(
    "change",
    [
        "probabilidad = probabilidad + 1e-16",
        "registrado = registrado + interval '1 microsecond'",
        "inputs = jsonb_set(inputs, '{tsh}', '1.3700000000000003')",
        "inputs = inputs - 'edad'",
        "probabilidades = probabilidades || '{\"otra\": 0}'",
    ],
)
async def test_a_different_row_is_named_without_values_and_not_overwritten(
    tmp_path: Path, postgres: PostgresServer, database: str, change: str
) -> None:
    source = file(tmp_path / "one.db")
    same = "0190a1b2-0000-7000-8000-000000000001"
    await fill(source, [delivery(1), delivery(2, event(event_id=same)), delivery(3)])
    assert transfer(source.url, postgres.url(database), tmp_path).returncode == 0
    postgres.query(database, f"UPDATE predicciones SET {change} WHERE id = '{same}'")  # noqa: S608 - ours

    ended = transfer(source.url, postgres.url(database), tmp_path)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("transfer: 1 rows differ")
    assert f"  differs in the target: {same}\n" in ended.stdout
    assert "1.37" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("change", ["inputs = inputs", "inputs = '{\"edad\": 4'", "probabilidad = 'mucha'"])
async def test_a_row_that_postgresql_rejects_is_named_and_the_rest_copied(
    tmp_path: Path, postgres: PostgresServer, database: str, change: str
) -> None:
    source = file(tmp_path / "one.db")
    bad = "0190a1b2-0000-7000-8000-000000000009"
    batch = [delivery(seq) for seq in range(1, 8)]
    await fill(source, [*batch, delivery(8, event(event_id=bad, note="NUL: \0"))])
    by_hand(tmp_path / "one.db", f"UPDATE predicciones SET {change} WHERE id = '{bad}'")  # noqa: S608 - ours

    ended = transfer(source.url, postgres.url(database), tmp_path)

    assert ended.returncode == 1
    assert "8 rows in the source, 7 in the target; 7 new" in ended.stdout
    assert f"  the target refuses a value in: {bad}\n" in ended.stdout
    assert f"  missing in the target: {bad}\n" in ended.stdout


async def test_the_first_twenty_different_rows_are_named_and_the_others_counted(tmp_path: Path) -> None:
    source, target = (file(tmp_path / name) for name in ("one.db", "two.db"))
    await fill(source, [delivery(seq) for seq in range(1, 26)])
    assert transfer(source.url, target.url, tmp_path).returncode == 0
    by_hand(tmp_path / "two.db", "UPDATE predicciones SET output = 'otra'")

    ended = transfer(source.url, target.url, tmp_path)

    listed = [line for line in ended.stdout.splitlines() if line.startswith("  differs in the target: ")]
    assert (ended.returncode, len(listed), listed[-1]) == (1, 21, "  differs in the target: 5 more")


@pytest.mark.parametrize(
    ("damaged", "change", "error"),
    [
        (
            "one.db",
            "DROP TABLE resultados",
            "the database lacks resultados: dropped or renamed by another program; restore a backup",
        ),
        (
            "two.db",
            "ALTER TABLE predicciones DROP COLUMN plausibles",
            (
                "the database cannot be used: table predicciones has no column named plausibles; "
                "run the same command again: it resumes where it stopped"
            ),
        ),
    ],
)
async def test_a_damaged_table_is_one_line_and_advice(tmp_path: Path, damaged: str, change: str, error: str) -> None:
    source, target = (file(tmp_path / name) for name in ("one.db", "two.db"))
    await fill(source, [delivery(1)])
    await fill(target, [])
    by_hand(tmp_path / damaged, change)

    ended = transfer(source.url, target.url, tmp_path)

    assert ended.returncode == 69
    assert ended.stderr.splitlines()[-1] == f"transfer: {error}"
    assert "Traceback" not in ended.stderr


async def test_a_malformed_time_is_one_line(tmp_path: Path, postgres: PostgresServer, database: str) -> None:
    source = file(tmp_path / "one.db")
    await fill(source, [delivery(1)])
    by_hand(tmp_path / "one.db", "UPDATE predicciones SET timestamp = 'ayer'")

    ended = transfer(source.url, postgres.url(database), tmp_path)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("transfer: a time in the database cannot be read: ")
    assert "Traceback" not in ended.stderr


def interrupt(source: str, target: str, postgres: PostgresServer, how: signal.Signals) -> tuple[int, int, str]:
    """Send a signal once some rows are copied; return how many are, the exit code and stderr."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "services.recorder", "transfer", "--from", source, "--to", postgres.url(target)]
    counted = "SELECT count(*) FROM predicciones"
    made = "SELECT count(*) FROM pg_tables WHERE tablename = 'predicciones'"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as ran:
        until_now(lambda: postgres.query(target, made) == [1], seconds=SECONDS)
        until_now(lambda: postgres.query(target, counted)[0] > 0, seconds=SECONDS)
        ran.send_signal(how)
        _, stderr = ran.communicate(timeout=SECONDS)
    return int(postgres.query(target, counted)[0]), ran.returncode, stderr


@pytest.mark.parametrize(
    ("how", "code", "message"),
    [
        (signal.SIGKILL, -signal.SIGKILL, ""),
        (signal.SIGINT, 130, "transfer: interrupted; run the same command again: it resumes where it stopped\n"),
    ],
)
async def test_an_interrupted_transfer_resumes(  # noqa: PLR0913, PLR0917 - three cases, three fixtures
    tmp_path: Path, postgres: PostgresServer, database: str, how: signal.Signals, code: int, message: str
) -> None:
    total = 30_000
    source = f"sqlite:///{tmp_path}/one.db"
    async with open_database(read_url(source)) as opened:
        rows = list(made_up(1, total))
        await opened.writer.transaction(lambda connection: write_batch(connection, rows, [], START))
    copied, ended_with, stderr = interrupt(source, database, postgres, how)
    assert 0 < copied < total
    assert ended_with == code
    assert stderr.endswith(message)
    assert "Traceback" not in stderr

    ended = transfer(source, postgres.url(database), tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert f"30,000 rows in the source, 30,000 in the target; {total - copied:,} new" in ended.stdout


async def test_the_target_has_the_view_before_the_first_start(
    tmp_path: Path, database: str, postgres: PostgresServer
) -> None:
    async with described(file(tmp_path / "one.db"), DatosPaciente):
        pass
    await fill(file(tmp_path / "one.db"), [delivery(1)])
    target = Place(postgres.url(database))

    ended = transfer(f"sqlite:///{tmp_path}/one.db", target.url, tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert "view predicciones_tiroides: up to date" in ended.stdout
    async with open_database(read_url(target.url)) as opened:
        assert len(await query(opened, "SELECT id FROM predicciones_tiroides")) == 1


async def test_the_longer_history_of_the_dictionary_is_kept(
    tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    async with described(file(tmp_path / "one.db"), Anemia, Renamed) as opened:
        lines = await query(opened, "SELECT vista, nombre, desde, hasta FROM diccionario ORDER BY nombre, desde")
    target = Place(postgres.url(database))
    async with described(target, Renamed):  # type: ignore[arg-type] # only its URL is needed
        pass

    ended = [transfer(f"sqlite:///{tmp_path}/one.db", target.url, tmp_path) for _ in range(2)]
    async with described(target, Renamed) as opened:  # type: ignore[arg-type] # the same
        merged = await query(opened, "SELECT vista, nombre, desde, hasta FROM diccionario ORDER BY nombre, desde")

    assert [process.returncode for process in ended] == [0, 0]
    assert f"diccionario: {len(lines)} lines taken over" in ended[0].stdout
    assert "diccionario: 0 lines taken over" in ended[1].stdout
    assert [[plain(value) for value in line.values()] for line in merged] == [list(line.values()) for line in lines]


async def test_enrolled_gateways_are_known_in_the_target_and_revoked_ones_stay_so(
    tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    """Also one that the target enrolled again by the secret before the transfer."""
    source, target = file(tmp_path / "one.db"), place(postgres.url(database))
    enrolled, revoked = GatewayKey.generate(), GatewayKey.generate()

    def enrol_both(connection: Connection) -> None:
        for key in (enrolled, revoked):
            enrol(connection, key.public_key, BY_OPERATOR, START)
        revoke(connection, revoked.gateway_id, START)

    async with recording(source) as opened:
        await opened.database.writer.transaction(enrol_both)
    async with recording(target) as opened:
        work = partial(enrol, public_key=revoked.public_key, origin=BY_SECRET, now=START)
        assert await opened.database.writer.transaction(work)

    ended = [transfer(source.url, target.url, tmp_path) for _ in range(2)]

    assert [process.returncode for process in ended] == [0, 0], ended[0].stderr
    async with recording(target) as opened:
        keys = {key.gateway_id: (key.public_key, key.revoked) for key in await read_keys(opened.database.readers)}
    assert keys == {
        enrolled.gateway_id: (enrolled.public_key.hex(), None),
        revoked.gateway_id: (revoked.public_key.hex(), START),
    }


async def test_an_omitted_url_is_database_url(tmp_path: Path, postgres: PostgresServer, database: str) -> None:
    await fill(file(tmp_path / "one.db"), [delivery(1)])
    clinic = {"DATABASE_URL": postgres.url(database)}

    forth = transfer("sqlite:///./one.db", "", tmp_path, clinic)
    back = transfer("", "sqlite:///./two.db", tmp_path, clinic)
    neither = transfer("", "", tmp_path, clinic)

    assert [forth.returncode, back.returncode, neither.returncode] == [0, 0, 78]
    assert all_rows(tmp_path / "two.db", "predicciones", "id", "id")
    assert neither.stderr == "transfer: --from and --to are the same database; name two\n"


@pytest.mark.parametrize(
    ("source", "target", "code", "message"),
    [
        ("sqlite:///./none.db", "sqlite:///./b.db", 78, "transfer: --from: there is no file ./none.db; name the "),
        ("sqlite:///./a.db", "sqlite:///./a.db", 78, "transfer: --from and --to are the same database; name two"),
        ("sqlite:///./a.db", "mysql://u:secreto@h/db", 78, "transfer: --to: expected sqlite:///./predicciones.db or "),
        ("sqlite:///./a.db", "postgresql://u:secreto@127.0.0.1:1/db", 69, "transfer: cannot use the database db on "),
        ("sqlite:///./text.db", "sqlite:///./b.db", 69, "transfer: cannot use the database ./text.db: "),
    ],
)
def test_an_impossible_transfer_is_one_line_and_an_exit_code(
    tmp_path: Path, source: str, target: str, code: int, message: str
) -> None:
    sqlite3.connect(tmp_path / "a.db").close()
    (tmp_path / "a.db").touch()
    (tmp_path / "text.db").write_text("not a database, whatever its name says")

    ended = transfer(source, target, tmp_path)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith(message)
    assert ended.stderr.count("\n") == 1
    assert "secreto" not in ended.stderr
