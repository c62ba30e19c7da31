"""The outbox's database: one SQLite connection, used by one thread at a time.

One connection, because SQLite before 3.51.3 can corrupt a WAL that two connections write. One row of `outbox` is one
commit, its events joined by newlines: the cost of SQLite, and of the interpreter lock after each of its steps, is
paid per commit and not per event. For the same reason there are few statements.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from services.gateway.outbox.file_identity import file_identity
from shared.contracts.gateway_proof import GatewayKey
from shared.contracts.transport import OutboxState
from shared.failpoints import failpoint
from shared.files import file_version

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (gateway_id TEXT NOT NULL, next_seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS identity (file TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS signing_keys (gateway_id TEXT PRIMARY KEY, private_key BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (first_seq INTEGER PRIMARY KEY, events INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS replaced (gateway_id TEXT PRIMARY KEY, answered INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox_of_replaced (
    gateway_id TEXT NOT NULL, first_seq INTEGER NOT NULL, events INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (gateway_id, first_seq)
);
CREATE TABLE IF NOT EXISTS answered (
    id TEXT PRIMARY KEY, request_hash BLOB NOT NULL, response BLOB, expires REAL NOT NULL
) WITHOUT ROWID;
DROP INDEX IF EXISTS answered_expires; -- of an earlier version, which kept ids without their response for ever
CREATE INDEX IF NOT EXISTS answered_by_expiry ON answered (expires);
"""
# An insert counts its events in the same step and commit. Temporary, so that the schema of the file is unchanged.
_COUNTING = """
CREATE TEMP TRIGGER counting AFTER INSERT ON outbox BEGIN
    UPDATE account SET next_seq = next_seq + new.events;
END
"""
_OLDEST = "SELECT coalesce((SELECT min(first_seq) FROM outbox), (SELECT next_seq FROM account))"
_PENDING = """
SELECT coalesce(sum(events), 0)
FROM (SELECT events FROM outbox UNION ALL SELECT events FROM outbox_of_replaced)
"""
_REPLACED = """
SELECT gateway_id, answered, (SELECT min(first_seq) FROM outbox_of_replaced AS o WHERE o.gateway_id = r.gateway_id)
FROM replaced AS r
"""
_KEY_OF_ACCOUNT = "SELECT 1 FROM account JOIN signing_keys USING (gateway_id)"
_RENEW_ID = (
    "INSERT INTO replaced SELECT gateway_id, next_seq - 1 FROM account",
    "INSERT INTO outbox_of_replaced SELECT gateway_id, outbox.* FROM account, outbox",
    "DELETE FROM outbox",
)
# Some at a time, but more than are added. An id that is used again afterwards is refused by the recorder's primary key.
_FORGET = """
DELETE FROM answered WHERE id IN (SELECT id FROM answered WHERE expires <= ? ORDER BY expires LIMIT ?)
"""
_FORGOTTEN_PER_KEY = 4


class IdempotencyKeyReusedError(Exception):
    """The `Idempotency-Key` was used with another request."""


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """Record of a request with an `Idempotency-Key`: its id, the hash of the request, and the response to repeat."""

    id: str
    request_hash: bytes
    response: bytes


AppendResult = bytes | IdempotencyKeyReusedError | None
"""Result of one append: None if stored now, the earlier response if stored before, or the error."""


