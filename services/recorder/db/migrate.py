"""Bring the tables up to this code's schema, at every start; safe when several recorders start at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from shared.web.hosting import StartError

if TYPE_CHECKING:
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parents[1] / "migrations"
_LOCK = 0x70726564  # "pred": any number that only we use in this database


def migrate(connection: Connection) -> None:
    """Upgrade inside the transaction of `connection`, all or nothing.

    Whoever comes second waits for the first, reads the version after that, and finds nothing to do.

    Raises:
        StartError: the tables were made by newer code.

    """
    lock(connection)
    try:
        command.upgrade(alembic_config(connection), "head")
    except CommandError as error:
        message = f"the database's tables cannot be brought up to date: {error}; was it used by a newer version?"
        raise StartError(message) from None


def lock(connection: Connection) -> None:
    """Let only one recorder at a time change tables and views, until the end of the transaction.

    SQLite's writing transaction began with BEGIN IMMEDIATE, which is enough; PostgreSQL takes an advisory lock.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def alembic_config(connection: Connection) -> Config:
    """Describe our migrations to Alembic, to be run over `connection`."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
