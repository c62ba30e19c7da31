"""A supervised process of the rig: the count of its kills."""

import asyncio
import signal
from pathlib import Path

from chaos.supervised import Supervised
from tests.support.waiting import until


async def test_a_kill_counts_once_however_late_the_end_is_noticed(tmp_path: Path) -> None:
    process = Supervised("sleeper", ("sleep", "60"), tmp_path, announces=False)
    running = asyncio.create_task(process.run())
    try:
        await until(lambda: process.pid is not None)
        first = process.pid
        assert [process.send(signal.SIGKILL) for _ in range(3)] == [True, False, False]
        assert (process.pid, process.ready_seconds) == (None, None)
        await until(lambda: process.pid not in {None, first})
        assert process.ended == {-signal.SIGKILL: 1}
    finally:
        running.cancel()
        await asyncio.wait({running})
