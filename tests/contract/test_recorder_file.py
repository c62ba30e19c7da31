"""The recorder's SQLite file is moved, replaced or overwritten while it is open, or beside the WAL of a killed one."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import URL, Connection, event, text
from structlog.testing import capture_logs

from services.recorder.app import Recorder, open_recorder
from services.recorder.db.database import DATABASE_ERRORS, open_database
from services.recorder.db.sqlite_file import FileChangedError, SqliteFile
from services.recorder.ingest.writes import touch
from services.recorder.settings import RecorderSettings
from shared.contracts.transport import OutboxState, TransportDownError
from shared.files import file_version
from shared.web.hosting import StartError
from tests.support.recorder_suite import Recording, delivery, recording
from tests.support.targets import SqliteTarget
from tests.support.waiting import until

FIRST, SECOND, THIRD = range(1, 21), range(21, 31), range(31, 41)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "first").mkdir()
    return tmp_path / "first" / "predicciones.db"


@pytest.fixture
async def recorder(path: Path) -> AsyncIterator[Recording]:
    """Return a recorder with the first rows, in the WAL only."""
    async with recording(SqliteTarget(path)) as opened:
        await record(opened, FIRST)
        yield opened


async def record(recorder: Recording, seqs: range, gateway: str = "g1") -> None:
    await recorder.store.record([delivery(seq, gateway=gateway) for seq in seqs])


async def record_until_taken(recorder: Recording, seqs: range) -> None:
    """Record as a relay does: again after each failure."""

    async def taken() -> bool:
        try:
            await record(recorder, seqs)
        except TransportDownError:
            return False
        return True

    await until(taken, seconds=30)


def seqs_in(path: Path, gateway: str = "g1") -> list[int]:
    """Return the recorded `seq` in the file at `path` alone, without a WAL; it must be intact."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT seq FROM predicciones WHERE gateway_id = ? ORDER BY seq", (gateway,))
        return [row[0] for row in rows]


def alive(path: Path, gateway: str = "g1") -> list[int]:
    """Return the recorded `seq` as an analyst reads them now; the database must be intact."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT seq FROM predicciones WHERE gateway_id = ? ORDER BY seq", (gateway,))
        return [row[0] for row in rows]


def delete(path: Path) -> None:
    path.unlink()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


async def another_database(path: Path, rows: int = 3) -> Path:
    """Return the path of another recorder's complete database, with rows of gateway g2."""
    other = path.with_name("other.db")
    async with recording(SqliteTarget(other)) as opened:
        await record(opened, range(1, rows + 1), gateway="g2")
    return other


async def test_a_moved_file_is_reported_and_recording_continues_when_it_is_back(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    shutil.move(path, tmp_path / "away.db")
    for _ in range(2):  # the second try completes the moved file
        with pytest.raises(TransportDownError, match="was moved or deleted while in use; put it back"):
            await record(recorder, SECOND)
    assert "moved or deleted" in (recorder.store.down() or "")
    with pytest.raises(DATABASE_ERRORS):
        await recorder.rows()
    with pytest.raises(TransportDownError):  # completes the moved file, and records nothing
        await record(recorder, SECOND)
    assert seqs_in(tmp_path / "away.db") == list(FIRST), "the moved file lacks rows"
    assert files(path.parent) == {f"{path.name}-{kind}" for kind in ("lock", "wal", "shm")}, "a file was created"

    shutil.move(tmp_path / "away.db", path)
    await record_until_taken(recorder, SECOND)
    assert recorder.store.down() is None
    assert alive(path) == [*FIRST, *SECOND]


def size_of_wal(path: Path) -> int:
    return file_version(path.with_name(f"{path.name}-wal"))[-1]


def database_url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


async def test_a_missing_file_is_noticed_without_any_request(recorder: Recording, path: Path) -> None:
    delete(path)
    await until(lambda: recorder.store.down() is not None, seconds=30)
    with pytest.raises(DATABASE_ERRORS):
        await recorder.account(OutboxState("g1", 20, 21))


async def test_rows_go_to_the_file_that_replaced_the_open_one(recorder: Recording, path: Path, tmp_path: Path) -> None:
    other = await another_database(path)
    shutil.move(path, tmp_path / "former.db")
    shutil.move(other, path)

    await record_until_taken(recorder, SECOND)

    assert alive(path, "g2") == [1, 2, 3]
    assert alive(path) == list(SECOND), "rows of the former file are mixed in"
    assert seqs_in(tmp_path / "former.db") == list(FIRST)
    account = (await recorder.account(OutboxState("g1", 30, 31)))["g1"]
    assert (account.recorded, account.missing) == (len(SECOND), len(FIRST))


@pytest.mark.parametrize("complete", [True, False])
async def test_a_copy_from_another_disk_replaces_the_file_without_loss(
    recorder: Recording, path: Path, tmp_path: Path, *, complete: bool
) -> None:
    """The copy is made from the moved file, which is complete once that is noticed, or from the open one before."""
    if not complete:
        shutil.copy(path, tmp_path / "copy.db")
        delete(path)
    else:
        shutil.move(path, tmp_path / "away.db")
        await until(lambda: recorder.store.down() is not None, seconds=30)
        shutil.copy(tmp_path / "away.db", tmp_path / "copy.db")
    (tmp_path / "copy.db").rename(path)

    await record_until_taken(recorder, SECOND)
    assert alive(path) == [*FIRST, *SECOND]


async def test_an_empty_file_in_its_place_becomes_a_new_database(path: Path, tmp_path: Path) -> None:
    """Tables, view and dictionary are created as at a start."""
    async with opened_recorder(path) as opened:
        shutil.move(path, tmp_path / "former.db")
        write(path, b"")
        await until(lambda: stored(opened, delivery(1)), seconds=30)
    assert alive(path) == [1]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM predicciones_tiroides").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM diccionario").fetchone() > (0,)


