"""Doctors at work: a bounded number of requests at a time, and an account of what was answered."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENT = {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": 4.1, "t4_total": 210, "captacion_t4": 0.9}
_DOCTORS = 8
_PAUSE_SECONDS = 0.02
"""Between two requests of a doctor; it bounds the rate to a few hundred a second."""


@dataclass(slots=True)
class Account:
    """What doctors got."""

    answered: list[str] = field(default_factory=list)
    """Ids of the answers given, in order."""
    refused: list[int] = field(default_factory=list)
    """Status codes of what was not answered."""
    cut: int = 0
    """Connections that ended without a response."""


@asynccontextmanager
async def doctors(url: str, key: str) -> AsyncIterator[Account]:
    """Let doctors ask, one request after the other each, for as long as the body runs."""
    account = Account()
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client, asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(_ask(client, account)) for _ in range(_DOCTORS)]
        yield account
        for doctor in working:
            doctor.cancel()


async def _ask(client: httpx.AsyncClient, account: Account) -> None:
    while True:
        try:
            response = await client.post("/predecir", json=PATIENT)
        except httpx.TransportError:
            account.cut += 1
        else:
            if response.status_code == httpx.codes.OK:
                account.answered.append(response.json()["id"])
            else:
                account.refused.append(response.status_code)
        await asyncio.sleep(_PAUSE_SECONDS)
