"""The outbox: a SQLite file that holds every answer from before it is given until it is recorded elsewhere.

One thread owns the only connection that writes (SQLite before 3.51.3 can corrupt a WAL that two connections write).
Appends that arrive while a commit is running share the next one (group commit): one row of `outbox` is one commit,
its events joined by newlines, so that the cost of SQLite and of handing the GIL over is paid per commit, not per
event. `seq` is the place of an event in everything this gateway ever answered: from 1, without gaps.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from shared.transport import Delivery, OutboxState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (gateway_id TEXT NOT NULL, next_seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (first_seq INTEGER PRIMARY KEY, events INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answered (
    id TEXT PRIMARY KEY, request_hash BLOB NOT NULL, response BLOB, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answered_expires ON answered (expires) WHERE response IS NOT NULL;
"""
_OLDEST = "SELECT coalesce((SELECT min(first_seq) FROM outbox), (SELECT next_seq FROM account))"
# An id stays taken for ever: its row is somebody's. Only the response is forgotten, some at a time.
_FORGET = """
UPDATE answered SET response = NULL WHERE id IN (
    SELECT id FROM answered WHERE response IS NOT NULL AND expires < ? ORDER BY expires LIMIT 100
)
"""


class OutboxError(Exception):
    """The outbox cannot take the answer, so it must not be given; the message says why."""


class KeyReusedError(Exception):
    """The `Idempotency-Key` was used before with another request."""


class AnswerForgottenError(Exception):
    """The request was answered before under this `Idempotency-Key`, too long ago to repeat the answer."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """What a repeatable request adds: its id, the hash of what was asked, and the response to repeat."""

    id: str
    request_hash: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """The events of one commit, the first of which is number `first_seq`."""

    first_seq: int
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class _Opened:
    connection: sqlite3.Connection
    gateway_id: str
    next_seq: int
    oldest: int
    pending: int


@dataclass(slots=True)
class _Append:
    event: bytes
    keyed: Keyed | None
    stored: asyncio.Future[bytes | None]


_Outcome = bytes | KeyReusedError | AnswerForgottenError | None
"""Of one append: stored now, stored before with this response, or refused."""


class Outbox:
    """Open with `Outbox.open`, close with `close`. All methods belong to the event loop that opened it."""

    def __init__(self, opened: _Opened, thread: ThreadPoolExecutor, *, keep_answers: float) -> None:
        """Take over an opened file; `keep_answers` is for how many seconds keyed answers are repeated."""
        self._connection = opened.connection
        self._thread = thread
        self._keep_answers = keep_answers
        self.gateway_id = opened.gateway_id
        self._next_seq, self._oldest, self.pending = opened.next_seq, opened.oldest, opened.pending
        self._gathered: list[_Append] = []
        self._commits: asyncio.Task[None] | None = None
        self._closing = False
        self._discarded = asyncio.Event()
        self.filled = asyncio.Event()
        if self.pending:
            self.filled.set()

    @classmethod
    async def open(cls, path: Path, *, keep_answers: float) -> Outbox:
        """Open or create the file at `path`.

        Raises:
            OutboxError: it cannot be opened or written.

        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        try:
            opened = await asyncio.get_running_loop().run_in_executor(thread, _open, path)
        except (sqlite3.Error, OSError) as error:
            thread.shutdown()
            used = "; does another gateway use it?" if "locked" in str(error) else ""
            raise OutboxError(f"{path}: the outbox cannot be opened ({error}{used})") from error
        return cls(opened, thread, keep_answers=keep_answers)

    async def close(self) -> None:
        """Finish what was begun, and close the file."""
        self._closing = True
        while self._commits is not None:
            await asyncio.wait({self._commits})
        await self._run(self._connection.close)
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
            rows = await self._run(self._read, most_events)
        except sqlite3.Error as error:
            raise OutboxError(f"the outbox cannot be read ({error})") from error
        return [
            Segment(
                first,
                tuple(Delivery(self.gateway_id, first + i, event) for i, event in enumerate(body.split(b"\n"))),
            )
            for first, body in rows
        ]

    async def discard(self, segments: list[Segment]) -> None:
        """Remove segments that are durable elsewhere. Cancelling the caller does not leave the account half done.

        Raises:
            OutboxError: they could not be removed, and will be handed over again.

        """
        await asyncio.shield(asyncio.ensure_future(self._discard(segments)))

    async def _discard(self, segments: list[Segment]) -> None:
        try:
            self._oldest = await self._run(self._delete, [segment.first_seq for segment in segments])
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
            outcomes, added = await self._run(self._write, batch)
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

    # What follows runs in the outbox's thread.

    def _write(self, batch: list[_Append]) -> tuple[list[_Outcome], int]:
        with _transaction(self._connection) as db:
            outcomes = [None if append.keyed is None else self._claim(append.keyed) for append in batch]
            new = [append.event for append, outcome in zip(batch, outcomes, strict=True) if outcome is None]
            if new:
                body = b"\n".join(new)
                db.execute("INSERT INTO outbox VALUES (?, ?, ?)", (self._next_seq, len(new), body))
                db.execute("UPDATE account SET next_seq = next_seq + ?", (len(new),))
        return outcomes, len(new)

    def _claim(self, keyed: Keyed) -> _Outcome:
        """Take the key, or say what became of whoever took it before."""
        now = time.time()
        self._connection.execute(_FORGET, (now,))
        query = "SELECT request_hash, response FROM answered WHERE id = ?"
        earlier = self._connection.execute(query, (keyed.id,)).fetchone()
        if earlier is None:
            row = (keyed.id, keyed.request_hash, keyed.response, now + self._keep_answers)
            self._connection.execute("INSERT INTO answered VALUES (?, ?, ?, ?)", row)
            return None
        request_hash, response = earlier
        if request_hash != keyed.request_hash:
            return KeyReusedError()
        return AnswerForgottenError() if response is None else bytes(response)

    def _read(self, most_events: int) -> list[tuple[int, bytes]]:
        query = f"SELECT first_seq, body FROM outbox WHERE first_seq < ({_OLDEST}) + ? ORDER BY first_seq"  # noqa: S608
        return self._connection.execute(query, (most_events,)).fetchall()

    def _delete(self, first_seqs: list[int]) -> int:
        with _transaction(self._connection) as db:
            db.executemany("DELETE FROM outbox WHERE first_seq = ?", [(first,) for first in first_seqs])
            oldest: int = db.execute(_OLDEST).fetchone()[0]
        return oldest


def request_hash(inputs: bytes) -> bytes:
    """Hash what was asked, to tell a retry from another request under the same key."""
    return hashlib.sha256(inputs).digest()


def _open(path: Path) -> _Opened:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(0o600)
    connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # one gateway per file, and no shared-memory file
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
        gateway_id, next_seq = _account(connection)
        oldest: int = connection.execute(_OLDEST).fetchone()[0]
        pending: int = connection.execute("SELECT coalesce(sum(events), 0) FROM outbox").fetchone()[0]
    except sqlite3.Error:
        connection.close()
        raise
    return _Opened(connection, gateway_id, next_seq, oldest, pending)


def _account(connection: sqlite3.Connection) -> tuple[str, int]:
    row = connection.execute("SELECT gateway_id, next_seq FROM account").fetchone()
    if row is None:
        row = (str(uuid.uuid4()), 1)
        connection.execute("INSERT INTO account VALUES (?, ?)", row)
    return row[0], row[1]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
