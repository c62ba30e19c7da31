import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from services.gateway.outbox.database import (
    IdempotencyKeyReusedError,
    IdempotencyRecord,
    request_hash,
)
from services.gateway.outbox.outbox import Outbox, OutboxError
from shared.contracts.transport import OutboxState
from shared.files import file_version
from tests.support.old_outbox import OLD_ID, old_outbox
from tests.support.waiting import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[Outbox]:
    opened = await Outbox.open(path, keep_answers=60)
    yield opened
    await opened.close()


def keyed(request: bytes = b"asked", response: bytes = b"answered", answer_id: str = "the-id") -> IdempotencyRecord:
    return IdempotencyRecord(answer_id, request_hash(request), response)


def known_ids(outbox: Outbox) -> list[str]:
    return [row[0] for row in outbox.file.connection.execute("SELECT id FROM answered ORDER BY id")]


def fill(outbox: Outbox) -> None:
    """Forbid the file to grow by a page, as a full disk does."""
    database = outbox.file.connection  # the disk is reached through the connection
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")


def make_room(outbox: Outbox) -> None:
    outbox.file.connection.execute("PRAGMA max_page_count = 1000000")


async def bodies(outbox: Outbox) -> list[tuple[int, bytes]]:
    return [(d.seq, d.body) for segment in await outbox.segments(1000) for d in segment]


async def test_what_was_appended_is_there_after_a_reopening_in_order(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=60)
    for body in (b"one", b"two", b"three"):
        await outbox.append(body)
    gateway = outbox.gateway_id
    await outbox.close()
    again = await Outbox.open(path, keep_answers=60)
    assert await bodies(again) == [(1, b"one"), (2, b"two"), (3, b"three")]
    assert again.state == OutboxState(gateway, answered=3, oldest_pending=1)
    assert again.pending == 3
    await again.close()


async def test_concurrent_appends_share_commits_and_none_is_lost_or_doubled(outbox: Outbox) -> None:
    await asyncio.gather(*(outbox.append(b"%d" % number) for number in range(500)))
    kept = await bodies(outbox)
    assert [seq for seq, _ in kept] == list(range(1, 501))
    assert {body for _, body in kept} == {b"%d" % number for number in range(500)}
    assert len(await outbox.segments(1000)) < 50


async def test_seq_goes_on_without_gaps_after_everything_left_the_outbox(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=60)
    await outbox.append(b"one")
    await outbox.discard(await outbox.segments(1000))
    assert outbox.state.oldest_pending == 2
    assert not outbox.filled.is_set()
    await outbox.close()
    again = await Outbox.open(path, keep_answers=60)
    await again.append(b"two")
    assert await bodies(again) == [(2, b"two")]
    await again.close()


async def restored(path: Path, *, in_folder: str) -> Outbox:
    """Open a copy of the outbox at `path`, as from a backup."""
    copy = path.parent.parent / in_folder / path.name
    shutil.copytree(path.parent, copy.parent)
    return await Outbox.open(copy, keep_answers=60)


async def test_a_restored_outbox_gets_a_new_id_and_its_events_keep_theirs(outbox: Outbox, path: Path) -> None:
    for body in (b"one", b"two", b"three"):
        await outbox.append(body, keyed(answer_id="known") if body == b"one" else None)
    await outbox.discard((await outbox.segments(1000))[:1])

    again = await restored(path, in_folder="restored")
    assert again.gateway_id != outbox.gateway_id
    assert again.states == [OutboxState(outbox.gateway_id, 3, 2), OutboxState(again.gateway_id, 0, 1)]
    assert (again.pending, again.filled.is_set()) == (2, True)
    await again.append(b"new")
    assert await again.append(b"event again", keyed(answer_id="known")) == b"answered"

    old = await again.segments(1000)
    assert [(d.gateway_id, d.seq, d.body) for (d,) in old] == [
        (outbox.gateway_id, 2, b"two"),
        (outbox.gateway_id, 3, b"three"),
    ]
    await again.discard(old[:1])
    assert again.states[0] == OutboxState(outbox.gateway_id, 3, 3)
    await again.discard(old[1:])
    assert again.states == [
        OutboxState(outbox.gateway_id, 3, 4, replaced=True),
        OutboxState(again.gateway_id, 1, 1),
    ]
    assert [(d.gateway_id, d.seq, d.body) for (d,) in await again.segments(1000)] == [(again.gateway_id, 1, b"new")]
    assert again.pending == 1
    await again.close()


