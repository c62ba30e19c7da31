"""Queries on a local profile's database and accounts, as an analyst runs them."""

import sqlite3
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.support.processes import Process


def query(folder: Path, sql: str, *parameters: object) -> list[Any]:
    """Return the rows of a query on `predicciones.db` in `folder`, read-only."""
    connection = sqlite3.connect(f"file:{folder / 'predicciones.db'}?mode=ro", uri=True, timeout=60)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def account_of(process: Process) -> dict[str, Any] | None:
    """Return `/conciliacion`; None while the recorder cannot read its database, as when it opens a replaced file."""
    answer = process.get("/conciliacion")
    return answer.json() if answer.status_code == HTTPStatus.OK else None


def is_drained(process: Process) -> bool:
    """Return whether every answer has left the outbox."""
    account = account_of(process)
    return account is not None and _has_empty_outboxes(account)


def is_settled(process: Process) -> bool:
    """Return whether every answer is accounted for and has left the outbox."""
    account = account_of(process)
    return account is not None and account["diferencia"] == 0 and _has_empty_outboxes(account)


def _has_empty_outboxes(account: dict[str, Any]) -> bool:
    return all(gateway["en_outbox"] == 0 for gateway in account["gateways"])
