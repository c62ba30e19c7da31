"""Databases of one test: a new file of SQLite, or a new database of a PostgreSQL server."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.postgres import PostgresServer


class Target(Protocol):
    """A database under test."""

    @property
    def url(self) -> str:
        """Its `DATABASE_URL`."""

    def unwritable(self) -> AbstractContextManager[None]:
        """Reject every write in this context."""

    def open_transactions(self) -> int:
        """Return the number of transactions left open."""


class RefusingTarget(Target, Protocol):
    """A database under test that can refuse rows."""

    def refusing(self, word: str) -> AbstractContextManager[None]:
        """Refuse predictions whose inputs contain `word`, by a trigger, in this context."""


@dataclass(frozen=True)
class SqliteTarget:
    """A new file for each test."""

    path: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """Lock the database meanwhile, as an analyst's program does during a change."""
        other = sqlite3.connect(self.path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")
        finally:
            other.close()

    @contextmanager
    def refusing(self, word: str) -> Iterator[None]:
        """Add a trigger meanwhile; no text is valid JSON, so the statement fails."""
        condition = f"WHEN instr(new.inputs, '{word}') OR '{word}' = ''"
        trigger = f"CREATE TRIGGER refuses BEFORE INSERT ON predicciones {condition} BEGIN SELECT json('no'); END"
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute(trigger)
            yield
            other.execute("DROP TRIGGER refuses")

    def open_transactions(self) -> int:
        other = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return 1
        finally:
            other.close()
        return 0


@dataclass(frozen=True)
class PostgresTarget:
    """A new database for each test."""

    server: PostgresServer
    database: str

    @property
    def url(self) -> str:
        return self.server.url(self.database)

    @contextmanager
    def unwritable(self) -> Iterator[None]:
        """Make the database read-only for new connections, as after a failover to a standby."""
        self._become("SET default_transaction_read_only = on")
        yield
        self._become("RESET default_transaction_read_only")

    @contextmanager
    def refusing(self, word: str) -> Iterator[None]:
        """Add a trigger meanwhile that raises an error of a class of its own."""
        raises = "BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'P0777'; END"
        function = f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {raises} $$"
        condition = f"WHEN (new.inputs::text LIKE '%{word}%')"
        trigger = f"CREATE TRIGGER refuses BEFORE INSERT ON predicciones FOR EACH ROW {condition}"
        self.server.query(self.database, function, f"{trigger} EXECUTE FUNCTION refuse()")
        yield
        self.server.query(self.database, "DROP TRIGGER refuses ON predicciones", "DROP FUNCTION refuse")

    def _become(self, setting: str) -> None:
        cut = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.database}'"  # noqa: S608 - ours
        self.server.query("postgres", f"ALTER DATABASE {self.database} {setting}", cut)

    def open_transactions(self) -> int:
        """Return the number of sessions that are idle in a transaction."""
        where = f"datname = '{self.database}' AND state LIKE 'idle in transaction%'"
        return len(self.server.query("postgres", f"SELECT pid FROM pg_stat_activity WHERE {where}"))  # noqa: S608 - ours
