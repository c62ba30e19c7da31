"""Repeated `kill -9` of the local process under load: every answer is recorded once."""

import asyncio
import random
from pathlib import Path

import httpx

from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.database import is_settled, query
from tests.support.processes import running
from tests.support.waiting import until_now
from tests.support.zygote import Forked, Zygote

KILLS = 20
CLIENTS = 16
LONGEST_LIFE = 0.8


async def _ask(client: httpx.AsyncClient, answered: list[str], said: list[str], number: int) -> None:
    """Send requests and feedback until the process dies; only complete responses count."""
    while True:
        patient = {"edad": number % 100, "sexo": "F", "tsh": 1 + len(answered) % 50}
        try:
            response = await client.post("/predecir", json=patient)
            if response.status_code == 200:
                answered.append(response.json()["id"])
                response = await client.post(f"/predicciones/{answered[-1]}/resultado", json={"aceptada": True})
                if response.status_code == 200:
                    said.append(response.json()["id"])
        except httpx.TransportError:
            return


async def _loaded_until_killed(process: Forked, said: list[str], seconds: float) -> list[str]:
    answered: list[str] = []
    async with httpx.AsyncClient(base_url=process.listens(), timeout=60) as client, asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(_ask(client, answered, said, number))
        asyncio.get_running_loop().call_later(seconds, process.kill)
    return answered


def test_twenty_kills_under_load_lose_and_double_nothing(tmp_path: Path, services: Zygote) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    seed = random.Random(20)  # noqa: S311 - when to kill, repeatably
    answered: list[str] = []
    said: list[str] = []
    for _ in range(KILLS):
        with services.running("services.local", tmp_path) as process:
            answered += asyncio.run(_loaded_until_killed(process, said, seed.uniform(0.05, LONGEST_LIFE)))
    with running("services.local", tmp_path) as process:
        until_now(lambda: is_settled(process), seconds=60)
        account = process.get("/conciliacion").json()
    recorded = [row[0] for row in query(tmp_path, "SELECT id FROM predicciones")]
    assert len(answered) > KILLS * 10
    assert len(answered) == len(set(answered))
    assert set(answered) <= set(recorded)
    assert len(recorded) == len(set(recorded))
    outcomes = [row[0] for row in query(tmp_path, "SELECT id FROM resultados")]
    assert len(said) > KILLS
    assert set(said) <= set(outcomes)
    assert account["diferencia"] == 0
    assert [gateway["respondidas"] for gateway in account["gateways"]] == [len(recorded) + len(outcomes)]
    assert query(tmp_path, "SELECT count(*) FROM cuarentena") == [(0,)]
