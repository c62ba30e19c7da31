"""The services under attack: each in a process of its own, with keys in use, and a client that sends raw requests.

The client sends path, method and headers unchanged; other clients normalise them.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.gateway.key_admin import create, revoke
from services.gateway.settings import GatewaySettings
from services.local.app import open_local
from shared.diseases.thyroid import DatosPaciente
from shared.web.api_keys import Role
from shared.web.hosting import edge_of, http_app
from shared.web.routing import RouteRoles
from tests.support.bundles import make_bundle
from tests.support.processes import Process, running
from tests.support.waiting import until_now

HOST = "localhost"
PATIENT = {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": 4.1, "t4_total": 210, "captacion_t4": 0.9}
REFERENCE = "HC-Juana-0417"
REASON = "Motivo de Juana: TSH repetida"
JSON = {"Content-Type": "application/json"}
INFER = "/v2/models/tiroides/infer"
_TIMEOUT = 60

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    @property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass
class Target:
    """One service, its routes with the roles that they declare, and a connection to it."""

    name: str
    process: Process
    roles: RouteRoles
    _connection: HTTPConnection | None = None

    def send(
        self, method: str, path: str, *, key: str | None = None, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        """Send exactly this request; `Host` is added unless it is among the headers."""
        listed = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        if not any(name.lower() == "host" for name, _ in listed):
            listed.insert(0, ("Host", f"{HOST}:{self.process.port}"))
        if key is not None:
            listed.append(("Authorization", f"Bearer {key}"))
        if body is not None and not any(name.lower() == "transfer-encoding" for name, _ in listed):
            listed.append(("Content-Length", str(len(body))))
        try:
            return self._exchange(method, path, listed, body)
        except (HTTPException, OSError):  # the server closed the connection after an earlier answer
            self.close()
            return self._exchange(method, path, listed, body)

    def post(self, path: str, body: object, key: str | None = None, **headers: str) -> Answer:
        """Send a body as JSON; names of headers have underscores in place of hyphens."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, key=key, headers=JSON | named, body=content)

    def get(self, path: str, key: str | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("GET", path, key=key, headers=named)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes | None) -> Answer:
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self.process.port, timeout=_TIMEOUT)
        connection = self._connection
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        chunked = ("Transfer-Encoding", "chunked") in headers
        connection.endheaders([body] if chunked and body else body, encode_chunked=chunked)
        response = connection.getresponse()
        content = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)


@dataclass
class Attacked:
    """The services by name, the callers' keys, and one recorded prediction."""

    targets: Mapping[str, Target]
    callers: Mapping[str, str | None]
    """The key of each caller: none, a wrong one, each role's, a revoked one."""
    keys_file: Path
    prediction: str = ""
    """Its id."""

    def __getitem__(self, name: str) -> Target:
        return self.targets[name]

    def key(self, role: Role) -> str:
        key = self.callers[role.value]
        assert key is not None
        return key

    @contextmanager
    def another_doctor(self) -> Iterator[str]:
        """Create a second key of a doctor meanwhile."""
        key, entry = create(self.keys_file, Role.MEDICO)
        until_now(lambda: self["local"].get("/openapi.json", key).is_success)
        yield key
        revoke(self.keys_file, entry.id)

    def failures(self) -> list[str]:
        """Return what is wrong with the services after an attack: one that ended, or logged an error or a key."""
        found = []
        for name, target in self.targets.items():
            if target.process.popen.poll() is not None:
                found.append(f"{name} ended with {target.process.popen.returncode}")
            log = target.process.errors()
            found += [f"{name} logged {word}" for word in ("Traceback", "unexpected_error") if word in log]
            found += [f"{name} logged a key" for key in self.callers.values() if key and key in log]
            found += [f"{name} logged a patient's data" for text in (REFERENCE, REASON) if text in log]
        return found


@contextmanager
def attacked(folder: Path) -> Iterator[Attacked]:
    """Start gateway, inference, recorder and the local profile with one file of keys, and record a prediction."""
    keys_file = folder / "keys" / "access.json"
    made = {role: create(keys_file, role) for role in Role}
    revoked, entry = create(keys_file, Role.MEDICO)
    revoke(keys_file, entry.id)
    callers = {"none": None, "wrong": "pdk_" + "x" * 43, **{role.value: key for role, (key, _) in made.items()}}
    environment = {
        "PREDECIR_KEYS": str(keys_file),
        "KEY_RATE": "0",
    }
    routes = _routes(folder)
    with ExitStack() as stack:
        targets: dict[str, Target] = {}

        def start(name: str, **more: str) -> None:
            home = folder / name
            home.mkdir()
            if name in {"inference", "local"}:
                make_bundle(home / "var", DatosPaciente, card=b"<!doctype html><title>card</title>")
            process = stack.enter_context(running(f"services.{name}", home, environment | more))
            targets[name] = stack.enter_context(closing(Target(name, process, routes[name])))

        start("inference")
        start("gateway", INFERENCE_URL=targets["inference"].process.url, INFERENCE_KEY=made[Role.SERVICIO][0])
        start("recorder")
        start("local")
        service = Attacked(targets, {**callers, "revoked": revoked}, keys_file)
        service.prediction = _recorded_prediction(service)
        yield service


def infer_body(rows: int = 1, **parameters: str) -> bytes:
    """Return the body of a request to infer `rows` patients."""
    row = [47, 0, 0.05, *[None] * 4, *[0] * 14]
    tensor = {"name": "paciente", "datatype": "FP32", "shape": [rows, len(row)], "data": row * rows}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


@contextmanager
def recorder_with_rate(service: Attacked, folder: Path, *, rate: int, burst: int) -> Iterator[Target]:
    """Run one more recorder, with the same keys, and `rate` requests per second of one key after `burst` of them."""
    limits = {"PREDECIR_KEYS": str(service.keys_file), "KEY_RATE": str(rate), "KEY_BURST": str(burst)}
    with (
        running("services.recorder", folder, limits) as process,
        closing(Target("recorder", process, service["recorder"].roles)) as target,
    ):
        yield target


def _recorded_prediction(service: Attacked) -> str:
    """Make a prediction of a patient with a reference, correct it, and wait until both are recorded."""
    local, key = service["local"], service.key(Role.MEDICO)
    until_now(lambda: all(service[name].get("/health/ready").is_success for name in ("local", "gateway")))
    headers = {"Referencia_Paciente": REFERENCE, "Idempotency_Key": "attacked"}
    until_now(lambda: local.post("/predecir", PATIENT, key, **headers).is_success)
    identifier: str = local.post("/predecir", PATIENT, key, **headers).json["id"]
    feedback = {"aceptada": False, "diagnostico": "hipotiroidismo", "motivo": REASON}
    until_now(lambda: local.post(f"/predicciones/{identifier}/resultado", feedback, key).is_success)

    def recorded() -> bool:
        answer = local.get(f"/predicciones/{identifier}", key)
        return answer.is_success and bool(answer.json["resultados"])

    until_now(recorded)
    return identifier


def _routes(folder: Path) -> dict[str, RouteRoles]:
    """Return the routes of each service, from its routers."""
    home = folder / "routes"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # where the local system keeps its files
        return asyncio.run(_opened_routes())


async def _opened_routes() -> dict[str, RouteRoles]:
    async with open_local(GatewaySettings(), CollectorRegistry()) as parts:
        names = ("gateway", "recorder", "inference")
        of = {name: (part,) for name, part in zip(names, parts, strict=True)} | {"local": tuple(parts)}
        return {name: edge_of(http_app(name, *some, registry=CollectorRegistry())).roles for name, some in of.items()}