async def test_a_replaced_id_is_reported_only_once_its_events_are_delivered(outbox: Outbox, path: Path) -> None:
    """The recorder knows later numbers of it, and would log that the gateway counts again."""
    await outbox.append(b"one")
    again = await restored(path, in_folder="restored")
    assert again.reported_states == [again.state]
    await again.discard(await again.segments(1000))
    assert again.reported_states == [OutboxState(outbox.gateway_id, 1, 2, replaced=True), again.state]
    await again.close()


async def test_each_copy_of_a_copy_gets_an_id_of_its_own(outbox: Outbox, path: Path) -> None:
    await outbox.append(b"event")
    first = await restored(path, in_folder="first")
    await first.append(b"its own")
    second = await restored(first_path := path.parent.parent / "first" / path.name, in_folder="second")
    third = await restored(first_path, in_folder="third")
    outboxes = (outbox, first, second, third)
    assert len({each.gateway_id for each in outboxes}) == 4
    assert {state.gateway_id: state.answered for state in second.states} == {
        outbox.gateway_id: 1,
        first.gateway_id: 1,
        second.gateway_id: 0,
    }
    for each in outboxes[1:]:
        await each.close()


async def test_a_moved_or_reopened_outbox_keeps_its_id(path: Path) -> None:
    ids: set[str] = set()
    for folder in (path.parent, path.parent.parent / "moved", path.parent.parent / "moved"):
        if not folder.exists() and ids:
            path.parent.rename(folder)
        outbox = await Outbox.open(folder / path.name, keep_answers=60)
        ids.add(outbox.gateway_id)
        await outbox.append(b"event")
        await outbox.close()
    assert (len(ids), outbox.state.answered, len(outbox.states)) == (1, 3, 1)


async def test_an_outbox_of_an_earlier_version_takes_an_id_with_a_key_once(path: Path) -> None:
    """Its events keep their id and number, for which there is no key."""
    await old_outbox(path, b"event")
    upgraded = await Outbox.open(path, keep_answers=60)
    assert upgraded.keys.keys() == {upgraded.gateway_id}
    ((waiting,),) = await upgraded.segments(1000)
    assert (waiting.gateway_id, waiting.seq) == (OLD_ID, 1)
    await upgraded.close()
    again = await Outbox.open(path, keep_answers=60)
    assert (again.gateway_id, len(again.states)) == (upgraded.gateway_id, 2)
    await again.close()


async def test_every_id_of_an_outbox_has_the_key_that_determines_it(outbox: Outbox, path: Path) -> None:
    """Also after a restore: the events that wait under the id before are signed with its key."""
    await outbox.append(b"event")
    again = await restored(path, in_folder="restored")
    assert again.keys.keys() == {outbox.gateway_id, again.gateway_id}
    assert {gateway_id: key.gateway_id for gateway_id, key in again.keys.items()} == {each: each for each in again.keys}
    assert again.keys[outbox.gateway_id].public_key == outbox.keys[outbox.gateway_id].public_key
    await again.renew_id()
    assert len(again.keys) == 3
    await again.close()


async def test_discarding_one_segment_leaves_the_older_one_as_the_oldest(outbox: Outbox) -> None:
    await outbox.append(b"one")
    await outbox.append(b"two")
    _, second = await outbox.segments(1000)
    await outbox.discard([second])
    assert await bodies(outbox) == [(1, b"one")]
    assert (outbox.state.oldest_pending, outbox.pending) == (1, 1)


async def test_a_repeated_key_gets_the_first_response_and_stores_nothing_more(outbox: Outbox) -> None:
    assert await outbox.append(b"event", keyed()) is None
    assert await outbox.append(b"event again", keyed(response=b"other")) == b"answered"
    assert await bodies(outbox) == [(1, b"event")]


async def test_a_key_repeated_within_one_commit_is_one_event(outbox: Outbox) -> None:
    outcomes = await asyncio.gather(*(outbox.append(b"event", keyed()) for _ in range(20)))
    assert sorted(outcomes, key=lambda outcome: outcome is not None) == [None] + [b"answered"] * 19
    assert await bodies(outbox) == [(1, b"event")]


async def test_a_key_reused_for_another_request_is_rejected(outbox: Outbox) -> None:
    await outbox.append(b"event", keyed())
    with pytest.raises(IdempotencyKeyReusedError):
        await outbox.append(b"other", keyed(request=b"something else"))
    assert await bodies(outbox) == [(1, b"event")]


