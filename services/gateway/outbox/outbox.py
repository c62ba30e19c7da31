"""The outbox: holds every answer from before it is given until it is recorded elsewhere.

Appends that arrive while a commit is running share the next one (group commit). `seq` is the place of an event in
everything this gateway ever answered: from 1, without gaps.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from services.gateway.outbox.database import OutboxFile
from shared.contracts.transport import Delivery, OutboxState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from services.gateway.outbox.database import Keyed

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class OutboxError(Exception):
    """The outbox cannot take the answer, so it must not be given; the message says why."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The events of one commit, the first of which is number `first_seq`."""

    first_seq: int
    deliveries: tuple[Delivery, ...]


@dataclass(slots=True)
class _Append:
    event: bytes
    keyed: Keyed | None
    stored: asyncio.Future[bytes | None]


class Outbox:
    """Open with `Outbox.open`, close with `close`. All methods belong to the event loop that opened it."""

    def __init__(self, file: OutboxFile, thread: ThreadPoolExecutor) -> None:
        """Take over an opened `file`; only `thread` uses it from now on."""
        self._file, self._thread = file, thread
        self.gateway_id = file.gateway_id
        self._next_seq, self._oldest, self.pending = file.next_seq, file.oldest, file.pending
        self._gathered: list[_Append] = []
        self._commits: asyncio.Task[None] | None = None
        self._closing = False
        self._discarded = asyncio.Event()
        self.filled = asyncio.Event()
        if self.pending:
            self.filled.set()

    @classmethod
    async def open(cls, path: Path, *, keep_answers: float) -> Outbox:
        """Open or create the file at `path`; keyed answers are repeated for `keep_answers` seconds.

        Raises:
            OutboxError: it cannot be opened or written.

        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        try:
            opening = partial(OutboxFile, path, keep_answers=keep_answers)
            file = await asyncio.get_running_loop().run_in_executor(thread, opening)
        except (sqlite3.Error, OSError) as error:
            thread.shutdown()
            used = "; does another gateway use it?" if "locked" in str(error) else ""
            raise OutboxError(f"{path}: the outbox cannot be opened ({error}{used})") from error
        return cls(file, thread)

    async def close(self) -> None:
        """Finish what was begun, and close the file."""
        self._closing = True
        while self._commits is not None:
            await asyncio.wait({self._commits})
        await self._run(self._file.close)
        self._thread.shutdown()

    @property
    def state(self) -> OutboxState:
        """The account of what this gateway answered."""
        return OutboxState(self.gateway_id, self._next_seq - 1, self._oldest)

    async def append(self, event: bytes, keyed: Keyed | None = None) -> bytes | None:
        """Keep `event`; returns once it is on disk. A repeated key stores nothing and returns the earlier response.

        Raises:
            OutboxError: it could not be written; nothing was kept.
            KeyReusedError: the key was used before with another request.
            AnswerForgottenError: the key was used before with this request, and its answer is not kept any more.

        """
        if self._closing or b"\n" in event:
            raise OutboxError("the outbox is closing" if self._closing else "an event is one line")
        stored: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._gathered.append(_Append(event, keyed, stored))
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit_gathered())
        return await stored

    async def handed_over(self) -> None:
        """Wait until everything that was answered up to now is durable elsewhere."""
        last = self._next_seq - 1
        while self._oldest <= last:
            await self._discarded.wait()

    async def segments(self, most_events: int) -> list[Segment]:
        """Read the oldest segments, at least one if there is any, together about `most_events` events.

        Raises:
            OutboxError: they could not be read.

        """
        try:
            rows = await self._run(self._file.read, most_events)
        except sqlite3.Error as error:
            raise OutboxError(f"the outbox cannot be read ({error})") from error
        return [
            Segment(first, tuple(Delivery(self.gateway_id, first + i, event) for i, event in enumerate(events)))
            for first, events in rows
        ]

    async def discard(self, segments: list[Segment]) -> None:
        """Remove segments that are durable elsewhere. Cancelling the caller does not leave the account half done.

        Raises:
            OutboxError: they could not be removed, and will be handed over again.

        """
        await asyncio.shield(asyncio.ensure_future(self._discard(segments)))

    async def _discard(self, segments: list[Segment]) -> None:
        try:
            self._oldest = await self._run(self._file.delete, [segment.first_seq for segment in segments])
        except sqlite3.Error as error:
            raise OutboxError(f"the outbox cannot be written ({error})") from error
        self._discarded.set()
        self._discarded = asyncio.Event()
        self.pending -= sum(len(segment.deliveries) for segment in segments)
        if not self.pending:
            self.filled.clear()

    async def _commit_gathered(self) -> None:
        try:
            while self._gathered:
                # Who gave up meanwhile was told that nothing was kept; so nothing is.
                batch = [append for append in self._gathered if not append.stored.done()]
                self._gathered = []
                if batch:
                    await self._commit(batch)
        finally:
            self._commits = None

    async def _commit(self, batch: list[_Append]) -> None:
        try:
            events = [(append.event, append.keyed) for append in batch]
            outcomes, added = await self._run(self._file.write, events, self._next_seq)
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must be told
            reason = str(error) if isinstance(error, sqlite3.Error) else type(error).__name__
            for append in batch:
                if not append.stored.done():
                    append.stored.set_exception(OutboxError(f"the outbox cannot be written ({reason})"))
            return
        if added:
            self._next_seq += added
            self.pending += added
            self.filled.set()
        for append, outcome in zip(batch, outcomes, strict=True):
            if append.stored.done():  # its request was cancelled; the answer is kept all the same
                continue
            if isinstance(outcome, Exception):
                append.stored.set_exception(outcome)
            else:
                append.stored.set_result(outcome)

    def _run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
