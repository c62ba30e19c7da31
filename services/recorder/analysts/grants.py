"""Access of analysts: the view, the data dictionary, and on PostgreSQL a role that reads only these two."""

from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from services.recorder.analysts.dictionary import update_dictionary
from services.recorder.analysts.views import quoted, refresh_view, view_name
from services.recorder.db.database import DATABASE_ERRORS, Writer, reason
from services.recorder.db.migrate import lock
from services.recorder.db.tables import DICCIONARIO
from shared.patient import Patient

ROLE = "predecir_analista"
"""A role without login; the logins of persons are members of it."""
_LOCK_TIMEOUT = "5s"
_log = structlog.get_logger()


async def serve_analysts(writer: Writer, patient: type[Patient], zone: ZoneInfo) -> bool:
    """Update view, dictionary and role to `patient`, the view's local day in `zone`; return whether that succeeded.

    A failure never keeps the recorder from starting: a long query of an analyst may hold a lock, or an analyst's view
    may depend on ours. Then the former view stays, the reason is logged, and the next start tries again.
    """
    try:
        advice = await writer.at_opening(partial(_serve, patient, zone))
    except DATABASE_ERRORS as error:
        _log.warning("analysts_view_not_refreshed", view=view_name(patient), reason=reason(error))
        return False
    if advice:
        _log.warning("analysts_role_missing", role=ROLE, run_as_administrator=advice)
    return True


def _serve(patient: type[Patient], zone: ZoneInfo, connection: Connection) -> str | None:
    lock(connection)
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        # A view with a zone that PostgreSQL does not know could be created, but not queried.
        connection.execute(text("SELECT now() AT TIME ZONE :zone"), {"zone": zone.key})
    if refresh_view(connection, patient, zone):
        _log.info("analysts_view_refreshed", view=view_name(patient))
    update_dictionary(connection, patient, zone, datetime.now(UTC))
    return _grant(connection, view_name(patient)) if connection.dialect.name == "postgresql" else None


def _grant(connection: Connection, view: str) -> str | None:
    """Grant reading to the role; return SQL for an administrator if the role is missing and we may not create it."""
    grant = f"GRANT SELECT ON {quoted(view)}, {DICCIONARIO.name} TO {ROLE}"
    if not _role_exists(connection) and not _create_role(connection):
        return f"CREATE ROLE {ROLE} NOLOGIN; {grant};"
    granted = "SELECT has_table_privilege(:role, :view, 'SELECT') AND has_table_privilege(:role, :dictionary, 'SELECT')"
    names = {"role": ROLE, "view": quoted(view), "dictionary": DICCIONARIO.name}
    if not connection.execute(text(granted), names).scalar_one():
        connection.exec_driver_sql(grant)
    return None


def _role_exists(connection: Connection) -> bool:
    query = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    return connection.execute(query, {"role": ROLE}).scalar_one_or_none() is not None


def _create_role(connection: Connection) -> bool:
    allowed = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if not connection.exec_driver_sql(allowed).scalar_one():
        return False
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE ROLE {ROLE} NOLOGIN")
    except DBAPIError:  # roles belong to the whole server: another recorder may have created it
        return _role_exists(connection)
    return True