async def test_after_its_hours_a_key_is_a_new_one_at_once(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=-1)
    assert await outbox.append(b"event", keyed()) is None
    assert await outbox.append(b"event again", keyed(request=b"something else")) is None
    assert await bodies(outbox) == [(1, b"event"), (2, b"event again")]
    await outbox.close()


async def test_ids_of_keys_leave_the_outbox_after_their_hours(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=-1)
    await asyncio.gather(*(outbox.append(b"event", keyed(answer_id=f"id-{n:03}")) for n in range(20)))
    assert len(known_ids(outbox)) >= 19
    for number in range(8):
        await outbox.append(b"event", keyed(answer_id=f"later-{number}"))
    assert known_ids(outbox) == ["later-7"]
    await outbox.close()


async def test_ids_that_an_earlier_version_kept_for_good_leave_the_outbox_too(path: Path) -> None:
    await (await Outbox.open(path, keep_answers=60)).close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE INDEX answered_expires ON answered (expires) WHERE response IS NOT NULL")
        file.executemany("INSERT INTO answered VALUES (?, x'00', NULL, 1)", [(f"old-{n}",) for n in range(12)])
    outbox = await Outbox.open(path, keep_answers=60)
    assert await outbox.append(b"event", keyed(answer_id="old-11")) is None
    for number in range(3):
        await outbox.append(b"event", keyed(answer_id=f"new-{number}"))
    assert known_ids(outbox) == ["new-0", "new-1", "new-2", "old-11"]
    assert await outbox.append(b"event", keyed(answer_id="old-11")) == b"answered"
    await outbox.close()


async def test_a_key_is_remembered_across_a_restart(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=60)
    await outbox.append(b"event", keyed())
    await outbox.close()
    again = await Outbox.open(path, keep_answers=60)
    assert await again.append(b"event again", keyed()) == b"answered"
    assert await bodies(again) == [(1, b"event")]
    await again.close()


async def test_a_commit_that_fails_takes_no_key(outbox: Outbox) -> None:
    fill(outbox)
    with pytest.raises(OutboxError, match="full"):
        await outbox.append(b"x" * 100_000, keyed())
    make_room(outbox)
    assert await outbox.append(b"event", keyed()) is None
    assert await bodies(outbox) == [(1, b"event")]


async def test_a_full_disk_raises_and_leaves_no_gap(outbox: Outbox) -> None:
    await outbox.append(b"kept")
    fill(outbox)
    with pytest.raises(OutboxError, match="full"):
        await outbox.append(b"x" * 100_000)
    make_room(outbox)
    await outbox.append(b"kept too")
    assert await bodies(outbox) == [(1, b"kept"), (2, b"kept too")]


async def test_an_append_cancelled_before_its_commit_is_not_stored(outbox: Outbox) -> None:
    first = asyncio.create_task(outbox.append(b"first"))
    await asyncio.wait({first}, timeout=0)  # its commit has begun; what comes now waits for the next
    given_up, waited_for = (asyncio.create_task(outbox.append(body)) for body in (b"given up", b"waited for"))
    await asyncio.wait({given_up, waited_for}, timeout=0)
    given_up.cancel()
    await asyncio.gather(first, waited_for)
    assert [body for _, body in await bodies(outbox)] == [b"first", b"waited for"]
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_an_append_cancelled_during_its_commit_is_stored(outbox: Outbox) -> None:
    loop = asyncio.get_running_loop()
    first, second = (asyncio.create_task(outbox.append(body)) for body in (b"first", b"second"))  # one commit
    outbox.file.connection.set_trace_callback(lambda _: loop.call_soon_threadsafe(first.cancel))
    assert await asyncio.wait_for(second, 60) is None
    assert first.cancelled()
    assert await bodies(outbox) == [(1, b"first"), (2, b"second")]
    assert len(await outbox.segments(1000)) == 1


async def test_closing_waits_for_every_append_before_it(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=60)
    appending = []
    for body in (b"one", b"two"):  # the second one waits for the next commit
        appending.append(asyncio.create_task(outbox.append(body)))
        await asyncio.wait(appending, timeout=0)
    await outbox.close()
    assert await asyncio.gather(*appending) == [None, None]
    again = await Outbox.open(path, keep_answers=60)
    assert await bodies(again) == [(1, b"one"), (2, b"two")]
    await again.close()


