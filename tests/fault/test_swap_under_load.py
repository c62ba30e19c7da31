"""Promotion, rollback and a tampered model under load: no request fails."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.gateway.outbox.database import OutboxFile
from services.inference.serving.loading import load_model
from shared.artifacts.bundle import ONNX, open_bundle
from shared.contracts.events import PredictionMade, read_event
from shared.diseases.thyroid import DatosPaciente
from tests.support.model_registry import ModelRegistry
from tests.support.processes import Process, running
from tests.support.waiting import until

REQUESTS = 2000
DOCTORS = 8
PATIENTS = [{"edad": 20 + number, "sexo": "F", "tsh": 0.05 + number / 7} for number in range(60)]


@dataclass(slots=True)
class Account:
    """Responses, in order: the patient's number, the status and the body."""

    answers: list[tuple[int, int, dict[str, Any]]] = field(default_factory=list)

    async def more(self, count: int) -> None:
        enough = len(self.answers) + count
        await until(lambda: len(self.answers) >= enough, seconds=60)


@contextmanager
def replica(folder: Path, registry: ModelRegistry) -> Iterator[Process]:
    """Run an inference service that follows `registry`; the operator has placed the key."""
    (folder / "var/keys").mkdir(parents=True, exist_ok=True)
    shutil.copy(registry.key, folder / "var/keys")
    settings = {"MLFLOW_TRACKING_URI": registry.url, "INFERENCE_POLL_SECONDS": "0.2"}
    with running("services.inference", folder, settings) as process:
        yield process


@asynccontextmanager
async def balancer(urls: list[str]) -> AsyncIterator[str]:
    """Send each request to the next of `urls`."""
    turns = cycle(urls)
    async with AsyncExitStack() as opened:
        client = await opened.enter_async_context(aiohttp.ClientSession())

        async def forward(request: web.Request) -> web.Response:
            async with client.request(request.method, next(turns) + request.path, data=await request.read()) as answer:
                return web.Response(status=answer.status, body=await answer.read())

        front = web.Application()
        front.router.add_route("*", "/{path:.*}", forward)
        server = TestServer(front)
        await server.start_server()
        opened.push_async_callback(server.close)
        yield str(server.make_url("/"))


@asynccontextmanager
async def stack(folder: Path, registry: ModelRegistry) -> AsyncIterator[tuple[Process, Sequence[Process]]]:
    """Run a gateway and two inference replicas, all ready."""
    for name in ("gateway", "one", "two"):
        (folder / name).mkdir()
    with replica(folder / "one", registry) as one, replica(folder / "two", registry) as two:
        async with balancer([one.url, two.url]) as inference:
            with running("services.gateway", folder / "gateway", {"INFERENCE_URL": inference}) as gateway:
                await all_of([gateway, one, two], lambda process: process.get("/health/ready").status_code == 200)
                yield gateway, (one, two)


@asynccontextmanager
async def doctors(gateway: str) -> AsyncIterator[Account]:
    """Send requests of `DOCTORS` clients while the body runs and until there are `REQUESTS` responses."""
    account, asked = Account(), iter(range(10**9))
    enough = asyncio.Event()

    async def work(client: aiohttp.ClientSession) -> None:
        while not enough.is_set() or len(account.answers) < REQUESTS:
            number = next(asked) % len(PATIENTS)
            async with client.post(f"{gateway}/predecir", json=PATIENTS[number]) as response:
                account.answers.append((number, response.status, await response.json()))

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
        for _ in range(DOCTORS):
            tasks.create_task(work(client))
        yield account
        enough.set()


def state(process: Process) -> dict[str, Any]:
    found: dict[str, Any] = process.get("/modelo").json()
    return found


def serves(process: Process, version: str) -> bool:
    found: bool = state(process)["sirve"]["version"] == version
    return found


def refuses(process: Process, version: str) -> bool:
    refused = state(process)["rechazada"]
    return refused is not None and refused["version"] == version


async def all_of(replicas: Sequence[Process], holds: Callable[[Process], bool]) -> None:
    """Wait until `holds` is true of all `replicas`."""
    await until(lambda: asyncio.to_thread(lambda: all(map(holds, replicas))), seconds=30)


def tamper(folder: Path) -> None:
    content = bytearray((folder / ONNX).read_bytes())
    content[-1] ^= 1
    (folder / ONNX).write_bytes(content)


def kept_answers(outbox: Path) -> dict[str, tuple[str, dict[str, float]]]:
    """Return each answer in the outbox, by its id: the model's version and the probabilities."""
    with closing(OutboxFile(outbox, keep_answers=3600)) as file:
        events = [read_event(body) for _, bodies in file.read(10**6)[1] for body in bodies]
    return {
        event.id: (event.data.modelo.version, event.data.probabilidades)
        for event in events
        if isinstance(event, PredictionMade)
    }


