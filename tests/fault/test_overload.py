"""More concurrent requests than admitted: some are answered and recorded, the others get a Retry-After."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from chaos.load.arrivals import Load, PhaseStats
from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.bundles import make_bundle
from tests.support.database import is_settled, query
from tests.support.processes import running
from tests.support.waiting import until_now

PATIENT = {"edad": 47, "sexo": "F", "tsh": 1.5}
CLIENTS = 64
ROOM = 4


async def crowd(url: str) -> tuple[PhaseStats, list[str]]:
    """Send requests with `CLIENTS` clients for two seconds; return the responses, and the ids of all answers."""
    async with Load(int(urlsplit(url).port or 0), [b'{"edad":47,"sexo":"F","tsh":1.5}']) as load:
        return await load.keep_asking(CLIENTS, 2), load.answered


def test_under_overload_every_rejection_has_retry_after(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    with running("services.local", tmp_path, {"GATEWAY_MAX_IN_FLIGHT": str(ROOM)}) as process:
        seen, answered = asyncio.run(crowd(process.url))
        assert set(seen.latencies) == {200, 503}
        assert len(answered) == len(seen.latencies[200]) >= ROOM
        assert seen.without_retry_after == 0
        refused = next(line for line in process.get("/metrics").text.splitlines() if '_total{rule="saturado"}' in line)
        assert float(refused.split()[1]) == len(seen.latencies[503])
        after = plain_http.post(f"{process.url}/predecir", json=PATIENT, timeout=30)
        assert after.status_code == 200
        until_now(lambda: is_settled(process), seconds=60)
        assert process.errors().count("request_rejected") <= 60  # not one for each
    rows = {row[0] for row in query(tmp_path, "SELECT id FROM predicciones")}
    assert rows == {*answered, after.json()["id"]}
