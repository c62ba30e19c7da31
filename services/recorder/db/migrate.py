"""Migration of the tables to the newest revision, at every start; safe when several recorders start at once."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, inspect

from services.recorder.db.tables import OF_EVENTS
from shared.web.hosting import StartError

MIGRATIONS = Path(__file__).parents[1] / "migrations"
_LOCK = 0x70726564  # "pred": any number that only we use in this database


@dataclass(frozen=True, slots=True)
class Migrated:
    """The revision of the tables before and after a migration; None before there were tables."""

    before: str | None
    after: str | None


def migrate(connection: Connection) -> Migrated:
    """Upgrade inside the transaction of `connection`, all or nothing.

    A second recorder waits for the first, then reads the revision and finds nothing to do.

    Raises:
        StartError: the tables were created by newer code, one is missing, or the database cannot store every text.

    """
    lock(connection)
    _check_encoding(connection)
    before = revision(connection)
    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        message = f"the tables of the database cannot be upgraded: {error}; did a newer version create them?"
        raise StartError(message) from None
    _check_tables(connection)
    return Migrated(before, revision(connection))


def _check_tables(connection: Connection) -> None:
    """Check that no table is missing; a database at the newest revision is not looked at by Alembic.

    Raises:
        StartError: one was dropped or renamed.

    """
    existing = inspect(connection)
    missing = [table.name for table in OF_EVENTS if not existing.has_table(table.name)]
    if missing:
        raise StartError(
            f"the database lacks {', '.join(missing)}: dropped or renamed by another program; restore a backup"
        )


def _check_encoding(connection: Connection) -> None:
    """Check that the database is in UTF-8. Another encoding lacks characters, or checks none, or sorts otherwise.

    Raises:
        StartError: it is not.

    """
    query = "SHOW server_encoding" if connection.dialect.name == "postgresql" else "PRAGMA encoding"
    encoding = connection.exec_driver_sql(query).scalar_one()
    if encoding not in {"UTF8", "UTF-8"}:
        advice = "create another one, on PostgreSQL with ENCODING 'UTF8' TEMPLATE template0, and change DATABASE_URL"
        raise StartError(f"the database's encoding is {encoding} and must be UTF-8; {advice}")


def revision(connection: Connection) -> str | None:
    """Return the revision of the tables, or None if there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def lock(connection: Connection) -> None:
    """Lock tables and views against changes by other recorders until the end of the transaction.

    On SQLite, the BEGIN IMMEDIATE of the transaction is enough; PostgreSQL takes an advisory lock.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for our migrations on `connection`."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
