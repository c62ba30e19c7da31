"""The outbox: stores every event from before its answer is sent until it is durable elsewhere.

Appends that arrive during a commit share the next one (group commit). `seq` numbers the events of this gateway: from 1,
without gaps.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, TypeVarTuple

from services.gateway.outbox.database import IdempotencyRecord, OutboxFile
from shared.contracts.gateway_proof import GatewayKey
from shared.contracts.transport import Delivery, OutboxState

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

Segment = Sequence[Delivery]
"""The events of one commit."""


class OutboxError(Exception):
    """The outbox cannot store the event, so its answer must not be sent; the message has the reason.

    `full`: the reason is that its disk is full.
    """

    full = False

    @classmethod
    def of(cls, failure: str, error: Exception) -> Self:
        """Return the error of a `failure` that `error` caused."""
        raised = cls(f"{failure} ({error if isinstance(error, sqlite3.Error) else type(error).__name__})")
        raised.full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        return raised


@dataclass(slots=True)
class _Append:
    event: bytes
    record: IdempotencyRecord | None
    stored: asyncio.Future[bytes | None]


class Outbox:
    """Open with `Outbox.open`, close with `close`. All methods belong to the event loop that opened it."""

    def __init__(self, file: OutboxFile, thread: ThreadPoolExecutor) -> None:
        """Take over an open `file`; only `thread` may use it from now on."""
        self.file, self._thread = file, thread
        self._read_account()
        self._gathered: list[_Append] = []
        self._commits: asyncio.Task[None] | None = None
        self._closing = False
        self._discarded = asyncio.Event()
        self.filled = asyncio.Event()
        if self.pending:
            self.filled.set()

    @classmethod
    async def open(cls, path: Path, *, keep_answers: float) -> Self:
        """Open or create the file at `path`; responses are repeated for `keep_answers` seconds.

        Raises:
            OutboxError: the file cannot be opened or written.

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

    async def renew_id(self) -> None:
        """Take another gateway id, before the first append.

        Raises:
            OutboxError: it could not be written.

        """
        try:
            await self._run(self.file.renew_id)
        except sqlite3.Error as error:
            raise OutboxError.of("the outbox cannot be written", error) from error
        self._read_account()

    async def close(self) -> None:
        """Finish running commits, and close the file."""
        self._closing = True
        while self._commits is not None:
            await asyncio.wait({self._commits})
        await self._run(self.file.close)
        self._thread.shutdown()

    @property
    def state(self) -> OutboxState:
        """How many events this gateway stored, and which of them are in the outbox."""
        return OutboxState(self.gateway_id, self._next_seq - 1, self._oldest)

    @property
    def states(self) -> list[OutboxState]:
        """The state of this gateway, after those of the ids that it replaced."""
        return [*self.file.replaced, self.state]

    @property
    def reported_states(self) -> list[OutboxState]:
        """The states to report to the recorder, without replaced ids of which events wait.

        Their counts are those of an older copy, and the recorder would warn of a gateway that uses numbers again.
        """
        return [state for state in self.states if state.replaced or state.gateway_id == self.gateway_id]

    @property
    def keys(self) -> Mapping[str, GatewayKey]:
        """The key pairs of this gateway's id and of those that it replaced; an earlier version's has none."""
        return self.file.keys

    async def append(self, event: bytes, record: IdempotencyRecord | None = None) -> bytes | None:
        """Store `event`; return once it is on disk. A repeated key stores nothing and returns the earlier response.

        Raises:
            OutboxError: the event could not be written; nothing was stored.
            IdempotencyKeyReusedError: the key was used with another request.

        """
        if self._closing or b"\n" in event:
            raise OutboxError("the outbox is closing" if self._closing else "an event is one line")
        stored: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._gathered.append(_Append(event, record, stored))
        if self._commits is None:
            self._commits = asyncio.create_task(self._commit_gathered())
        return await stored

    async def delivered(self) -> None:
        """Wait until all events that are stored now are durable elsewhere."""
        last = self._next_seq - 1
        while self._oldest <= last:
            await self._discarded.wait()

    async def segments(self, most_events: int) -> list[Segment]:
        """Return the oldest segments of one gateway id, about `most_events` events, but at least one if there is any.

        Raises:
            OutboxError: they could not be read.

        """
        try:
            gateway_id, rows = await self._run(self.file.read, most_events)
        except sqlite3.Error as error:
            raise OutboxError.of("the outbox cannot be read", error) from error
        return [[Delivery(gateway_id, first + i, event) for i, event in enumerate(events)] for first, events in rows]

    async def discard(self, segments: list[Segment]) -> None:
        """Remove segments of one gateway id that are durable elsewhere. Cancelling the caller does not interrupt it.

        Raises:
            OutboxError: they could not be removed, and will be sent again.

        """
        if segments:
            await asyncio.shield(asyncio.ensure_future(self._discard(segments)))

    async def _discard(self, segments: list[Segment]) -> None:
        try:
            gateway_id, first_seqs = segments[0][0].gateway_id, [segment[0].seq for segment in segments]
            self._oldest = await self._run(self.file.delete, gateway_id, first_seqs)
        except sqlite3.Error as error:
            raise OutboxError.of("the outbox cannot be written", error) from error
        self._discarded.set()
        self._discarded = asyncio.Event()
        self.pending -= sum(len(segment) for segment in segments)
        if not self.pending:
            self.filled.clear()

    def _read_account(self) -> None:
        file = self.file
        self.gateway_id, self._next_seq = file.gateway_id, file.next_seq
        self._oldest, self.pending = file.oldest, file.pending

    async def _commit_gathered(self) -> None:
        try:
            while self._gathered:
                # Skip appends whose caller was cancelled: its client got an error, so nothing may be stored.
                batch = [append for append in self._gathered if not append.stored.done()]
                self._gathered = []
                if batch:
                    await self._commit(batch)
        finally:
            self._commits = None

    async def _commit(self, batch: list[_Append]) -> None:
        try:
            events = [(append.event, append.record) for append in batch]
            results, added = await self._run(self.file.write, events, self._next_seq)
        except Exception as error:  # noqa: BLE001 - any error must reach the waiting callers
            for append in batch:
                if not append.stored.done():
                    append.stored.set_exception(OutboxError.of("the outbox cannot be written", error))
            return
        if added:
            self._next_seq += added
            self.pending += added
            self.filled.set()
        for append, result in zip(batch, results, strict=True):
            if append.stored.done():  # its request was cancelled during the commit; the event is stored
                continue
            if isinstance(result, Exception):
                append.stored.set_exception(result)
            else:
                append.stored.set_result(result)

    def _run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> asyncio.Future[Result]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
