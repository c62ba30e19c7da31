"""The disk's floor: the time of one fdatasync, and of one commit of the outbox, which waits for one."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.gateway.outbox.database import OutboxFile

_PAGE = 4096
GROUPS = (1, 8, 32)
"""Answers in one commit."""


def floor(folder: Path, event: bytes, *, times: int = 500) -> list[dict[str, Any]]:
    """Time an append of a page with fdatasync, and commits of each number of events in `GROUPS`, `times` times each."""
    with (folder / "page").open("wb", buffering=0) as file:
        descriptor = file.fileno()

        def page() -> None:
            os.write(descriptor, bytes(_PAGE))
            os.fdatasync(descriptor)

        timings = [_timed("append of 4 KiB and fdatasync", page, times, events=1)]
    for group in GROUPS:
        outbox = OutboxFile(folder / f"outbox-{group}.db", keep_answers=60)
        batch, seq = [(event, None)] * group, outbox.next_seq

        def commit(outbox: OutboxFile = outbox, batch: list[tuple[bytes, None]] = batch) -> None:
            nonlocal seq
            outbox.write(batch, seq)
            seq += len(batch)

        timings.append(_timed(f"commit of {group} answers to the outbox", commit, times, events=group))
        outbox.close()
    return timings


def _timed(what: str, do: Callable[[], None], times: int, *, events: int) -> dict[str, Any]:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started)
    hundredths = statistics.quantiles(seconds, n=100)
    return {"what": what, "events": events, "p50_ms": hundredths[49] * 1000, "p99_ms": hundredths[98] * 1000}