async def test_a_discard_that_fails_leaves_the_events(outbox: Outbox) -> None:
    await outbox.append(b"event")
    segments = await outbox.segments(1000)
    outbox.file.connection.execute("PRAGMA query_only = ON")  # a file that fails under a running gateway
    with pytest.raises(OutboxError, match=r"^the outbox cannot be written \(.+\)$"):
        await outbox.discard(segments)
    assert (outbox.pending, outbox.state.oldest_pending) == (1, 1)
    assert await bodies(outbox) == [(1, b"event")]


async def test_a_cancelled_discard_leaves_the_account_right(outbox: Outbox) -> None:
    for number in range(3):
        await outbox.append(b"%d" % number)
    discarding = asyncio.create_task(outbox.discard((await outbox.segments(1000))[:2]))
    await asyncio.wait({discarding}, timeout=0)
    discarding.cancel()
    await asyncio.wait({discarding})
    await until(lambda: outbox.pending == 1)
    assert outbox.state.oldest_pending == 3
    assert await bodies(outbox) == [(3, b"2")]


async def test_an_event_of_two_lines_is_rejected(outbox: Outbox) -> None:
    with pytest.raises(OutboxError, match="one line"):
        await outbox.append(b"two\nlines")


async def test_a_closed_outbox_raises(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=60)
    await outbox.close()
    with pytest.raises(OutboxError, match="closing"):
        await outbox.append(b"late")


@pytest.mark.parametrize("emptied", [True, False])
async def test_a_start_beside_the_wal_of_a_lost_outbox_is_refused(
    outbox: Outbox, path: Path, tmp_path: Path, *, emptied: bool
) -> None:
    """As after a kill of a gateway whose outbox was deleted or emptied: SQLite would delete the WAL at the opening."""
    await outbox.append(b"1")
    (tmp_path / "killed").mkdir()
    killed = tmp_path / "killed" / path.name
    wal = killed.with_name(f"{path.name}-wal")
    shutil.copy(path.with_name(wal.name), wal)
    if emptied:
        shutil.copy("/dev/null", killed)

    with pytest.raises(OutboxError, match=r"it is missing or empty, but outbox\.db-wal may have answers"):
        await Outbox.open(killed, keep_answers=60)
    assert file_version(wal)[-1] > 0


async def test_a_second_gateway_on_the_same_file_is_rejected(outbox: Outbox, path: Path) -> None:
    await outbox.append(b"mine")
    with pytest.raises(OutboxError, match="another gateway"):
        await Outbox.open(path, keep_answers=60)


def test_a_file_that_is_no_database_is_rejected_by_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be mistaken for one" * 10)
    with pytest.raises(OutboxError, match=r"outbox\.db: the outbox cannot be opened"):
        asyncio.run(Outbox.open(path, keep_answers=60))


def test_a_damaged_file_is_rejected_by_name(path: Path) -> None:
    async def keep_one() -> None:
        outbox = await Outbox.open(path, keep_answers=60)
        await outbox.append(b"event" * 1000)
        await outbox.close()

    asyncio.run(keep_one())
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(OutboxError, match=r"outbox\.db: the outbox cannot be opened"):
        asyncio.run(Outbox.open(path, keep_answers=60))


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    async def keep_one() -> set[int]:
        outbox = await Outbox.open(path, keep_answers=60)
        await outbox.append(b"event")
        modes = {entry.stat().st_mode & 0o077 for entry in path.parent.iterdir()}
        await outbox.close()
        return modes

    assert asyncio.run(keep_one()) == {0}


async def test_the_database_is_synced_fully_before_an_append_returns(outbox: Outbox) -> None:
    query = outbox.file.connection.execute
    assert (query("PRAGMA journal_mode").fetchone()[0], query("PRAGMA synchronous").fetchone()[0]) == ("wal", 2)


async def test_a_commit_is_one_statement_whatever_its_size(outbox: Outbox) -> None:
    """After each statement the outbox's thread must take the interpreter lock again, while requests wait for it."""
    statements: list[str] = []
    outbox.file.connection.set_trace_callback(statements.append)
    await asyncio.gather(*(outbox.append(b"%d" % number) for number in range(100)))
    seen = {statement[:18] for statement in statements if not statement.startswith("--")}  # the rest is the trigger's
    assert seen == {"INSERT INTO outbox"}


async def test_any_version_reads_the_position_from_the_file(path: Path) -> None:
    """The counting is done outside the file: with a trigger, a version that counts by itself would count twice."""
    outbox = await Outbox.open(path, keep_answers=60)
    await asyncio.gather(outbox.append(b"one"), outbox.append(b"two", keyed()))
    await outbox.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT next_seq FROM account").fetchone() == (3,)
        assert file.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)
