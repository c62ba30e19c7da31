"""`python -m services.recorder quarantine` on a real database, as an operator runs it."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table

from services.recorder.api.queries import read_one
from services.recorder.db.tables import CUARENTENA, PREDICCIONES
from services.recorder.ingest.messages import EventMessage
from services.recorder.ingest.parsing import DeadLetter
from services.recorder.message_replay import RowChangedError
from services.recorder.quarantine import add_arguments, change_row
from shared.contracts.event_batches import CONTENT_TYPE, split
from shared.contracts.events import CLOCK_TOLERANCE
from shared.contracts.transport import OutboxState
from tests.support.paths import ROOT
from tests.support.recorder_suite import Recording, delivery, event, feedback_event, recording
from tests.support.targets import SqliteTarget
from tests.support.waiting import until

UUID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def target(tmp_path: Path) -> SqliteTarget:
    return SqliteTarget(tmp_path / "predicciones.db")


@pytest.fixture
async def stopped(target: SqliteTarget) -> None:
    """Record two unreadable rows, 1 and 2, in quarantine, and stop the recorder."""
    async with recording(target) as opened:
        await opened.store.record([delivery(1), delivery(2, b'{"tsh": 7.77'), delivery(3, b"\x1b[2J\xff")])


@pytest.fixture
async def recorder(stopped: None, target: SqliteTarget) -> AsyncIterator[Recording]:
    """Return a running recorder with the same rows."""
    del stopped
    async with recording(target) as opened:
        yield opened


def quarantine(target: SqliteTarget, *arguments: str, stdout: int = subprocess.PIPE) -> tuple[int, bytes, str]:
    return recorder_command(target, "quarantine", *arguments, stdout=stdout)


def recorder_command(target: SqliteTarget, *arguments: str, stdout: int = subprocess.PIPE) -> tuple[int, bytes, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "services.recorder", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "DATABASE_URL": target.url},
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr.decode()


def change(target: SqliteTarget, *statements: str) -> None:
    """Change the database directly, as with an SQLite browser."""
    with closing(sqlite3.connect(target.path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def unproven(first: int, bodies: Sequence[bytes]) -> DeadLetter:
    """Return a message with `bodies` as the recorder quarantines it if nothing proves its gateway."""
    [batch] = split([delivery(seq, body) for seq, body in enumerate(bodies, first)], len(bodies))
    return EventMessage.read(CONTENT_TYPE, batch.headers, batch.body).unproven("it has no signature")


async def seqs(target: SqliteTarget, table: Table = PREDICCIONES) -> list[int]:
    async with recording(target) as opened:
        return [row.seq for row in await opened.rows(table)]


async def missing(target: SqliteTarget) -> int:
    async with recording(target) as opened:
        return (await opened.account(OutboxState("g1", 3, 4)))["g1"].missing


async def test_list_shows_the_reason_but_no_patient_value(recorder: Recording, target: SqliteTarget) -> None:
    code, output, _ = quarantine(target, "list")
    lines = output.decode().splitlines()
    assert (code, len(lines)) == (0, len(await recorder.rows(CUARENTENA)))
    assert lines[0].startswith("1  2")
    assert lines[0].endswith("  g1  2  12 bytes  not JSON")
    assert b"7.77" not in output


async def test_show_prints_the_bytes_unchanged(recorder: Recording, target: SqliteTarget) -> None:
    assert quarantine(target, "show", "2") == (0, b"\x1b[2J\xff", "")
    assert len(await recorder.rows(CUARENTENA)) == 2


async def test_show_on_a_terminal_escapes_control_characters(recorder: Recording, target: SqliteTarget) -> None:
    assert len(await recorder.rows(CUARENTENA)) == 2
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal, os.fdopen(theirs, "wb") as stdout:
        assert quarantine(target, "show", "2", stdout=stdout.fileno())[0] == 0
        assert terminal.read(100) == b"\\x1b[2J\\xff\r\n"


@pytest.mark.usefixtures("stopped")
async def test_replay_keeps_an_unreadable_row_and_prints_why(target: SqliteTarget) -> None:
    code, output, _ = quarantine(target, "replay", "1", "2")
    assert (code, output) == (1, b"1: stays: not JSON\n2: stays: not JSON\n")
    assert await seqs(target, CUARENTENA) == [2, 3]


@pytest.mark.usefixtures("stopped")
async def test_replay_records_an_event_that_became_readable(target: SqliteTarget) -> None:
    def upgraded(connection: Connection) -> None:
        """Replace the event with a readable one, as if newer code could read it."""
        connection.execute(CUARENTENA.update().where(CUARENTENA.c.seq == 2).values(cuerpo=event()))

    async with recording(target) as opened:
        await opened.database.writer.transaction(upgraded)
    assert quarantine(target, "replay", "1")[:2] == (0, b"1: recorded\n")

    assert await seqs(target) == [1, 2]
    assert await seqs(target, CUARENTENA) == [3]
    assert await missing(target) == 0


async def conflicting(target: SqliteTarget) -> int:
    """Record two events under one id; return the number of the second one's row in quarantine."""
    async with recording(target) as opened:
        await opened.store.record([delivery(4, event(event_id=UUID)), delivery(5, event(event_id=UUID, tsh=9.0))])
        return next(int(row.id) for row in await opened.rows(CUARENTENA) if row.seq == 5)


