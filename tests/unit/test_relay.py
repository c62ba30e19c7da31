import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from services.gateway.outbox.disk_guard import DiskGuard
from services.gateway.outbox.outbox import Outbox
from services.gateway.outbox.relay import Relay
from shared.contracts.transport import Delivery, Transport
from tests.support.doubles import Down, Remembering
from tests.support.waiting import until


class Doubtful:
    """A transport that confirms nothing."""

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        del batch
        return set()


class OnlyEven:
    """A transport that confirms even numbers at the first attempt, and all numbers after that."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        durable = {d.seq for d in batch if d.seq % 2 == 0 or d.seq in self.seen}
        self.seen.extend(d.seq for d in batch)
        return durable


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    opened = await Outbox.open(tmp_path / "outbox.db", keep_answers=60)
    yield opened
    await opened.close()


def relay(outbox: Outbox, transport: Transport, folder: Path, batch_events: int = 100) -> Relay:
    disk = DiskGuard(folder / "outbox.db", min_free_mb=1)
    return Relay(outbox, transport, disk, batch_events=batch_events, linger_seconds=0)


async def test_everything_is_handed_over_oldest_first(outbox: Outbox, tmp_path: Path) -> None:
    recorder = Remembering()
    for number in range(30):
        await outbox.append(b"%d" % number)
    await relay(outbox, recorder, tmp_path, batch_events=7).drain(10)
    assert [d.body for d in recorder.deliveries] == [b"%d" % number for number in range(30)]
    assert outbox.pending == 0


async def test_what_is_not_confirmed_stays_and_is_handed_over_again(outbox: Outbox, tmp_path: Path) -> None:
    transport = OnlyEven()
    for number in range(4):
        await outbox.append(b"%d" % number)
    subject = relay(outbox, transport, tmp_path)
    assert await subject.send_batch()
    assert (outbox.pending, outbox.state.oldest_pending) == (2, 1)
    assert await subject.send_batch()
    assert outbox.pending == 0
    assert transport.seen == [1, 2, 3, 4, 1, 3]


async def test_it_waits_for_a_transport_that_is_down_and_logs_it(outbox: Outbox, tmp_path: Path) -> None:
    recorder = Remembering()
    transport = Down(recorder)
    subject = relay(outbox, transport, tmp_path)
    running = asyncio.create_task(subject.run())
    await outbox.append(b"one")
    await until(lambda: subject.failure is not None)
    assert subject.failure == "answers wait in the outbox: not today"
    transport.back.set()
    await until(lambda: subject.failure is None)
    assert outbox.pending == 0
    running.cancel()
    await asyncio.wait({running})


async def test_a_cancelled_relay_loses_nothing(outbox: Outbox, tmp_path: Path) -> None:
    for number in range(50):
        await outbox.append(b"%d" % number)
    recorder = Remembering()
    running = asyncio.create_task(relay(outbox, recorder, tmp_path, batch_events=3).run())
    await until(lambda: len(recorder.deliveries) > 6)
    running.cancel()
    await asyncio.wait({running})
    await relay(outbox, recorder, tmp_path).drain(10)
    assert {d.body for d in recorder.deliveries} == {b"%d" % number for number in range(50)}


async def test_draining_into_a_transport_that_is_down_ends(outbox: Outbox, tmp_path: Path) -> None:
    await outbox.append(b"one")
    await relay(outbox, Down(Remembering()), tmp_path).drain(10)
    assert outbox.pending == 1


async def test_a_transport_that_confirms_nothing_is_trouble(outbox: Outbox, tmp_path: Path) -> None:
    await outbox.append(b"one")
    subject = relay(outbox, Doubtful(), tmp_path)
    assert not await subject.send_batch()
    assert subject.failure == "answers wait in the outbox: none was confirmed"


async def test_a_stopped_relay_ends_after_its_batch(outbox: Outbox, tmp_path: Path) -> None:
    recorder = Remembering()
    subject = relay(outbox, recorder, tmp_path)
    running = asyncio.create_task(subject.run())
    await outbox.append(b"one")
    await until(lambda: outbox.pending == 0)
    subject.stop()
    await asyncio.wait_for(running, 60)
    assert [d.body for d in recorder.deliveries] == [b"one"]


async def test_an_outbox_that_cannot_be_read_is_trouble_and_not_the_end(outbox: Outbox, tmp_path: Path) -> None:
    await outbox.append(b"one")
    outbox.file.connection.close()  # a file that fails under a running relay
    subject = relay(outbox, Remembering(), tmp_path)
    assert not await subject.send_batch()
    assert subject.failure is not None
    assert "cannot be read" in subject.failure
