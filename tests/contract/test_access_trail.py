"""The trail of accesses: the whole system in process behind the edge middleware, with keys from a real file."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.gateway.key_admin import create
from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.contracts.open_inference import INPUT
from shared.diseases.thyroid import DatosPaciente
from shared.web.access_trail import MOST_LINES, AccessTrail, note_access
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.hosting import edge_app, http_app
from shared.web.middleware import EdgeMiddleware
from shared.web.rejections import Rejections
from tests.support.bundles import make_bundle
from tests.support.waiting import until

PATIENT = {"edad": 47, "sexo": "F", "tsh": 0.0517}
REFERENCE = "HC 2026/0417"


class Log:
    """Collects lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, lines: Sequence[dict[str, Any]]) -> None:
        self.lines += lines


class System:
    """The local profile behind its edge, a key of each role, and the lines of its trail."""

    def __init__(
        self, client: httpx.AsyncClient, keys: dict[Role, tuple[str, str]], trail: AccessTrail, log: Log
    ) -> None:
        self.client, self.keys, self._trail, self._log = client, keys, trail, log

    async def request(self, role: Role, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        """Send a request with the key of `role`."""
        headers = {"Authorization": f"Bearer {self.keys[role][0]}"}
        return await self.client.request(method, path, headers=headers, **options)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines since the last call, without their time."""
        self._trail.flush()
        lines, self._log.lines = self._log.lines, []
        return [{name: value for name, value in line.items() if name != "timestamp"} for line in lines]

    def line(self, role: Role, route: str, **subject: object) -> dict[str, object]:
        """Return the line of one accepted request."""
        about = {"event": "patients_accessed", "level": "info", "service": "local"}
        return {"caller": self.keys[role][1], "route": route, "status": 200, **subject, **about}


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    monkeypatch.chdir(tmp_path)  # where the local profile keeps its database
    make_bundle(tmp_path / "var", DatosPaciente)
    settings, log = GatewaySettings(), Log()
    made = {role: create(settings.keys_file, role) for role in Role}
    keys = {role: (key, entry.id) for role, (key, entry) in made.items()}
    trail, registry = AccessTrail("local", log.write), CollectorRegistry()
    async with open_local(settings, registry) as parts:
        app = http_app("test", *parts, registry=registry)
        edge = edge_app(app, "localhost", ApiKeyStore(settings.keys_file), trail=trail)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as client:
            yield System(client, keys, trail, log)


async def predicted(system: System) -> str:
    """Return the id of an answer that is recorded."""
    answer = (await system.request(Role.MEDICO, "POST", "/predecir", json=PATIENT)).json()

    async def recorded() -> bool:
        one = await system.request(Role.ANALISTA, "GET", f"/predicciones/{answer['id']}")
        return one.status_code == 200

    await until(recorded)
    identifier: str = answer["id"]
    return identifier


async def test_each_accepted_request_about_patients_leaves_one_line(system: System) -> None:
    of = await predicted(system)
    assert system.lines() == [
        system.line(Role.MEDICO, "POST /predecir", prediction=of),
        system.line(Role.ANALISTA, "GET /predicciones/{id}", prediction=of),
    ]
    await system.request(Role.MEDICO, "POST", f"/predicciones/{of.upper()}/resultado", json={"aceptada": True})
    assert system.lines() == [system.line(Role.MEDICO, "POST /predicciones/{id}/resultado", prediction=of)]
    await system.request(Role.MEDICO, "POST", "/explicar", json=PATIENT)
    assert system.lines() == [system.line(Role.MEDICO, "POST /explicar", rows=1)]
    await system.request(Role.MEDICO, "POST", "/referencias", json={"referencia": REFERENCE})
    assert system.lines() == [system.line(Role.MEDICO, "POST /referencias", rows=1)]
    for role in (Role.MEDICO, Role.ANALISTA):
        await system.request(role, "GET", "/predicciones?limite=500&output=hipertiroidismo&modelo_version=8")
        assert system.lines() == [system.line(role, "GET /predicciones", rows=0)]
        await system.request(role, "GET", "/predicciones")
        assert system.lines() == [system.line(role, "GET /predicciones", rows=1)]


@pytest.mark.parametrize("route", ["/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"])
async def test_inference_leaves_a_line_with_the_number_of_rows(system: System, route: str) -> None:
    [about] = [(await system.request(Role.OPS, "GET", "/v2/models/tiroides")).json()]
    path = route.format(name="tiroides", version=about["versions"][0])
    row = DatosPaciente.model_validate(PATIENT).encode()
    data = [None if value != value else value for value in row] * 3  # noqa: PLR0124 - NaN
    tensor = {"name": INPUT, "datatype": "FP32", "shape": [3, len(row)], "data": data}
    response = await system.request(Role.SERVICIO, "POST", path, json={"inputs": [tensor]})
    assert response.status_code == 200, response.text
    [line] = system.lines()
    assert line["route"] in {f"POST {path}", f"POST {route}"}  # the hot route has no parameters
    assert line == system.line(Role.SERVICIO, line["route"], rows=3)


async def test_what_is_rejected_or_about_no_patient_leaves_no_line(system: System) -> None:
    rejected = [
        (Role.OPS, "GET", "/predicciones", None),
        (Role.ANALISTA, "GET", f"/predicciones?referencia={'5f' * 32}", None),
        (Role.MEDICO, "GET", "/predicciones/01890a5d-ac96-774b-bcce-b302099a8057", None),
        (Role.MEDICO, "POST", "/predecir", {"edad": "47"}),
        (Role.MEDICO, "POST", "/predicciones/1/resultado", {"aceptada": True}),
        (Role.SERVICIO, "POST", "/v2/models/tiroides/infer", {}),
    ]
    accepted = [
        (Role.OPS, "GET", "/metrics", None),
        (Role.OPS, "GET", "/conciliacion", None),
        (Role.OPS, "GET", "/v2/models/tiroides", None),
        (Role.MEDICO, "GET", "/openapi.json", None),
    ]
    for role, method, path, body in rejected:
        assert (await system.request(role, method, path, json=body)).is_client_error, path
    for role, method, path, body in accepted:
        assert (await system.request(role, method, path, json=body)).is_success, path
    assert (await system.client.get("/")).is_success
    assert system.lines() == []


async def test_no_line_has_a_value_a_reference_or_a_key(system: System) -> None:
    await predicted(system)
    await system.request(Role.MEDICO, "POST", "/referencias", json={"referencia": REFERENCE})
    await system.request(Role.MEDICO, "GET", f"/predicciones?referencia={'5f' * 32}")
    lines = str(system.lines())
    assert not any(text in lines for text in ("0.0517", REFERENCE, "5f5f", "?", "pdk_"))


async def test_prediction_and_feedback_are_recorded_with_the_id_of_the_key(system: System) -> None:
    of = await predicted(system)
    await system.request(Role.MEDICO, "POST", f"/predicciones/{of}/resultado", json={"aceptada": True})

    async def answered() -> dict[str, Any]:
        one: dict[str, Any] = (await system.request(Role.ANALISTA, "GET", f"/predicciones/{of}")).json()
        return one

    async def recorded() -> bool:
        return (await answered())["resultado"] is not None

    await until(recorded)
    one = await answered()
    assert [one["clave_id"], one["resultado"]["clave_id"]] == [system.keys[Role.MEDICO][1]] * 2


async def test_without_keys_there_is_neither_a_line_nor_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "var", DatosPaciente)
    settings, log, registry = GatewaySettings(), Log(), CollectorRegistry()
    trail = AccessTrail("local", log.write)
    async with open_local(settings, registry) as parts:
        app = http_app("test", *parts, registry=registry)
        edge = edge_app(app, "localhost", ApiKeyStore(settings.keys_file), trail=trail)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://localhost") as client:
            of = (await client.post("/predecir", json=PATIENT)).json()["id"]

            async def recorded() -> bool:
                return (await client.get(f"/predicciones/{of}")).status_code == 200

            await until(recorded)
            assert (await client.get(f"/predicciones/{of}")).json()["clave_id"] is None
    trail.close()
    assert log.lines == []


def scope(**more: object) -> dict[str, Any]:
    return {"method": "POST", "path": "/predecir", "predecir.caller": "3f9c0a61b2d4", **more}


async def test_lines_are_written_together_after_a_moment() -> None:
    log = Log()
    trail = AccessTrail("gateway", log.write)
    for number in range(3):
        about = scope()
        note_access(about, prediction=str(number))
        trail.add(about, 200)
    assert log.lines == []
    await until(lambda: len(log.lines) == 3)
    assert [line["prediction"] for line in log.lines] == ["0", "1", "2"]


async def test_a_line_has_the_time_of_its_request_to_the_microsecond() -> None:
    log = Log()
    trail = AccessTrail("gateway", log.write)
    before = datetime.now(UTC)
    for _ in range(2):
        about = scope()
        note_access(about, rows=1)
        trail.add(about, 200)
        await asyncio.sleep(0)
    after = datetime.now(UTC)
    trail.close()
    times = [datetime.strptime(line["timestamp"], "%Y-%m-%dT%H:%M:%S.%f%z") for line in log.lines]
    assert before - timedelta(microseconds=1) <= times[0] <= times[1] <= after


async def test_lines_of_two_seconds_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    log, moments = Log(), iter([1_790_000_000.999999, 1_790_000_001.0])
    trail = AccessTrail("gateway", log.write)
    about = scope()
    note_access(about, rows=1)
    monkeypatch.setattr("time.time", lambda: next(moments))
    for _ in range(2):
        trail.add(about, 200)
    trail.close()
    assert [line["timestamp"][17:19] for line in log.lines] == ["20", "21"]


async def test_a_full_batch_is_written_at_once_and_the_rest_at_the_end() -> None:
    log = Log()
    trail = AccessTrail("gateway", log.write)
    about = scope()
    note_access(about, rows=2)
    for _ in range(MOST_LINES + 1):
        trail.add(about, 200)
    assert len(log.lines) == MOST_LINES
    trail.close()
    assert len(log.lines) == MOST_LINES + 1


async def test_a_request_that_was_cancelled_after_its_access_leaves_a_line() -> None:
    log, reached = Log(), asyncio.Event()
    trail = AccessTrail("gateway", log.write)

    async def stuck(about: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        del receive, send
        note_access(about, rows=1)
        reached.set()
        await asyncio.Event().wait()

    hot = {("POST", "/predecir"): stuck}
    edge = EdgeMiddleware(stuck, hot, "localhost", Rejections(CollectorRegistry()), trail=trail)

    async def nothing(*_: object) -> Any:  # noqa: ANN401
        return {}

    about = scope(headers=[(b"host", b"localhost")], type="http", http_version="1.1")
    serving = asyncio.create_task(edge(about, nothing, nothing))
    async with asyncio.timeout(10):
        await reached.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    trail.close()
    assert [line["status"] for line in log.lines] == [None]