@pytest.mark.usefixtures("stopped")
async def test_replay_never_overwrites_a_recorded_row(target: SqliteTarget) -> None:
    code, output, _ = quarantine(target, "replay", str(await conflicting(target)))

    assert code == 1
    assert b"stays: its id is recorded with another question or answer" in output
    assert len(await seqs(target, CUARENTENA)) == 3


@pytest.mark.usefixtures("stopped")
async def test_replay_keeps_an_event_that_no_gateway_numbered(target: SqliteTarget) -> None:
    async with recording(target) as opened:
        await opened.store.record([], [DeadLetter("unreadable", "not a batch of events", "", -7, event(), None)])

    assert quarantine(target, "replay", "3")[:2] == (1, b"3: stays: no gateway's number is known for it\n")
    assert len(await seqs(target, CUARENTENA)) == 3


@pytest.mark.usefixtures("stopped")
async def test_replay_keeps_an_event_that_the_database_rejects(target: SqliteTarget) -> None:
    row_id = await conflicting(target)
    change(
        target,
        "DELETE FROM predicciones",
        "CREATE TRIGGER reject BEFORE INSERT ON predicciones BEGIN SELECT RAISE(ABORT, 'not now'); END",
    )

    expected = f"{row_id}: stays: the database does not take it: not now\n".encode()
    assert quarantine(target, "replay", str(row_id))[:2] == (1, expected)
    assert len(await seqs(target, CUARENTENA)) == 3


@pytest.mark.usefixtures("stopped")
async def test_a_discarded_row_loses_its_bytes_but_is_accounted_for(target: SqliteTarget) -> None:
    assert quarantine(target, "discard", "1", "--reason", "sent by a test")[:2] == (0, b"1: discarded\n")

    async with recording(target) as opened:
        [row, _] = await opened.rows(CUARENTENA)
    assert (row.cuerpo, row.motivo) == (b"", "discarded: sent by a test (it was: not JSON)")
    assert await missing(target) == 0
    for action in (("replay", "1"), ("discard", "1", "--reason", "again")):
        assert quarantine(target, *action)[:2] == (1, b"1: discarded: sent by a test (it was: not JSON)\n")


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("action", ["show", "replay"])
def test_an_unknown_row_is_reported(target: SqliteTarget, action: str) -> None:
    assert quarantine(target, action, "99")[:2] == (1, b"99: no such row\n")


