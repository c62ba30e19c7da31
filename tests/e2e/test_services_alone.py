"""Each service in its own process: gateway and inference over HTTP, and the recorder's read API."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.diseases.thyroid import DatosPaciente
from tests.support import plain_http
from tests.support.bundles import RevisedThyroid, make_bundle
from tests.support.paths import ROOT
from tests.support.processes import Process, running
from tests.support.waiting import until_now


@pytest.fixture
def inference(tmp_path: Path) -> Iterator[Process]:
    folder = tmp_path / "inference"
    folder.mkdir()
    make_bundle(folder / "var", DatosPaciente)
    with running("services.inference", folder) as process:
        yield process


@pytest.fixture
def gateway(tmp_path: Path, inference: Process) -> Iterator[Process]:
    folder = tmp_path / "gateway"
    folder.mkdir()
    with running("services.gateway", folder, {"INFERENCE_URL": inference.url}) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        yield process


def predict(gateway: Process, tsh: float) -> httpx.Response:
    return plain_http.post(f"{gateway.url}/predecir", json={"edad": 47, "sexo": "F", "tsh": tsh})


def probabilities(inference: Process, tsh: float) -> list[float]:
    row: list[float | None] = [47, 0, tsh, *[None] * 4, *[0] * 14]
    tensor = {"name": "paciente", "datatype": "FP32", "shape": [1, 21], "data": row}
    answer: dict[str, Any] = plain_http.post(
        f"{inference.url}/v2/models/tiroides/infer", json={"inputs": [tensor]}, timeout=60
    ).json()
    data: list[float] = answer["outputs"][0]["data"]
    return data


def test_concurrent_patients_each_get_their_own_probabilities(gateway: Process, inference: Process) -> None:
    levels = [0.1 + number for number in range(100)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda tsh: predict(gateway, tsh), levels))
    assert {answer.status_code for answer in answers} == {200}
    for answer, tsh in zip(answers, levels, strict=True):
        assert list(answer.json()["probabilidades"].values()) == pytest.approx(probabilities(inference, tsh), abs=1e-6)


def test_a_dead_inference_is_503_with_retry_after_and_not_ready(gateway: Process, inference: Process) -> None:
    assert predict(gateway, 1).status_code == 200
    inference.kill()
    answer = predict(gateway, 1)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    until_now(lambda: "modelo" in gateway.get("/health/ready").json().get("motivos", {}))


def test_a_model_of_another_patient_class_is_not_used(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", RevisedThyroid)
    other = {"PREDECIR_PACIENTE": "tests.support.bundles:RevisedThyroid"}
    with (
        running("services.inference", tmp_path, other) as inference,
        running("services.gateway", tmp_path, {"INFERENCE_URL": inference.url}) as gateway,
    ):
        until_now(lambda: inference.get("/health/ready").status_code == 200)
        assert predict(gateway, 1).status_code == 503
        assert "another patient class" in gateway.errors()


@pytest.mark.parametrize("service", ["services.gateway", "services.inference", "services.recorder"])
def test_every_service_alone_has_health_metrics_and_documentation(tmp_path: Path, service: str) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    with running(service, tmp_path) as process:
        assert process.get("/health/live").status_code == 200
        assert process.get("/health/ready").status_code in {200, 503}
        assert process.get("/metrics").status_code == 200
        assert process.get("/docs").status_code == 200
        assert process.stop() == 0
    assert "Traceback" not in process.errors()


OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA"}
"""What Java's client and `curl --http2` send with their first request."""


def statuses(process: Process, method: str, path: str, body: bytes | None = None) -> list[int]:
    """Send a request with an offer of h2c, then one without, on one connection; return the status of each."""
    connection = HTTPConnection("127.0.0.1", process.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    with closing(connection):
        received = []
        for offer in (OFFER, {}):
            for sent in (body, None if body is None else [body[:5], body[5:]]):  # the latter is sent in chunks
                connection.request(method, path, sent, headers | offer, encode_chunked=isinstance(sent, list))
                response = connection.getresponse()
                response.read()
                received.append(response.status)
    return received


def test_an_offer_of_h2c_does_not_change_what_is_answered(tmp_path: Path, gateway: Process, inference: Process) -> None:
    patient = json.dumps({"edad": 47, "sexo": "F", "tsh": 1}).encode()
    tensor = {"name": "paciente", "datatype": "FP32", "shape": [1, 21], "data": [47, 0, 1, *[None] * 4, *[0] * 14]}
    assert statuses(gateway, "POST", "/predecir", patient) == [200] * 4
    assert (
        statuses(inference, "POST", "/v2/models/tiroides/infer", json.dumps({"inputs": [tensor]}).encode()) == [200] * 4
    )
    (tmp_path / "recorder").mkdir()
    with running("services.recorder", tmp_path / "recorder") as recorder:
        assert statuses(recorder, "GET", "/predicciones") == [200] * 4


_STARTED = """
import asyncio, gc, json, os, signal, sys
from contextlib import asynccontextmanager
from shared.web.hosting import Part, StartError, main
from shared.settings import ServiceSettings

def unready():  # asked once the service is up
    print("HOW", json.dumps([gc.get_freeze_count(), len(gc.get_objects()), sys.getswitchinterval()]))
    os.kill(os.getpid(), signal.SIGTERM)
    return {}

def fail():
    raise ValueError("Juana")

@asynccontextmanager
async def opened(settings, registry):
    %s
    yield (Part((), unready),)

raise SystemExit(main("test", ServiceSettings, opened))
"""
_FAILS_TWICE = """
    async with asyncio.TaskGroup(), asyncio.TaskGroup():
        raise StartError("the disk is gone")
"""


def start(folder: Path, opening: str) -> subprocess.CompletedProcess[str]:
    """Run a service that runs the statements `opening` at its start, and stops once it is up."""
    return subprocess.run(
        [sys.executable, "-c", _STARTED % opening],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PORT": "0"},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


def test_neither_collector_nor_threads_pause_requests_for_long(tmp_path: Path) -> None:
    """A full search of memory takes a tenth of a second, and ten steps of a thread 50 ms at Python's own interval."""
    ended = start(tmp_path, "pass")
    assert ended.returncode == 0, ended.stderr
    kept, searched, interval = json.loads(ended.stdout.partition("HOW ")[2].splitlines()[0])
    assert kept > 9 * searched
    assert interval == pytest.approx(0.0005)


def test_an_error_that_nothing_catches_is_logged_without_its_values(tmp_path: Path) -> None:
    ended = start(tmp_path, "asyncio.get_running_loop().call_soon(fail)")
    assert ended.returncode == 0, ended.stderr
    started, line = ended.stderr.splitlines()
    assert "keys_not_required" in started
    assert "unexpected_error" in line
    assert "ValueError at <string>:" in line
    assert "Juana" not in line + ended.stdout


def test_an_error_within_groups_of_tasks_is_one_line(tmp_path: Path) -> None:
    ended = start(tmp_path, _FAILS_TWICE)
    assert (ended.returncode, ended.stderr) == (69, "test: the disk is gone\n")
