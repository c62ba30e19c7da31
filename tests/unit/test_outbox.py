from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from services.gateway.outbox import Keyed, KeyReusedError, Outbox, OutboxError, request_hash
from shared.transport import OutboxState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[Outbox]:
    opened = await Outbox.open(path, keep_answers=60)
    yield opened
    await opened.close()


def keyed(request: bytes = b"asked", response: bytes = b"answered") -> Keyed:
    return Keyed("the-id", request_hash(request), response)


async def bodies(outbox: Outbox) -> list[tuple[int, bytes]]:
    return [(d.seq, d.body) for segment in await outbox.segments(1000) for d in segment.deliveries]


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


async def test_a_key_reused_for_another_request_is_refused(outbox: Outbox) -> None:
    await outbox.append(b"event", keyed())
    with pytest.raises(KeyReusedError):
        await outbox.append(b"other", keyed(request=b"something else"))
    assert await bodies(outbox) == [(1, b"event")]


async def test_a_key_is_forgotten_after_its_time(path: Path) -> None:
    outbox = await Outbox.open(path, keep_answers=-1)
    await outbox.append(b"event", keyed())
    await outbox.close()
    again = await Outbox.open(path, keep_answers=60)
    assert await again.append(b"event", keyed(request=b"something else")) is None
    await again.close()


async def test_a_full_disk_refuses_and_leaves_no_gap(outbox: Outbox) -> None:
    await outbox.append(b"kept")
    pages = outbox._connection.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001 - the disk is the connection's
    outbox._connection.execute(f"PRAGMA max_page_count = {pages}")  # noqa: SLF001
    with pytest.raises(OutboxError, match="full"):
        await outbox.append(b"x" * 100_000)
    outbox._connection.execute("PRAGMA max_page_count = 1000000")  # noqa: SLF001
    await outbox.append(b"kept too")
    assert await bodies(outbox) == [(1, b"kept"), (2, b"kept too")]


async def test_a_cancelled_request_does_not_disturb_the_others_of_its_commit(outbox: Outbox) -> None:
    given_up = asyncio.create_task(outbox.append(b"given up"))
    waited_for = asyncio.create_task(outbox.append(b"waited for"))
    await asyncio.wait({given_up, waited_for}, timeout=0)
    given_up.cancel()
    await waited_for
    assert b"waited for" in {body for _, body in await bodies(outbox)}
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_a_second_gateway_on_the_same_file_is_refused(outbox: Outbox, path: Path) -> None:
    await outbox.append(b"mine")
    with pytest.raises(OutboxError, match="another gateway"):
        await Outbox.open(path, keep_answers=60)


def test_a_file_that_is_no_database_is_refused_by_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be mistaken for one" * 10)
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
    query = outbox._connection.execute  # noqa: SLF001
    assert (query("PRAGMA journal_mode").fetchone()[0], query("PRAGMA synchronous").fetchone()[0]) == ("wal", 2)


def test_sqlite_is_new_enough_for_the_schema() -> None:
    assert sqlite3.sqlite_version_info >= (3, 35)