@pytest.mark.parametrize("options", [(), ("--clock-ahead",), ("--unproven",)])
def test_a_replay_of_no_row_is_a_usage_error(target: SqliteTarget, options: tuple[str, ...]) -> None:
    code, output, error = quarantine(target, "replay", *options)
    assert (code, output) == (2, b"")
    assert error.endswith("error: one of the arguments ID --all --gateway is required\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("show", "9" * 25), "argument ID: not a whole number from 1: "),
        (("discard", "-1", "--reason", "x"), ""),
        (("discard", "1", "--reason", "x\n4 another row"), "argument --reason: not a line of text"),
        (("discard", "1", "--reason", " "), "argument --reason: not a line of text"),
        (("replay", "--gateway", "g 1"), "argument --gateway: not the id of a gateway: 'g 1'"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(target: SqliteTarget, words: tuple[str, ...], reason: str) -> None:
    code, output, error = quarantine(target, *words)
    assert (code, output) == (2, b"")
    assert reason in error
    assert "Traceback" not in error


def test_a_replay_of_all_rows_that_finds_none_prints_so(target: SqliteTarget) -> None:
    assert quarantine(target, "replay", "--all") == (0, b"no row to replay\n", "")


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("action", [["replay", "--all"], ["discard", "1", "--reason", "again"]])
async def test_a_row_that_another_command_changed_meanwhile_is_not_reported_as_done(
    target: SqliteTarget, action: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As two commands at once on PostgreSQL: both have read the row, and one of them has discarded it."""
    parser = ArgumentParser()
    add_arguments(parser)
    async with recording(target) as opened:
        stale = next(row for row in await opened.rows(CUARENTENA) if row.id == 1)
        assert await change_row(opened.database, stale, parser.parse_args(["discard", "1", "--reason", "first"]))
        with pytest.raises(RowChangedError):
            await change_row(opened.database, stale, parser.parse_args(action))
        [row] = [row for row in await opened.rows(CUARENTENA) if row.id == 1]
    assert (row.motivo, capsys.readouterr().out) == ("discarded: first (it was: not JSON)", "1: discarded\n")


def test_a_replay_that_finds_no_message_of_the_gateway_says_so(target: SqliteTarget) -> None:
    assert quarantine(target, "replay", "--gateway", "g9")[:2] == (1, b"g9: no message claims to be of this gateway\n")


@pytest.mark.usefixtures("recorder")
@pytest.mark.parametrize("action", [("replay", "1"), ("discard", "1", "--reason", "sent by a test")])
def test_a_change_beside_a_running_recorder_is_refused(target: SqliteTarget, action: tuple[str, ...]) -> None:
    code, output, error = quarantine(target, *action)
    assert (code, output) == (69, b"")
    assert error.startswith(f"quarantine: {target.path}: another Predecir has this database open; stop it first")
    assert error.count("\n") == 1


def test_an_unusable_database_is_one_line(tmp_path: Path) -> None:
    code, _, output = quarantine(SqliteTarget(tmp_path / "nowhere" / "p.db"), "list")
    assert (code, output.count("\n")) == (69, 1)


def test_a_database_without_a_table_is_one_line(target: SqliteTarget) -> None:
    assert quarantine(target, "list") == (0, b"", "")
    change(target, "DROP TABLE cuarentena")

    expected = "quarantine: the database lacks cuarentena: dropped or renamed by another program; restore a backup\n"
    assert quarantine(target, "list") == (69, b"", expected)


async def test_an_event_of_a_clock_that_is_ahead_is_released_once_its_time_has_come(target: SqliteTarget) -> None:
    """With feedback in its place among the others: it was received before them."""
    now = datetime.now(UTC)
    body = event(event_id=UUID)
    early = feedback_event(UUID, "hipertiroidismo", time=now + CLOCK_TOLERANCE + timedelta(seconds=0.5))
    async with recording(target) as opened:
        await opened.store.record([delivery(1, body), delivery(2, early)])
        await opened.store.record([delivery(3, feedback_event(UUID, time=now))])
        [waiting] = await opened.rows(CUARENTENA)
    assert waiting.motivo == "its time is more than 10 minutes ahead of the clock here"

    async def released() -> bool:
        return (await asyncio.to_thread(quarantine, target, "replay", "1"))[:2] == (0, b"1: recorded\n")

    await until(released, seconds=30)
    async with recording(target) as opened:
        one = await read_one(opened.database.readers, UUID)
    assert one is not None
    assert [row["aceptada"] for row in one["resultados"]] == [True, False]


async def test_replayed_feedback_counts_in_the_order_in_which_it_was_received(target: SqliteTarget) -> None:
    """Whole messages: the second one corrects the first, and what a believed gateway sent since then corrects both."""
    opinions = ["hipertiroidismo", "hipotiroidismo", "hipertiroidismo", "hipotiroidismo", None]
    bodies = [event(event_id=UUID), *(feedback_event(UUID, diagnosis) for diagnosis in opinions)]
    async with recording(target) as opened:
        await opened.store.record([], [unproven(1, bodies[:3]), unproven(4, bodies[3:5])])
        await opened.store.record([delivery(6, bodies[5])])

    code, output, _ = quarantine(target, "replay", "--all", "--unproven")
    assert (code, output.count(b"recorded: ")) == (0, 2)
    async with recording(target) as opened:
        one = await read_one(opened.database.readers, UUID)
    assert one is not None
    assert [row["diagnostico"] for row in one["resultados"]] == opinions[::-1]


async def test_all_events_of_a_clock_that_is_ahead_are_released_at_once(target: SqliteTarget) -> None:
    """But none of the end of the calendar, and nothing that cannot be read."""
    now = datetime.now(UTC)
    times = [now + timedelta(hours=1), now + timedelta(days=30), datetime(9999, 12, 31, tzinfo=UTC)]
    batch = [*(delivery(seq, event(time=time)) for seq, time in enumerate(times, 1)), delivery(4, b"unreadable")]
    async with recording(target) as opened:
        await opened.store.record(batch)

    code, output, _ = quarantine(target, "replay", "--all")
    assert (code, output.count(b"stays: ")) == (1, 4)
    code, output, _ = quarantine(target, "replay", "--all", "--clock-ahead")
    assert (code, output.count(b"stays: "), output.count(b"recorded\n")) == (1, 2, 2)
    async with recording(target) as opened:
        assert [row.timestamp for row in await opened.rows()] == times[:2]
        assert [row.seq for row in await opened.rows(CUARENTENA)] == [3, 4]


async def test_an_operator_forgets_a_claim_that_no_answer_supports(target: SqliteTarget) -> None:
    async with recording(target) as opened:
        await opened.store.record([delivery(1), delivery(2), delivery(7, b"forged"), delivery(10**12, b"forged")])
    before = recorder_command(target, "accounts", "list")
    forgotten = recorder_command(target, "accounts", "forget", "g1", "--above", "2")
    after = recorder_command(target, "accounts", "list")

    counts = b"answered 7, recorded 2, missing 4, quarantined 1, NOT SUPPORTED BY ROWS: 1000000000000"
    assert before == (0, b"g1  " + counts + b"\n", "")
    assert forgotten == (0, b"g1: numbers above 2 that are recorded by now count no more\n", "")
    assert after == (0, b"g1  answered 2, recorded 2, missing 0, quarantined 0\n", "")
    assert await seqs(target, CUARENTENA) == [7, 10**12]
    unknown = recorder_command(target, "accounts", "forget", "g2", "--above", "0")
    assert unknown == (1, b"g2: no such gateway; `accounts list` shows all\n", "")
    assert recorder_command(target, "accounts", "forget", "g1")[0] == 2  # it would forget genuine numbers, too
