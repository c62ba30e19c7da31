"""The OWASP API Security Top 10 of 2023, risks 7 and 10: the servers that a service calls. No try may succeed."""

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import quote

from shared.web.api_keys import Role
from tests.support.attack_table import Attack
from tests.support.attacked import INFER, JSON, PATIENT, Answer, Attacked, Target, infer_body
from tests.support.processes import running

SERVER_SIDE = "API7 Server side request forgery"
CONSUMPTION = "API10 Unsafe consumption of APIs"


@contextlib.contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """Listen for requests that a service should not send; yields the address, and the first bytes of each."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            received.append(self.rfile.readline())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_no_address_in_a_request_is_called(services: Attacked, attack: Attack) -> None:
    local, medico, servicio = services["local"], services.key(Role.MEDICO), services.key(Role.SERVICIO)
    with attack(SERVER_SIDE, "addresses in a request") as tries, listening() as (address, received):
        urls = [f"http://{address}/x", f"//{address}/x", f"{address}", f"http://localhost@{address}/"]

        def add(where: object, answer: Answer | None) -> None:
            tries.add((where, answer and answer.status), success=bool(received))

        for url in urls:
            coded = quote(url, safe="")
            for name in (
                "Referer",
                "Referencia_Paciente",
                "Idempotency_Key",
                "X_Forwarded_Host",
                "X_Callback_Url",
                "Link",
            ):
                add((name, url), local.post("/predecir", PATIENT, medico, **{name: url}))
            add(("Host", url), local.get("/health/live", Host=url))
            add(("Origin", url), local.get("/health/live", Origin=url))
            feedback = {"aceptada": False, "diagnostico": "hipotiroidismo", "motivo": url}
            add(("motivo", url), local.post(f"/predicciones/{services.prediction}/resultado", feedback, medico))
            add(("referencia", url), local.post("/referencias", {"referencia": url}, medico))
            for name in ("output", "cursor", "modelo_version", "url"):
                add((name, url), local.get(f"/predicciones?{name}={coded}", medico))
            for path in (f"/v2/models/{coded}/infer", f"/v2/models/tiroides/versions/{coded}/infer"):
                add((path,), local.send("POST", path, key=servicio, headers=JSON, body=infer_body()))
            add(("pagina", url), local.get(f"/pagina/{coded}"))
            add(("target", url), local.send("GET", f"http://{address}/x"))
        answer = local.send("CONNECT", address, headers={"Host": address})
        tries.add(("CONNECT", answer.status), success=bool(received) or answer.is_success)


class Redirecting(BaseHTTPRequestHandler):
    """Redirects every request to the address `to`."""

    to: ClassVar = ""

    def do_GET(self) -> None:
        self.send_response(307)
        self.send_header("Location", f"http://{self.to}/stolen")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - the name that the class expects

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - that of the class
        del format, args


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve with `handler`; yields the URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def gateway_of(url: str, folder: Path) -> Iterator[Target]:
    """Run a gateway without keys on an inference service at `url`."""
    folder.mkdir()
    with (
        running("services.gateway", folder, {"INFERENCE_URL": url}) as process,
        contextlib.closing(Target("gateway", process, {})) as target,
    ):
        yield target


def test_no_redirect_takes_a_patient_to_another_server(attack: Attack, tmp_path: Path) -> None:
    with attack(SERVER_SIDE, "redirects of a service that is called") as tries, listening() as (address, received):
        Redirecting.to = address
        with answering(Redirecting) as url, gateway_of(url, tmp_path / "gateway") as gateway:
            for path in ("/predecir", "/explicar"):
                answer = gateway.post(path, PATIENT)
                tries.add((path, answer.status), success=bool(received) or answer.status != 503)
            answer = gateway.get("/modelo/ficha")
            tries.add(("card", answer.status), success=bool(received) or answer.is_success)


class Hostile(BaseHTTPRequestHandler):
    """Inference whose answer is `content`, whatever the request."""

    status: ClassVar = 200
    content: ClassVar = b""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(self.content)

    do_POST = do_GET  # noqa: N815 - the name that the class expects

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - that of the class
        del format, args


def hostile_answers(genuine: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield answers of inference that are wrong in one thing each."""
    yield from ((status, genuine) for status in (201, 202, 204, 206, 301, 400, 401, 404, 409, 429, 500, 503))
    yield from (
        (200, content) for content in (b"", b"{", b"[]", b"null", b"true", b"<html>", b"\xff\xfe", genuine[:-2])
    )
    answer = json.loads(genuine)
    output = answer["outputs"][0]
    numbers = output["data"]
    for data in ([], numbers[:-1], [*numbers, 0.1], ["x"] * 7, [None] * 7, [[number] for number in numbers], "x" * 7):
        yield 200, json.dumps({**answer, "outputs": [{**output, "data": data}]}).encode()
    for changed in ({"shape": [7]}, {"shape": [-1, 7]}, {"shape": [2, 7]}, {"name": "otra"}, {"shape": [10**12, 7]}):
        yield 200, json.dumps({**answer, "outputs": [{**output, **changed}]}).encode()
    for outputs in ([], [output, output], None, "x"):
        yield 200, json.dumps({**answer, "outputs": outputs}).encode()
    for parameters in ({}, None, {"digest": "e" * 64}, {"digest": None}):
        yield 200, json.dumps({**answer, "parameters": parameters}).encode()


def test_no_wrong_answer_of_inference_becomes_a_diagnosis(services: Attacked, attack: Attack, tmp_path: Path) -> None:
    body, key = infer_body(known_digests=""), services.key(Role.SERVICIO)  # the answer describes its model
    genuine = services["inference"].send("POST", INFER, key=key, headers=JSON, body=body).body
    Hostile.content = genuine
    with (
        attack(CONSUMPTION, "wrong answers of inference") as tries,
        answering(Hostile) as url,
        gateway_of(url, tmp_path / "gateway") as gateway,
    ):
        assert gateway.post("/predecir", PATIENT).is_success
        for Hostile.status, Hostile.content in hostile_answers(genuine):
            answer = gateway.post("/predecir", PATIENT)
            tries.add((Hostile.status, Hostile.content[:200], answer.status), success=answer.status != 503)


def test_no_number_that_is_no_probability_becomes_a_diagnosis(
    services: Attacked, attack: Attack, tmp_path: Path
) -> None:
    body, key = infer_body(known_digests=""), services.key(Role.SERVICIO)
    genuine = services["inference"].send("POST", INFER, key=key, headers=JSON, body=body).json
    with (
        attack(CONSUMPTION, "answers of inference without probabilities") as tries,
        answering(Hostile) as url,
        gateway_of(url, tmp_path / "gateway") as gateway,
    ):
        for number in (2.0, -1.0, 1e308, float("inf"), float("nan")):
            output = genuine["outputs"][0] | {"data": [number] * 7}
            Hostile.status, Hostile.content = 200, json.dumps(genuine | {"outputs": [output]}).encode()
            answer = gateway.post("/predecir", PATIENT)
            tries.add((number, answer.status), success=answer.status != 503)