def computed(folder: Path, key: Path) -> list[dict[str, float]]:
    """Return the exact probabilities of the model in `folder` for each of `PATIENTS`."""
    model = load_model(open_bundle(folder, key, patient_digest=DatosPaciente.digest)).model
    rows = np.array([DatosPaciente.model_validate(patient).encode() for patient in PATIENTS], dtype=np.float32)
    return [dict(zip(model.facts.classes, row, strict=True)) for row in model.probabilities(rows).tolist()]


async def test_2000_requests_survive_promotion_rollback_and_a_tampered_version(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    first, first_folder = registry.register(DatosPaciente, seed=0)
    second, second_folder = registry.register(DatosPaciente, seed=1)
    tampered, _ = registry.register(DatosPaciente, seed=2, harm=tamper)
    expected = {first: computed(first_folder, registry.key), second: computed(second_folder, registry.key)}
    assert all(one != other for one, other in zip(expected[first], expected[second], strict=True))
    registry.promote(DatosPaciente, first)
    async with stack(tmp_path, registry) as (gateway, replicas):
        async with doctors(gateway.url) as account:
            await account.more(200)
            for version in (second, first):
                await asyncio.to_thread(registry.promote, DatosPaciente, version)
                await all_of(replicas, partial(serves, version=version))
                await account.more(200)
            await asyncio.to_thread(registry.promote, DatosPaciente, tampered)
            await all_of(replicas, partial(refuses, version=tampered))
            await account.more(200)
        seen = gateway.get("/modelos").json()["modelos"]
        states = [state(process) for process in replicas]
        assert gateway.stop() == 0
    assert len(account.answers) >= REQUESTS
    assert {status for _, status, _ in account.answers} == {200}
    assert {answer["modelo"]["version"] for _, _, answer in account.answers} == {first, second}
    assert {model["version"] for model in seen} == {first, second}
    kept = kept_answers(tmp_path / "gateway/var/gateway/outbox.db")
    for number, _, answer in account.answers:
        version = answer["modelo"]["version"]
        assert answer["probabilidades"] == expected[version][number]
        assert kept[answer["id"]] == (version, expected[version][number])
    for found in states:
        said = (found["sirve"]["version"], found["produccion"], found["rechazada"]["version"])
        assert said == (first, tampered, tampered)
        assert "SHA-256 is not the one that was signed" in found["rechazada"]["motivo"]
    assert [process.errors().count("model_refused") for process in replicas] == [1, 1]


async def test_no_request_fails_while_production_is_deleted_in_mlflow_and_another_promoted(
    tmp_path: Path, registry: ModelRegistry
) -> None:
    versions = [registry.register(DatosPaciente, seed=seed) for seed in range(2)]
    (first, _), (second, _) = versions
    expected = {version: computed(folder, registry.key) for version, folder in versions}
    registry.promote(DatosPaciente, first)
    async with stack(tmp_path, registry) as (gateway, replicas):
        async with doctors(gateway.url) as account:
            await account.more(200)
            await asyncio.to_thread(registry.delete, DatosPaciente, first)
            await all_of(replicas, lambda process: state(process)["produccion"] is None)
            deleted = len(account.answers)
            await account.more(200)
            without = {answer["modelo"]["version"] for _, _, answer in account.answers[deleted:]}
            states = [state(process) for process in replicas]
            await asyncio.to_thread(registry.promote, DatosPaciente, second)
            await all_of(replicas, partial(serves, version=second))
            await account.more(200)
        assert gateway.stop() == 0
    assert {status for _, status, _ in account.answers} == {200}
    assert without == {first}, "the deleted version serves until another is promoted"
    assert account.answers[-1][2]["modelo"]["version"] == second
    kept = kept_answers(tmp_path / "gateway/var/gateway/outbox.db")
    for number, _, answer in account.answers:
        version = answer["modelo"]["version"]
        assert kept[answer["id"]] == (version, expected[version][number])
    for replica_state in states:
        assert replica_state["registro"]["callado_desde"] is None
        assert "has no version in production" in replica_state["registro"]["motivo"]


def test_with_the_registry_down_a_replica_starts_from_what_it_served(tmp_path: Path, registry: ModelRegistry) -> None:
    version, _ = registry.register(DatosPaciente, seed=0)
    registry.promote(DatosPaciente, version)
    with replica(tmp_path, registry) as process:
        assert serves(process, version)
        assert process.stop() == 0
    with running("services.inference", tmp_path, {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}) as process:
        found = state(process)
        assert process.get("/health/ready").status_code == 200
    assert found["sirve"]["version"] == version
    assert found["registro"]["visto"] is None
    assert found["registro"]["callado_desde"] is not None
    assert "http://127.0.0.1:9 cannot be reached" in found["registro"]["motivo"]
    assert process.errors().count("registry_silent") == 1
