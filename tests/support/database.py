"""Queries on a local profile's database and accounts, as an analyst runs them."""

import sqlite3
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


def is_settled(process: Process) -> bool:
    """Return whether every answer is accounted for and has left the outbox."""
    account = process.get("/conciliacion").json()
    return account["diferencia"] == 0 and all(gateway["en_outbox"] == 0 for gateway in account["gateways"])