class OutboxFile:
    """All methods raise `sqlite3.Error` if the file cannot be read or written; then they changed nothing.

    `next_seq`, `oldest` and `pending` are as of the opening; `Outbox` updates its own from then on. `replaced` has the
    states of gateway ids that the file had before: they number no more events. `renewed` is the one that was replaced
    since the opening, if any. `keys` has the key pair of each id, but not of the UUIDs of earlier versions.
    """

    gateway_id: str
    next_seq: int
    oldest: int
    pending: int
    replaced: list[OutboxState]
    renewed: str | None = None
    keys: dict[str, GatewayKey]

    def __init__(self, path: Path, *, keep_answers: float) -> None:
        """Open or create the file at `path`; responses are repeated for `keep_answers` seconds.

        A copy of the file that was opened last takes another gateway id: it may be an older one, from a backup, and
        would use numbers again that were used since. So does a file of an earlier version, whose id has no key.

        Raises:
            OSError: its folder cannot be made, or only its WAL is there.

        """
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_wal(path)
        path.touch(0o600)
        self._keep_answers = keep_answers
        self.connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
        try:
            self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # one gateway per file, and no shared memory
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute("PRAGMA temp_store = MEMORY")
            self.connection.executescript(_SCHEMA)
            self.connection.execute(_COUNTING)
            self._open_account(file_identity(path))
        except (sqlite3.Error, OSError):
            self.connection.close()
            raise

    def write(
        self, batch: Sequence[tuple[bytes, IdempotencyRecord | None]], first_seq: int
    ) -> tuple[list[AppendResult], int]:
        """Commit the events of `batch` as one row; return the result of each, and the number that was stored."""
        now, keys = time.time(), sum(record is not None for _, record in batch)
        # Without keys it is one statement, which SQLite commits by itself.
        with _transaction(self.connection) if keys else nullcontext():
            if keys:
                self.connection.execute(_FORGET, (now, keys * _FORGOTTEN_PER_KEY))
            results = [None if record is None else self._claim(record, now) for _, record in batch]
            new = [event for (event, _), result in zip(batch, results, strict=True) if result is None]
            failpoint("outbox.write")
            if new:
                row = (first_seq, len(new), b"\n".join(new))
                self.connection.execute("INSERT INTO outbox VALUES (?, ?, ?)", row)
        failpoint("outbox.written")
        return results, len(new)

    def renew_id(self) -> None:
        """Take another gateway id, which numbers from 1. Events that wait keep their id and number."""
        with _transaction(self.connection) as db:
            self._renew_id(db)
        self._read_account()

    def read(self, most_events: int) -> tuple[str, list[tuple[int, list[bytes]]]]:
        """Return the oldest rows of one gateway id, replaced ones first: that id, the first `seq` of each, its events.

        It is at least one row if there is any.
        """
        for state in self.replaced:
            if not state.replaced:  # some of its events wait
                query = "SELECT first_seq, body FROM outbox_of_replaced WHERE gateway_id = ? AND first_seq < ?"
                return state.gateway_id, self._rows(query, state.gateway_id, state.oldest_pending + most_events)
        query = f"SELECT first_seq, body FROM outbox WHERE first_seq < ({_OLDEST}) + ?"  # noqa: S608
        return self.gateway_id, self._rows(query, most_events)

    def delete(self, gateway_id: str, first_seqs: Sequence[int]) -> int:
        """Remove rows of `gateway_id`; return the oldest `seq` of the file's own that is left, or the next one."""
        own, listed = gateway_id == self.gateway_id, json.dumps(list(first_seqs))
        with _transaction(self.connection) as db:
            if own:
                db.execute("DELETE FROM outbox WHERE first_seq IN (SELECT value FROM json_each(?))", (listed,))
            else:
                rows = "gateway_id = ? AND first_seq IN (SELECT value FROM json_each(?))"
                db.execute(f"DELETE FROM outbox_of_replaced WHERE {rows}", (gateway_id, listed))  # noqa: S608
            oldest: int = db.execute(_OLDEST).fetchone()[0]
            failpoint("outbox.delete")
        if not own:
            self.replaced = self._replaced()
        return oldest

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _open_account(self, identity: str) -> None:
        """Make the account of a new file, and take another id in a copied one and in one whose id has no key."""
        with _transaction(self.connection) as db:
            if db.execute("SELECT 1 FROM account").fetchone() is None:
                db.execute("INSERT INTO account VALUES (?, 1)", (_new_id(db),))
            known = db.execute("SELECT file FROM identity").fetchone()
            if known is None:  # new, or last opened by a version that did not store it
                db.execute("INSERT INTO identity VALUES (?)", (identity,))
            copied = known not in {None, (identity,)}
            if copied:
                db.execute("UPDATE identity SET file = ?", (identity,))
            if copied or db.execute(_KEY_OF_ACCOUNT).fetchone() is None:
                self._renew_id(db)
        self._read_account()

    def _renew_id(self, db: sqlite3.Connection) -> None:
        (self.renewed,) = db.execute("SELECT gateway_id FROM account").fetchone()
        for statement in _RENEW_ID:
            db.execute(statement)
        db.execute("UPDATE account SET gateway_id = ?, next_seq = 1", (_new_id(db),))

    def _read_account(self) -> None:
        query = self.connection.execute
        self.gateway_id, self.next_seq = query("SELECT gateway_id, next_seq FROM account").fetchone()
        self.oldest = query(_OLDEST).fetchone()[0]
        self.pending = query(_PENDING).fetchone()[0]
        self.replaced = self._replaced()
        self.keys = {gateway_id: GatewayKey(key) for gateway_id, key in query("SELECT * FROM signing_keys")}

    def _replaced(self) -> list[OutboxState]:
        return [
            OutboxState(gateway_id, answered, oldest or answered + 1, replaced=oldest is None)
            for gateway_id, answered, oldest in self.connection.execute(_REPLACED)
        ]

    def _rows(self, query: str, *parameters: str | int) -> list[tuple[int, list[bytes]]]:
        rows = self.connection.execute(f"{query} ORDER BY first_seq", parameters)
        return [(first, body.split(b"\n")) for first, body in rows]

    def _claim(self, record: IdempotencyRecord, now: float) -> AppendResult:
        """Take the id of `record`; if it is taken, return the earlier response or the error."""
        query = "SELECT request_hash, response FROM answered WHERE id = ? AND expires > ? AND response IS NOT NULL"
        earlier = self.connection.execute(query, (record.id, now)).fetchone()
        if earlier is None:
            row = (record.id, record.request_hash, record.response, now + self._keep_answers)
            self.connection.execute("INSERT OR REPLACE INTO answered VALUES (?, ?, ?, ?)", row)
            return None
        request_hash, response = earlier
        if request_hash != record.request_hash:
            return IdempotencyKeyReusedError()
        return bytes(response)


def _new_id(db: sqlite3.Connection) -> str:
    """Make a key pair and return its gateway id."""
    key = GatewayKey.generate()
    db.execute("INSERT INTO signing_keys VALUES (?, ?)", (key.gateway_id, key.private_bytes()))
    return key.gateway_id


def _check_wal(path: Path) -> None:
    """Raise an OSError if there is a WAL without its file: SQLite would delete it."""
    wal = path.with_name(f"{path.name}-wal")
    if not file_version(path)[-1:] > (0,) and file_version(wal)[-1:] > (0,):
        raise OSError(
            f"it is missing or empty, but {wal.name} may have answers that are not recorded; put the file back, or move"
            f" {wal.name} away to begin an empty outbox"
        )


def request_hash(inputs: bytes) -> bytes:
    """Return the SHA-256 of a request, which distinguishes a retry from another request under the same key."""
    return hashlib.sha256(inputs).digest()


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
