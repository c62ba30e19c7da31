"""The table `claves_gateway`: gateways whose messages are recorded, and those that are revoked for good."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from services.recorder.db.inserts import insert_new
from services.recorder.db.migrate import lock
from services.recorder.db.tables import CLAVES
from shared.contracts.gateway_proof import gateway_id_of

Origin = Literal["secreto", "operador"]
"""How a gateway was enrolled: by the site's enrolment secret, or by a command."""
BY_SECRET: Origin = "secreto"  # noqa: S105 - a word of the table, no password
BY_OPERATOR: Origin = "operador"


class EnrolmentError(Exception):
    """A gateway that is not enrolled or revoked as requested. The message is the reason."""


@dataclass(frozen=True, slots=True)
class EnrolledKey:
    """A row of the table; `revoked` is None while the gateway's messages are recorded."""

    gateway_id: str
    public_key: str
    origin: str
    enrolled: datetime
    revoked: datetime | None


async def read_keys(readers: AsyncEngine) -> list[EnrolledKey]:
    """Return all rows, in the order of their enrolment."""
    async with readers.connect() as connection:
        rows = await connection.execute(select(CLAVES).order_by(CLAVES.c.alta, CLAVES.c.gateway_id))
        return [EnrolledKey(row.gateway_id, row.clave, row.origen, row.alta, row.baja) for row in rows]


async def read_standing(readers: AsyncEngine) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids of the enrolled gateways, and of the revoked ones."""
    async with readers.connect() as connection:
        rows = (await connection.execute(select(CLAVES.c.gateway_id, CLAVES.c.baja.is_(None)))).all()
    enrolled = frozenset(gateway_id for gateway_id, believed in rows if believed)
    return enrolled, frozenset(gateway_id for gateway_id, _ in rows) - enrolled


def enrol(
    connection: Connection, public_key: bytes, origin: Origin, now: datetime, *, limit: int | None = None
) -> bool:
    """Enrol the gateway with this raw public key; return False if it is enrolled already.

    Raises:
        EnrolmentError: it is revoked, or `limit` gateways are enrolled.

    """
    lock(connection)  # of two recorders at the limit, one comes second
    gateway_id, table = gateway_id_of(public_key), CLAVES.c
    row = connection.execute(select(table.baja).where(table.gateway_id == gateway_id)).one_or_none()
    if row is not None:
        if row.baja is not None:
            raise EnrolmentError("its gateway is revoked")
        return False
    enrolled = connection.execute(select(func.count()).where(table.baja.is_(None))).scalar_one()
    if limit is not None and enrolled >= limit:
        raise EnrolmentError(f"its gateway is unknown, and {enrolled} are enrolled (RECORDER_MAX_GATEWAYS)")
    insert_new(connection, CLAVES, [(gateway_id, public_key.hex(), origin, now, None)])
    return True


def revoke(connection: Connection, gateway_id: str, now: datetime) -> None:
    """Revoke a gateway for good; one that is revoked keeps its time.

    Raises:
        EnrolmentError: no such gateway was enrolled.

    """
    table = CLAVES.c
    if connection.execute(select(table.gateway_id).where(table.gateway_id == gateway_id)).one_or_none() is None:
        raise EnrolmentError("no such gateway was enrolled; `gateways list` shows all")
    connection.execute(update(CLAVES).where(table.gateway_id == gateway_id, table.baja.is_(None)).values(baja=now))


def merge_keys(rows: Sequence[dict[str, Any]], connection: Connection) -> None:
    """Insert the `rows` of another database; a gateway that is revoked there is revoked here, too."""
    if not rows:
        return
    table = CLAVES.c
    insert_new(connection, CLAVES, [tuple(row[column.name] for column in CLAVES.columns) for row in rows])
    for row in rows:
        if row["baja"] is not None:
            same = update(CLAVES).where(table.gateway_id == row["gateway_id"], table.baja.is_(None))
            connection.execute(same.values(baja=row["baja"]))