@asynccontextmanager
async def opened_recorder(path: Path) -> AsyncIterator[Recorder]:
    settings = RecorderSettings.model_validate({"database_url": f"sqlite:///{path}"})
    async with open_recorder(settings, CollectorRegistry()) as recorder:
        yield recorder


async def stored(recorder: Recorder, *deliveries: object) -> bool:
    try:
        await recorder.store.record(deliveries)  # type: ignore[arg-type]
    except TransportDownError:
        return False
    return True


def backed_up(path: Path, folder: Path) -> Path:
    """Back up the open database at `path` into `folder`; return the copy."""
    backup = folder / "backup.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{backup}'")
    return backup


async def test_a_backup_copied_over_the_open_file_is_not_mixed_with_its_wal(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    backup = backed_up(path, tmp_path)
    await record(recorder, SECOND)
    shutil.copyfile(backup, path)  # writes into the same inode

    await record_until_taken(recorder, THIRD)
    await record_until_taken(recorder, FIRST)
    assert set(alive(path)) >= {*FIRST, *THIRD}
    account = (await recorder.account(OutboxState("g1", 40, 41)))["g1"]
    assert account.recorded + account.missing == 40


async def test_a_backup_copied_over_the_file_during_a_commit_is_noticed(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    backup = backed_up(path, tmp_path)

    def overwritten(connection: Connection) -> None:
        connection.execute(text("DELETE FROM cuarentena"))
        event.listen(connection.engine, "commit", lambda _: shutil.copyfile(backup, path), once=True)

    with pytest.raises(FileChangedError):
        await recorder.database.writer.transaction(overwritten)


@pytest.mark.parametrize("checkpointed", [True, False])
async def test_a_file_that_is_emptied_in_place_becomes_a_new_database(
    recorder: Recording, path: Path, *, checkpointed: bool
) -> None:
    """`: > predicciones.db` keeps the inode; SQLite deletes the WAL of an empty file when it opens it."""
    if checkpointed:
        await until(lambda: path.with_name(f"{path.name}-wal").stat().st_size == 0, seconds=30)
        await record(recorder, SECOND)
    write(path, b"")

    await record_until_taken(recorder, THIRD)
    assert alive(path) == list(THIRD)
    assert (await recorder.account(OutboxState("g1", 40, 41)))["g1"].missing == len(FIRST) + len(SECOND)


async def test_a_file_that_is_no_database_is_reported_until_it_is_put_right(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    shutil.move(path, tmp_path / "former.db")
    write(path, b"a letter, not a database" * 400)
    with pytest.raises(TransportDownError):
        await record(recorder, SECOND)
    await until(lambda: "not one intact database" in (recorder.store.down() or ""), seconds=30)

    (tmp_path / "former.db").replace(path)
    await record_until_taken(recorder, SECOND)
    assert alive(path) == [*FIRST, *SECOND]


@pytest.mark.parametrize("kind", ["wal", "shm"])
@pytest.mark.parametrize("old", [True, False])
async def test_a_wal_that_is_removed_or_replaced_loses_no_row(
    recorder: Recording, path: Path, tmp_path: Path, *, kind: str, old: bool
) -> None:
    companion = path.with_name(f"{path.name}-{kind}")
    if old:
        shutil.copy(companion, tmp_path / "older")
    await record(recorder, SECOND)
    companion.unlink()
    if old:
        (tmp_path / "older").rename(companion)

    await record_until_taken(recorder, THIRD)
    assert alive(path) == [*FIRST, *SECOND, *THIRD]


async def test_a_stop_loses_no_row_of_a_deleted_wal_while_an_analyst_is_connected(path: Path) -> None:
    """SQLite itself completes the file only when the last connection closes."""
    async with open_database(database_url(path)) as database:
        await database.writer.transaction(lambda connection: connection.execute(text("CREATE TABLE noted (a)")))
        analyst = sqlite3.connect(path)
        analyst.execute("SELECT count(*) FROM noted").fetchone()
        for kind in ("wal", "shm"):
            path.with_name(f"{path.name}-{kind}").unlink()
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM noted").fetchone() == (0,)
    analyst.close()


async def test_a_moved_folder_is_reported_as_a_moved_file(recorder: Recording, path: Path, tmp_path: Path) -> None:
    path.parent.rename(tmp_path / "elsewhere")
    await until(lambda: "was moved or deleted" in (recorder.store.down() or ""), seconds=30)
    (tmp_path / "elsewhere").rename(path.parent)
    await record_until_taken(recorder, SECOND)
    assert alive(path) == [*FIRST, *SECOND]


async def test_a_deleted_lock_is_made_again(recorder: Recording, path: Path) -> None:
    lock = path.with_name(f"{path.name}-lock")
    delete(lock)
    await until(lambda: file_version(lock) != (), seconds=30)
    with pytest.raises(StartError, match="another Predecir has this database open"):
        async with open_database(database_url(path)):
            pass
    await record(recorder, SECOND)


async def test_files_that_another_process_made_after_all_were_deleted_are_used_when_it_has_ended(
    recorder: Recording, path: Path
) -> None:
    """As `rm predicciones.db*` and `migrate` do, while the service runs."""
    for file in files(path.parent):
        delete(path.with_name(file))
    async with open_database(database_url(path)):
        await until(lambda: "another process has" in (recorder.store.down() or ""), seconds=30)
    await record_until_taken(recorder, SECOND)
    assert alive(path) == list(SECOND)


async def test_an_empty_database_begins_by_the_way_that_the_error_names(path: Path, tmp_path: Path) -> None:
    async with recording(SqliteTarget(path)) as opened:
        await record(opened, FIRST)
        shutil.move(path, tmp_path / "away.db")
        with pytest.raises(TransportDownError, match=r"stop, move predicciones.db-wal away, and start"):
            await record(opened, SECOND)
    shutil.move(path.with_name("predicciones.db-wal"), tmp_path / "away.db-wal")
    async with recording(SqliteTarget(path)) as opened:
        assert not await opened.rows()


async def test_a_commit_into_a_file_that_left_its_path_is_not_acknowledged(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    def moved(connection: Connection) -> None:
        connection.execute(text("DELETE FROM cuarentena"))
        shutil.move(path, tmp_path / "away.db")

    with pytest.raises(DATABASE_ERRORS):
        await recorder.database.writer.transaction(moved)


async def test_a_change_by_another_program_is_taken_over(recorder: Recording, path: Path) -> None:
    """An administrator's sqlite3 deletes a row and writes the WAL into the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM predicciones WHERE seq = 1")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    await record_until_taken(recorder, SECOND)
    assert alive(path) == [*FIRST, *SECOND][1:]
    assert (await recorder.account(OutboxState("g1", 30, 31)))["g1"].missing == 1


async def test_a_dropped_table_is_reported_until_a_backup_is_back(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    backup = backed_up(path, tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE predicciones")
    with pytest.raises(TransportDownError):
        await record(recorder, SECOND)
    with pytest.raises(DATABASE_ERRORS, match="no such table: predicciones"):
        await recorder.database.writer.transaction(touch)  # the probe after which it would be ready

    shutil.move(backup, path)
    await record_until_taken(recorder, SECOND)
    assert alive(path) == [*FIRST, *SECOND]


async def test_a_start_without_a_table_names_it(path: Path) -> None:
    async with recording(SqliteTarget(path)) as opened:
        await record(opened, FIRST)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE predicciones")

    with pytest.raises(StartError, match=r"lacks predicciones: .* restore a backup"):
        async with opened_recorder(path):
            pass


async def test_checkpoints_of_concurrent_commits_are_no_change_by_others(recorder: Recording, path: Path) -> None:
    """And they keep the WAL small without a pause in commits."""
    batches = [range(start, start + 200) for start in range(101, 8101, 200)]
    with capture_logs() as logs:
        await asyncio.gather(*(record(recorder, batch) for batch in batches))
    assert size_of_wal(path) < file_version(path)[-1]
    assert not [entry for entry in logs if entry["event"] == "database_file_reopened"]


async def test_the_file_alone_is_complete_soon_after_the_last_answer(
    recorder: Recording, path: Path, tmp_path: Path
) -> None:
    await record(recorder, SECOND)
    wal = path.with_name(f"{path.name}-wal")
    await until(lambda: wal.stat().st_size == 0, seconds=30)
    shutil.copy(path, tmp_path / "copy.db")
    assert seqs_in(tmp_path / "copy.db") == [*FIRST, *SECOND]


async def test_the_file_is_completed_once_a_long_query_has_ended(recorder: Recording, path: Path) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as analyst:
        analyst.execute("BEGIN")
        assert analyst.execute("SELECT count(*) FROM predicciones").fetchone() == (len(FIRST),)
        await record(recorder, SECOND)
        assert analyst.execute("SELECT count(*) FROM predicciones").fetchone() == (len(FIRST),)
        analyst.execute("COMMIT")
    wal = path.with_name(f"{path.name}-wal")
    await until(lambda: wal.stat().st_size == 0, seconds=30)
    assert seqs_in(path) == [*FIRST, *SECOND]


async def killed(path: Path, home: Path, seqs: range) -> None:
    """Leave in `home` the files of a recorder that was killed after `seqs`: the rows are in the WAL only."""
    async with recording(SqliteTarget(path)) as opened:
        await record(opened, seqs)
        shutil.copytree(path.parent, home)


async def test_the_files_of_a_killed_recorder_are_copied_together_without_loss(path: Path, tmp_path: Path) -> None:
    await killed(path, tmp_path / "home", FIRST)
    async with recording(SqliteTarget(tmp_path / "home" / path.name)) as opened:
        assert len(await opened.rows()) == len(FIRST)


async def test_a_recorder_killed_in_a_checkpoint_starts_without_loss(path: Path, tmp_path: Path) -> None:
    """Only the first page was written: it states more pages than the file has."""
    await killed(path, tmp_path / "home", range(1, 201))
    with closing(sqlite3.connect(path)) as connection:
        [page_size] = connection.execute("PRAGMA page_size").fetchone()
    torn = tmp_path / "home" / path.name
    write(torn, read(path)[:page_size] + read(torn)[page_size:])

    async with recording(SqliteTarget(torn)) as opened:
        assert len(await opened.rows()) == 200


@pytest.mark.parametrize("backup", ["older", "another's"])
async def test_a_start_refuses_a_restored_file_beside_the_wal_of_another(
    path: Path, tmp_path: Path, backup: str
) -> None:
    home = tmp_path / "home"
    other = await another_database(path)
    if backup == "older":
        async with recording(SqliteTarget(path)) as opened:
            await record(opened, FIRST)
        shutil.copy(path, other)
        async with recording(SqliteTarget(path)) as opened:
            await record(opened, range(1000, 1400))
    await killed(path, home, SECOND)
    shutil.copyfile(other, home / path.name)

    before = {file.name: file.read_bytes() for file in home.iterdir() if not file.name.endswith(("-shm", "-lock"))}
    with pytest.raises(StartError) as caught:
        async with recording(SqliteTarget(home / path.name)):
            pass
    message = str(caught.value)
    assert "predicciones.db-wal beside it are not one intact database" in message
    assert "move predicciones.db-wal and predicciones.db-shm away" in message
    assert "\n" not in message
    after = {file.name: file.read_bytes() for file in home.iterdir() if file.name in before}
    assert after == before, "the refused start changed a file"

    for kind in ("wal", "shm"):
        (home / f"{path.name}-{kind}").unlink()
    async with recording(SqliteTarget(home / path.name)) as opened:
        assert len(await opened.rows()) == (len(FIRST) if backup == "older" else 3)


async def test_a_start_without_the_file_but_with_its_wal_is_refused(path: Path, tmp_path: Path) -> None:
    await killed(path, tmp_path / "home", FIRST)
    missing = tmp_path / "home" / path.name
    missing.unlink()
    with pytest.raises(StartError, match="is missing or empty, but its predicciones"):
        async with recording(SqliteTarget(missing)):
            pass
    assert not missing.exists()


def test_a_file_as_its_recorder_left_it_is_not_read_at_the_start(path: Path) -> None:
    """Reading a large file takes seconds. Here the content is damaged, which only a check would find out."""
    path.write_bytes(b"no database")
    path.with_name(f"{path.name}-wal").write_bytes(b"rows")
    former = SqliteFile(path)
    assert former.lock()
    former.adopt(file_version(path))
    former.unlock()

    restarted = SqliteFile(path)
    assert restarted.lock()
    restarted.settle()
    path.touch()
    with pytest.raises(FileChangedError):
        restarted.settle()
    restarted.unlock()
