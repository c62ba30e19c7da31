"""What analysts get: the view, the dictionary, and on PostgreSQL a role that may read these two and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from services.recorder.analysts.dictionary import keep_dictionary
from services.recorder.analysts.views import quoted, refresh_view, view_name
from services.recorder.db.database import DATABASE_ERRORS, reason
from services.recorder.db.migrate import lock
from services.recorder.db.tables import DICCIONARIO

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from services.recorder.db.database import Writer
    from shared.patient import Patient

ROLE = "predecir_analista"
"""A role without login: people get logins of their own that are members of it."""
_LOCK_WAIT = "5s"
_log = structlog.get_logger()


async def serve_analysts(writer: Writer, patient: type[Patient]) -> None:
    """Bring view, dictionary and role in step with `patient`.

    It never keeps the recorder from starting: an analyst's long query, or a view of theirs on top of ours, may be in
    the way. Then the former view stays, a log line says why, and the next start tries again.
    """
    try:
        advice = await writer.transaction(partial(_serve, patient))
    except DATABASE_ERRORS as error:
        _log.warning("analysts_view_not_refreshed", view=view_name(patient), reason=reason(error))
        return
    if advice:
        _log.warning("analysts_role_missing", role=ROLE, run_as_administrator=advice)


def _serve(patient: type[Patient], connection: Connection) -> str | None:
    lock(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
    if refresh_view(connection, patient):
        _log.info("analysts_view_refreshed", view=view_name(patient))
    keep_dictionary(connection, patient, datetime.now(UTC))
    return _grant(connection, view_name(patient)) if connection.dialect.name == "postgresql" else None


def _grant(connection: Connection, view: str) -> str | None:
    """Let the role read; returns the SQL for an administrator if there is no such role and we may not create it."""
    grant = f"GRANT SELECT ON {quoted(view)}, {DICCIONARIO.name} TO {ROLE}"
    if not _role_exists(connection) and not _create_role(connection):
        return f"CREATE ROLE {ROLE} NOLOGIN; {grant};"
    held = "SELECT has_table_privilege(:role, :view, 'SELECT') AND has_table_privilege(:role, :dictionary, 'SELECT')"
    names = {"role": ROLE, "view": quoted(view), "dictionary": DICCIONARIO.name}
    if not connection.execute(text(held), names).scalar_one():
        connection.exec_driver_sql(grant)
    return None


def _role_exists(connection: Connection) -> bool:
    found = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": ROLE})
    return found.scalar_one_or_none() is not None


def _create_role(connection: Connection) -> bool:
    may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if not connection.exec_driver_sql(may).scalar_one():
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE ROLE {ROLE} NOLOGIN")
    except DBAPIError:  # roles belong to the whole server: a recorder of another database may have been first
        return _role_exists(connection)
    return True
