"""Migration of the tables to the newest revision, at every start; safe when several recorders start at once."""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection

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
        StartError: the tables were created by newer code.

    """
    lock(connection)
    before = _revision(connection)
    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        message = f"the tables of the database cannot be upgraded: {error}; did a newer version create them?"
        raise StartError(message) from None
    return Migrated(before, _revision(connection))


def _revision(connection: Connection) -> str | None:
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
