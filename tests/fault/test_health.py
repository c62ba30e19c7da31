"""Health endpoints: with a dependency down, only the services that need it are not ready, and all are live."""

import os
import signal
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from shared.diseases.thyroid import DatosPaciente
from tests.support.broker import Broker
from tests.support.bundles import make_bundle
from tests.support.postgres import postgres_server
from tests.support.processes import Process, running
from tests.support.stack import server_stack
from tests.support.waiting import until_now

_SECONDS = 60


def health(*processes: Process) -> list[tuple[int, list[str]]]:
    """Return the readiness of each process: the status, and the missing parts. All must be live."""
    assert [process.get("/health/live").status_code for process in processes] == [200] * len(processes)
    answers = [process.get("/health/ready") for process in processes]
    return [(answer.status_code, sorted(answer.json().get("motivos", {}))) for answer in answers]


READY: tuple[int, list[str]] = (200, [])


def consuming(recorder: Process) -> bool:
    return "predecir_recorder_consuming 1.0" in recorder.get("/metrics").text


def test_each_endpoint_names_the_dependency_that_is_down(tmp_path: Path, broker: Broker) -> None:
    with (
        postgres_server() as postgres,
        server_stack(tmp_path, broker) as stack,
        stack.recorder(postgres.url(postgres.new_database())) as recorder,
    ):
        parts: tuple[Process, ...] = (stack.gateway, stack.inference, recorder)

        def shows(*expected: tuple[int, list[str]]) -> None:
            seen: list[Any] = []

            def same() -> bool:
                seen[:] = health(*parts)
                return seen == list(expected)

            until_now(same, seconds=_SECONDS)

        shows(READY, READY, READY)
        until_now(lambda: consuming(recorder), seconds=_SECONDS)

        broker.server.stop()
        try:
            until_now(lambda: not consuming(recorder), seconds=_SECONDS)
            assert stack.predict().status_code == 200  # which is what being ready means
            shows(READY, READY, READY)
        finally:
            broker.server.start()

        postgres.stop()
        try:
            shows(READY, READY, (503, ["base_de_datos"]))
            assert recorder.get("/predicciones").status_code == 503
        finally:
            postgres.start()
        shows(READY, READY, READY)
        until_now(lambda: consuming(recorder), seconds=_SECONDS)

        parts = (stack.gateway, recorder)
        os.kill(stack.inference.popen.pid, signal.SIGSTOP)
        try:
            shows((503, ["modelo"]), READY)
            assert stack.predict().status_code == 503
        finally:
            os.kill(stack.inference.popen.pid, signal.SIGCONT)
        shows(READY, READY)
        stack.inference.kill()
        shows((503, ["modelo"]), READY)


def test_readiness_covers_a_services_own_disk_and_model(tmp_path: Path) -> None:
    bare, full = tmp_path / "bare", tmp_path / "full"
    for folder in (bare, full):
        folder.mkdir()
    make_bundle(full / "var", DatosPaciente)
    with ExitStack() as stack:
        nothing = stack.enter_context(running("services.inference", bare))
        assert health(nothing) == [(503, ["modelo"])]
        assert nothing.get("/v2/health/ready").status_code == 503
        assert nothing.get("/v2/models/tiroides/ready").status_code == 503
        no_room = stack.enter_context(running("services.local", full, {"OUTBOX_MIN_FREE_MB": str(10**9)}))
        assert health(no_room) == [(503, ["disco"])]


def test_a_draining_service_is_not_ready_before_it_stops(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    with running("services.local", tmp_path, {"DRAIN_SECONDS": "600"}) as process:
        assert health(process) == [READY]
        process.popen.send_signal(signal.SIGTERM)
        until_now(lambda: health(process) == [(503, ["servicio"])], seconds=_SECONDS)


def test_a_draining_service_sends_clients_elsewhere_and_its_stop_waits_for_none(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    with running("services.local", tmp_path, {"DRAIN_SECONDS": "3"}) as process, ExitStack() as stack:

        def connect() -> HTTPConnection:
            return stack.enter_context(closing(HTTPConnection("127.0.0.1", process.port, timeout=_SECONDS)))

        def is_closed_after_response(connection: HTTPConnection) -> bool:
            connection.request("GET", "/health/live")
            with connection.getresponse() as response:
                return response.read() != b"" and response.getheader("connection") == "close"

        kept, idle = connect(), [connect() for _ in range(100)]
        for connection in (kept, *idle):
            assert not is_closed_after_response(connection)
        process.popen.send_signal(signal.SIGTERM)
        until_now(lambda: is_closed_after_response(kept), seconds=_SECONDS)
        assert process.popen.wait(_SECONDS) == 0
        assert "timeout graceful shutdown exceeded" not in process.errors()
        assert {connection.sock.recv(1) for connection in idle} == {b""}
