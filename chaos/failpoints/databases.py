"""Databases for the kills of recorders: one interface for SQLite and PostgreSQL."""

import secrets
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from tests.support.postgres import PostgresServer

_SECONDS = 120


class Database(Protocol):
    """A database under test."""

    place: ClassVar[str]
    structure: ClassVar[str]
    """A query for its version, every column and every index."""
    views: ClassVar[str]
    """A query for its views."""

    @property
    def url(self) -> str:
        """Its `DATABASE_URL`."""

    def query(self, statement: str) -> list[str]:
        """Return the first column of the result of `statement`."""

    def copy(self) -> "Database":
        """Return a copy of it; no process may use it meanwhile."""

    def drop(self) -> None:
        """Remove it."""


@dataclass(frozen=True, slots=True)
class Sqlite:
    """An SQLite file."""

    path: Path

    place: ClassVar[str] = "SQLite"
    structure: ClassVar[str] = (
        "SELECT 'version ' || version_num FROM alembic_version UNION ALL "
        "SELECT t.name || '.' || c.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table' "
        "UNION ALL SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY 1"
    )
    views: ClassVar[str] = "SELECT name FROM sqlite_master WHERE type = 'view'"

    @property
    def url(self) -> str:
        """Its `DATABASE_URL`."""
        return f"sqlite:///{self.path}"

    def query(self, statement: str) -> list[str]:
        """Return the first column of the result of `statement`."""
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=_SECONDS)) as connection:
            return [str(row[0]) for row in connection.execute(statement)]

    def copy(self) -> "Sqlite":
        """Return a copy of it; no process may use it meanwhile."""
        return Sqlite(Path(shutil.copy(self.path, self.path.with_name(f"{secrets.token_hex(6)}.db"))))

    def drop(self) -> None:
        """Remove it."""
        for end in ("", "-wal", "-shm", "-lock"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database on a PostgreSQL server."""

    server: PostgresServer
    name: str

    place: ClassVar[str] = "PostgreSQL"
    structure: ClassVar[str] = (
        "SELECT 'version ' || version_num FROM alembic_version UNION ALL "
        "SELECT table_name || '.' || column_name FROM information_schema.columns JOIN information_schema.tables "
        "USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE' "
        "UNION ALL SELECT indexname FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    )
    views: ClassVar[str] = "SELECT viewname FROM pg_views WHERE schemaname = 'public'"

    @property
    def url(self) -> str:
        """Its `DATABASE_URL`."""
        return self.server.url(self.name)

    def query(self, statement: str) -> list[str]:
        """Return the first column of the result of `statement`."""
        return [str(value) for value in self.server.query(self.name, statement)]

    def copy(self) -> "Postgres":
        """Return a copy of it; no process may use it meanwhile."""
        name = f"test_{secrets.token_hex(6)}"
        self.server.query("postgres", f"CREATE DATABASE {name} TEMPLATE {self.name}")
        return Postgres(self.server, name)

    def drop(self) -> None:
        """Remove it."""
        self.server.query("postgres", f"DROP DATABASE {self.name} WITH (FORCE)")
