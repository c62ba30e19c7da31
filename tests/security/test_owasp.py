"""The ten risks of the OWASP API Security Top 10 of 2023, tried against the running services. No try may succeed.

Each test is one kind of try; the table at the end of the run has their numbers. The descriptions of the risks:
https://owasp.org/API-Security/editions/2023/en/0x11-t10/
"""

import contextlib
import json
import re
import socket
import stat
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

from shared.web.api_keys import Role
from shared.web.connection import LARGEST_HEAD
from shared.web.hosting import LARGEST_BODY
from tests.support.attack_table import Attack
from tests.support.attacked import (
    INFER,
    JSON,
    PATIENT,
    REASON,
    REFERENCE,
    Answer,
    Attacked,
    Target,
    infer_body,
    recorder_with_rate,
)

OBJECTS = "API1 Broken object level authorization"
AUTHENTICATION = "API2 Broken authentication"
PROPERTIES = "API3 Broken object property level authorization"
RESOURCES = "API4 Unrestricted resource consumption"
FLOWS = "API6 Unrestricted access to sensitive business flows"
MISCONFIGURATION = "API8 Security misconfiguration"
INVENTORY = "API9 Improper inventory management"
# API5 is test_access_matrix.py; API7 and API10 are test_owasp_outbound.py and test_hostile_messages.py.

ADDED = """
id prediccion probabilidad probabilidades modelo modelo_version timestamp referencia gateway_id seq hash role
admin __proto__ constructor registrado etiqueta TSH
"""
"""Names that a body does not have."""
KEY_HEADERS = """
X-Api-Key Api-Key X-Auth-Token X-Authorization Proxy-Authorization X-Forwarded-Authorization
"""
"""Headers in which other services take keys."""
HOSTS = """
evil.example localhost.evil.example evil.example:8000 127.0.0.1.evil.example 2130706433 [::] 0.0.0.0 127.1
localhost@evil.example evil.example#localhost localhost,evil.example
"""
"""Hosts of other sites, and other spellings of this one."""
ORIGINS = """
http://evil.example null http://localhost.evil.example http://localhost:1 file:// https://127.0.0.1
"""
"""Origins of other sites."""
FILES = """
.env .git/config predicciones.db var/keys/access.json keys/access.json etc/passwd app.py
"""
"""Files of the machine."""
CLIMBS = """
../ ../../../../../ ..%2f %2e%2e%2f%2e%2e%2f ..%5c %252e%252e%252f .%00/ ....// %c0%ae%c0%ae/
"""
"""Spellings of the folder above."""
BROKEN = """
/predicciones/%00 /predicciones?cursor=%ff /predicciones?desde=%00 /predicciones?output=%00 /v2/%00
/v2/models/%2e%2e /predicciones?desde=2026-02-30 /predicciones?limite= /pagina/%00 /nowhere /%ff
"""
"""Addresses that are wrong."""
FORGOTTEN = """
predict predecir predicciones api api/predecir admin debug console actuator actuator/env graphql swagger.json
swagger swagger-ui.html redoc docs/oauth2-redirect openapi.yaml internal status server-status health healthz
ready ping test backup dump export login keys token users config env metrics/json debug/pprof trace
phpinfo.php wp-admin cuarentena gateways resultados alembic_version analytics train promote rollback explain
referencias/1
"""
"""Addresses of other versions, of tools, and of tables."""
CHUNKED = {"Transfer-Encoding": "chunked"}
READERS = (Role.MEDICO, Role.ANALISTA)
ODD: tuple[Any, ...] = ("x", 1, None, {})


# API1


def test_an_analyst_never_sees_whose_prediction_it_is(services: Attacked, attack: Attack) -> None:
    key, hashed = services.key(Role.ANALISTA), reference_hash(services)
    listed = "/predicciones?limite=500"
    first = services["local"].get("/predicciones?limite=1", key).json["siguiente"] or ""
    paths = [
        *(
            f"/predicciones/{services.prediction}",
            listed,
            f"{listed}&output=hipertiroidismo",
            f"{listed}&cursor={first}",
        ),
        *(
            f"{listed}&referencia={hashed}",
            f"/predicciones?referencia={hashed}",
            f"/predicciones?%72eferencia={hashed}",
        ),
        *(f"/predicciones?limite=1&referencia={hashed}", f"/predicciones/{services.prediction}?referencia={hashed}"),
        *(f"/predicciones/{services.prediction.upper()}", f"/predicciones/{services.prediction}?campos=referencia"),
    ]
    with attack(OBJECTS, "an analyst reads whose prediction it is") as tries:
        for path in paths:
            answer = services["local"].get(path, key)
            shown = [text for text in (REFERENCE, REASON, hashed) if text in answer.text]
            tries.add((path, answer.status, shown), success=bool(shown))
        counted = len(services["local"].get(listed, key).json["predicciones"])
        for guess in (hashed, "0" * 64, hashed.upper()):  # as an oracle: a page that is shorter tells of a match
            answer = services["local"].get(f"{listed}&referencia={guess}", key)
            tries.add((guess, answer.status), success=answer.is_success and len(answer.json["predicciones"]) != counted)


def reference_hash(services: Attacked) -> str:
    answer = services["local"].post("/referencias", {"referencia": REFERENCE}, services.key(Role.MEDICO))
    hashed: str = answer.json["hash"]
    return hashed


def test_no_guess_of_an_id_reads_a_prediction(services: Attacked, attack: Attack) -> None:
    local, known = services["local"], UUID(services.prediction)
    guesses = [str(UUID(int=known.int ^ 1 << bit)) for bit in range(128)]
    guesses += [str(UUID(int=(known.int + step) % 2**128)) for step in range(-50, 51) if step]
    guesses += ["*", "%25", "_", "0", "-1", "null", "undefined", "' OR '1'='1", "1 OR 1=1", "..", "ultima", "[]"]
    guesses += [services.prediction[:-1] + end for end in ("*", "%25", "_", "?")] + [services.prediction + "'--"]
    with attack(OBJECTS, "guesses of a prediction's id") as tries:
        for role, guess in product(READERS, guesses):
            answer = local.get(f"/predicciones/{quote(guess)}", services.key(role))
            tries.add((role, guess, answer.status), success=answer.is_success or answer.status >= 500)


def test_no_key_gets_the_answer_of_another_keys_idempotency_key(services: Attacked, attack: Attack) -> None:
    gateway, own, local = services["gateway"], services.key(Role.MEDICO), services["local"]
    first = local.post("/predecir", PATIENT, own, Idempotency_Key="consulta-1").json["id"]
    spellings = ["consulta-1", "CONSULTA-1", "consulta-1 ", "consulta%2D1", "consulta-1,consulta-1"]
    with attack(OBJECTS, "another caller's Idempotency-Key") as tries:
        for caller, spelling in product(("none", "wrong", "analista", "ops", "servicio", "revoked"), spellings):
            for target in (gateway, local):
                answer = target.post("/predecir", PATIENT, services.callers[caller], Idempotency_Key=spelling)
                tries.add((target.name, caller, spelling, answer.status), success=answer.is_success)
        with services.another_doctor() as other:
            answer = local.post("/predecir", PATIENT, other, Idempotency_Key="consulta-1")
            tries.add(("another doctor", answer.status), success=answer.json.get("id") == first)


# API2


def test_no_malformed_or_stolen_credential_opens_a_route(services: Attacked, attack: Attack) -> None:
    listed = json.loads(services.keys_file.read_bytes())["keys"]
    stored = [entry[name] for entry in listed for name in ("id", "sha256")]
    key = services.key(Role.MEDICO)
    revoked = services.callers["revoked"]
    values = [
        *("", "Bearer", "Bearer ", "Bearer  ", f"Bearer  {key}", f"Bearer {key} ", f"Bearer\t{key}", f"Bearer {key}x"),
        *(f"Bearer {key[:-1]}", f"Bearer {key[4:]}", f"Bearer {key.upper()}", key, f"Basic {key}"),
        *(f"Token {key}", f"Digest {key}", f"Bearer {key},{key}", f'Bearer "{key}"', f"Bearer {quote(key[:-1])}%00"),
        *("Bearer null", "Bearer undefined", "Bearer *", "Bearer ' OR 1=1 --", "Bearer pdk_", "Basic YWRtaW46YWRtaW4="),
        *(f"Bearer {text}" for text in stored),
        *(f"Bearer pdk_{text}" for text in stored),
        f"Bearer {revoked}",
        f"bearer {revoked}",
        "Bearer " + "x" * 4000,
        "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoib3BzIn0.",
    ]
    with attack(AUTHENTICATION, "malformed and stolen credentials") as tries:
        for target in services.targets.values():
            for value, path in product(values, ("/metrics", "/openapi.json")):
                answer = target.get(path, Authorization=value)
                tries.add((target.name, path, value, answer.status), success=answer.status not in {400, 401, 429})


def test_no_key_counts_outside_its_header(services: Attacked, attack: Attack) -> None:
    key = services.key(Role.OPS)
    headers = [{name: value} for name, value in product(KEY_HEADERS.split(), (key, f"Bearer {key}"))]
    headers += [{"Cookie": f"{name}={key}"} for name in ("Authorization", "token", "session", "key", "access_token")]
    headers += [{name: role} for name, role in product(("X-Role", "X-User", "X-Remote-User", "Remote-User"), Role)]
    headers += [{name: "127.0.0.1"} for name in ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP")]
    queries = [f"?{name}={key}" for name in ("access_token", "token", "key", "api_key", "Authorization", "clave")]
    with attack(AUTHENTICATION, "keys and identities in other places") as tries:
        for target in services.targets.values():
            for each in headers:
                answer = target.get("/metrics", **{name.replace("-", "_"): value for name, value in each.items()})
                tries.add((target.name, each, answer.status), success=answer.status != 401)
            for query in queries:
                answer = target.get(f"/metrics{query}")
                tries.add((target.name, query, answer.status), success=answer.status != 401)


# API3


def test_no_added_property_of_a_body_is_accepted(services: Attacked, attack: Attack) -> None:
    local, key = services["local"], services.key(Role.MEDICO)
    names = ["", *ADDED.split()]
    fed = f"/predicciones/{services.prediction}/resultado"
    routes: dict[str, dict[str, Any]] = {
        "/predecir": PATIENT,
        "/explicar": PATIENT,
        fed: {"aceptada": True},
        "/referencias": {"referencia": "HC 2"},
    }
    with attack(PROPERTIES, "properties added to a body") as tries:
        for (path, body), name in product(routes.items(), names):
            if name in body:
                continue
            for value in ODD:
                answer = local.post(path, {**body, name: value}, key)
                tries.add((path, name, value, answer.status), success=answer.status != 422)
        for path, body in routes.items():
            name, value = next(iter(body.items()))
            twice = json.dumps(body)[:-1] + f', "{name}": {json.dumps(value)}}}'
            answer = local.post(path, twice.encode(), key)
            if path in {"/predecir", "/explicar"}:  # of a form, the last value counts, as in JSON
                tries.add((path, "twice", answer.status), success=answer.status != 422)


def test_no_answer_shows_a_property_that_is_not_for_its_caller(services: Attacked, attack: Attack) -> None:
    schemas = services["local"].get("/openapi.json", services.key(Role.OPS)).json["components"]["schemas"]
    documented = set(schemas["PrediccionConResultados"]["properties"])
    with attack(PROPERTIES, "properties in answers that no document lists") as tries:
        for role, path in product(READERS, (f"/predicciones/{services.prediction}", "/predicciones")):
            document = services["local"].get(path, services.key(role)).json
            rows = document.get("predicciones", [document])
            for name in {name for row in rows for name in row}:
                tries.add((role, path, name), success=name not in documented)
    with attack(PROPERTIES, "patients in answers to callers who may not read them") as tries:
        for caller, key in services.callers.items():
            if caller not in {"medico", "analista"}:
                for target, path in product(
                    services.targets.values(), ("/predicciones", "/metrics", "/health/ready", "/")
                ):
                    answer = target.get(path, key)
                    shown = [text for text in (REFERENCE, REASON, services.prediction) if text in answer.text]
                    tries.add((caller, target.name, path, shown), success=bool(shown))


def test_no_rejection_repeats_a_value(services: Attacked, attack: Attack) -> None:
    local, key, value = services["local"], services.key(Role.MEDICO), "Juana-4711"
    bodies = [{**PATIENT, name: value} for name in PATIENT] + [{**PATIENT, "tsh": [value]}, [value], value]
    with attack(PROPERTIES, "values in rejections") as tries:
        for path, body in product(("/predecir", "/explicar"), bodies):
            answer = local.post(path, body, key)
            tries.add((path, body, answer.text), success=value in answer.text or answer.is_success)
        for body in (
            {"aceptada": value},
            {"aceptada": False, "diagnostico": value},
            {"aceptada": True, "motivo": [value]},
        ):
            answer = local.post(f"/predicciones/{services.prediction}/resultado", body, key)
            tries.add((body, answer.text), success=value in answer.text or answer.is_success)
        for name in ("output", "desde", "hasta", "limite", "cursor", "referencia"):
            answer = local.get(f"/predicciones?{name}={value}", key)
            tries.add((name, answer.text), success=value in answer.text or answer.is_success)


# API4


def test_no_request_beyond_a_bound_is_served(services: Attacked, attack: Attack) -> None:
    local, medico, servicio = services["local"], services.key(Role.MEDICO), services.key(Role.SERVICIO)
    filled = json.dumps(PATIENT).encode()
    large = filled + b" " * LARGEST_BODY
    nested = b'{"edad": ' + b"[" * 33 + b"]" * 33 + b"}"
    posts = ("/predecir", "/explicar", f"/predicciones/{services.prediction}/resultado", "/referencias")
    packed = {"gzip": zlib.compress(large, wbits=31), "deflate": zlib.compress(large)}
    with attack(RESOURCES, "more than a bound allows") as tries:
        for path in posts:
            sent = [local.post(path, large, medico), local.post(path, nested, medico)]
            sent.append(local.send("POST", path, key=medico, headers=JSON | CHUNKED, body=large))
            sent += [local.post(path, content, medico, Content_Encoding=coding) for coding, content in packed.items()]
            sent += [
                local.post(path, content, medico, Content_Encoding=f"{coding}, {coding}")
                for coding, content in packed.items()
            ]
            for answer in sent:
                tries.add((path, answer.status), success=answer.status not in {400, 413, 415, 422})
        for limit in ("501", "1000000", "9" * 30, "0", "-1", "1e3", "NaN", "0x10", "5.5", ""):
            answer = local.get(f"/predicciones?limite={limit}", medico)
            tries.add(("limite", limit, answer.status), success=answer.status != 422)
        for target in (local, services["inference"]):
            for rows in (10_001, 20_000):
                answer = target.send("POST", INFER, key=servicio, headers=JSON, body=infer_body(rows))
                tries.add((target.name, rows, answer.status), success=answer.status not in {400, 413})
        for key in ("", "x" * 256, "x" * 5000):
            answer = local.post("/predecir", PATIENT, medico, Idempotency_Key=key)
            tries.add(("Idempotency-Key", len(key), answer.status), success=answer.status != 400)
        for reference in ("x" * 129, "%F0%9F%A7%91" * 129):
            answer = local.post("/predecir", PATIENT, medico, Referencia_Paciente=reference)
            tries.add(("Referencia-Paciente", len(reference), answer.status), success=answer.status != 400)


def test_no_head_far_above_its_bound_is_served(services: Attacked, attack: Attack) -> None:
    filler = b"x" * (16 * LARGEST_HEAD)
    heads = (
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + filler + b"\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * (len(filler) // 6) + b"\r\n",
        b"GET /health/live?" + filler + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + filler + b": x\r\n\r\n",
    )
    with attack(RESOURCES, "heads far above the bound") as tries:
        for target, head in product(services.targets.values(), heads):
            status = raw(target, head)
            tries.add((target.name, head[:60], status), success=status not in {None, 400, 414, 431})


def raw(target: Target, content: bytes, *, seconds: float = 30) -> int | None:
    """Send bytes on a connection of their own; return the status of the first answer, or None if it was closed."""
    with socket.create_connection(("127.0.0.1", target.process.port), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):  # the server may close before it has everything
            connection.sendall(content)
        return first_status(connection)


def first_status(connection: socket.socket) -> int | None:
    received = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n" not in received and (part := connection.recv(4096)):
            received += part
    return int(received.split()[1]) if received.startswith(b"HTTP/1.1 ") else None


def test_no_body_keeps_a_request_open_beyond_its_deadline(services: Attacked, attack: Attack) -> None:
    """Bodies that are announced and never sent, in several forms, all at the same time; others are served meanwhile."""
    local, key = services["local"], services.key(Role.MEDICO)
    head = f"Host: localhost\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n".encode()
    forms = (b"Content-Length: 50\r\n\r\n", b"Content-Length: 50\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{")
    posts = (b"/predecir", b"/explicar", b"/referencias", f"/predicciones/{services.prediction}/resultado".encode())
    with attack(RESOURCES, "bodies that never come") as tries, contextlib.ExitStack() as stack:
        silent = []
        for path, form in product(posts, forms):
            address = ("127.0.0.1", local.process.port)
            connection = stack.enter_context(socket.create_connection(address, timeout=60))
            connection.sendall(b"POST " + path + b" HTTP/1.1\r\n" + head + form)
            silent.append((path, form, connection))
        answer = local.get("/predicciones", key)
        tries.add(("beside them", answer.status), success=not answer.is_success)
        for path, form, connection in silent:
            status = first_status(connection)
            tries.add((path, form, status), success=status not in {None, 400, 408})


def test_no_key_is_served_above_its_rate(services: Attacked, attack: Attack, tmp_path: Path) -> None:
    rate, burst, sent = 1, 5, 200
    with (
        recorder_with_rate(services, tmp_path, rate=rate, burst=burst) as target,
        attack(RESOURCES, "above a key's rate") as tries,
    ):
        for role in READERS:
            started = time.monotonic()
            statuses = [target.get("/predicciones", services.key(role)).status for _ in range(sent)]
            most = burst + rate * (time.monotonic() - started) + 1
            served = sum(status != 429 for status in statuses)
            for number in range(sent):
                tries.add((role, served, most), success=number < served - most)


# API6


def test_no_repetition_of_a_request_adds_a_row(services: Attacked, attack: Attack) -> None:
    local, key = services["local"], services.key(Role.MEDICO)
    fed = f"/predicciones/{services.prediction}/resultado"
    rejected = {"aceptada": False, "diagnostico": "hipotiroidismo"}
    with attack(FLOWS, "repetitions of a request") as tries:
        for path, body in (("/predecir", PATIENT), (fed, rejected)):
            first = local.post(path, body, key, Idempotency_Key="repetida").json["id"]
            with ThreadPoolExecutor(8) as pool:
                again = list(pool.map(lambda _, path=path, body=body: repeated(local, path, body, key), range(24)))
            for answer in again:
                tries.add((path, answer.status), success=answer.is_success and answer.json["id"] != first)
            other = {**body, "motivo": "otro"} if "aceptada" in body else {**body, "edad": 48}
            answer = local.post(path, other, key, Idempotency_Key="repetida")
            tries.add((path, "other data", answer.status), success=answer.is_success or answer.status >= 500)


def repeated(target: Target, path: str, body: object, key: str) -> Answer:
    with contextlib.closing(Target(target.name, target.process, target.roles)) as own:
        return own.post(path, body, key, Idempotency_Key="repetida")


def test_no_request_changes_the_model_that_serves(services: Attacked, attack: Attack) -> None:
    model = "/v2/models/tiroides"
    paths = ["/modelo", "/modelos", model, f"{model}/versions/1", f"{model}/load", "/v2/repository/index"]
    paths += [f"/v2/repository/models/tiroides/{verb}" for verb in ("load", "unload")]
    target, key = services["inference"], services.key(Role.OPS)
    before = target.get("/v2/models/tiroides", key).body
    with attack(FLOWS, "requests that load or remove a model") as tries:
        for (caller, own), path, method in product(services.callers.items(), paths, ("POST", "PUT", "DELETE", "PATCH")):
            answer = target.send(method, path, key=own, headers=JSON, body=b'{"version": "2", "alias": "production"}')
            tries.add((caller, method, path, answer.status), success=answer.is_success or answer.status >= 500)
        tries.add("the model is another", success=target.get("/v2/models/tiroides", key).body != before)


# API8


def test_no_other_site_reaches_a_service_through_a_browser(services: Attacked, attack: Attack) -> None:
    hosts = ["", " ", *HOSTS.split()]
    origins = ORIGINS.split()
    with attack(MISCONFIGURATION, "other hosts and origins") as tries:
        for target, path in product(services.targets.values(), ("/health/live", "/predicciones", "/v2", "/")):
            for host in hosts:
                answer = target.get(path, services.key(Role.MEDICO), Host=host)
                tries.add((target.name, path, host, answer.status), success=answer.status not in {400, 403})
            for origin, method in product(origins, ("GET", "POST", "OPTIONS")):
                headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
                answer = target.send(method, path, key=services.key(Role.MEDICO), headers=headers)
                allowed = "access-control-allow-origin" in answer.headers
                tries.add((target.name, path, origin, answer.status), success=answer.status != 403 or allowed)


def test_no_file_of_the_machine_is_served(services: Attacked, attack: Attack) -> None:
    starts = ("/", "/pagina/", "/static-offline-docs/", "/static/", "/docs/", "/v2/models/")
    with attack(MISCONFIGURATION, "files of the machine") as tries:
        for target, start, climb, file in product(
            services.targets.values(), starts, ("", *CLIMBS.split()), FILES.split()
        ):
            answer = target.get(f"{start}{climb}{file}", services.key(Role.OPS))
            tries.add(
                (target.name, start, climb, file, answer.status), success=answer.is_success or answer.status >= 500
            )


def test_no_answer_describes_the_inside_of_a_service(services: Attacked, attack: Attack) -> None:
    inside = re.compile(
        r"Traceback|File \"|\.py\b|sqlalchemy|asyncpg|sqlite3|/tmp/|/home/|/root/|pydantic|starlette|uvicorn",
        re.IGNORECASE,
    )
    broken = BROKEN.split()
    with attack(MISCONFIGURATION, "errors that describe the inside") as tries:
        for target, path, role in product(services.targets.values(), broken, Role):
            for method in ("GET", "POST"):
                answer = target.send(method, path, key=services.key(role), headers=JSON, body=b"{")
                shown = inside.search(answer.text) or answer.headers.get("server") or answer.headers.get("x-powered-by")
                tries.add(
                    (target.name, method, path, answer.status, shown), success=bool(shown) or answer.status >= 500
                )


def test_no_answer_may_be_stored_on_its_way(services: Attacked, attack: Attack) -> None:
    local, medico = services["local"], services.key(Role.MEDICO)
    with attack(MISCONFIGURATION, "answers that a cache may store") as tries:
        for answer in (
            local.get("/predicciones", medico),
            local.get(f"/predicciones/{services.prediction}", medico),
            local.get("/predicciones/0", medico),
            local.get("/predicciones"),
            local.post("/predecir", PATIENT, medico),
            local.post("/predecir", {}, medico),
            local.post("/explicar", PATIENT, medico),
            local.post("/referencias", {"referencia": REFERENCE}, medico),
            local.send("POST", INFER, key=services.key(Role.SERVICIO), headers=JSON, body=infer_body()),
        ):
            tries.add((answer.status, answer.headers), success=answer.headers.get("cache-control") != "no-store")


def test_no_ambiguous_request_is_taken_apart_in_two_ways(services: Attacked, attack: Attack) -> None:
    """A second request that hides in the first would be served without its own checks."""
    hidden = b"GET /predicciones HTTP/1.1\r\nHost: localhost\r\n\r\n"
    start = b"POST /predecir HTTP/1.1\r\nHost: localhost\r\n"
    forms = [
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: +5\r\n\r\n",
        b"Content-Length: 0x5\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 5, 5\r\n\r\n",
        b" Content-Length: 5\r\n\r\n",
    ]
    with attack(MISCONFIGURATION, "ambiguous requests") as tries:
        for target, form in product(services.targets.values(), forms):
            with socket.create_connection(("127.0.0.1", target.process.port), timeout=30) as connection:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(start + form + hidden)
                    connection.shutdown(socket.SHUT_WR)
                received = b""
                with contextlib.suppress(ConnectionError):
                    while part := connection.recv(65536):
                        received += part
            statuses = re.findall(rb"HTTP/1\.1 (\d+)", received)
            tries.add(
                (target.name, form, statuses), success=any(status < b"400" or status >= b"500" for status in statuses)
            )


def test_no_file_of_keys_or_patients_is_readable_by_others(services: Attacked, attack: Attack) -> None:
    home = services.keys_file.parents[1]
    sensitive = [
        services.keys_file,
        *home.glob("*/var/keys/*"),
        *home.glob("*/predicciones.db*"),
        *home.glob("*/var/gateway/*"),
    ]
    with attack(MISCONFIGURATION, "modes of files") as tries:
        for path in sensitive:
            if path.suffix == ".pub" or path.name == "reserve":  # a public key, and a file of zeros
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            tries.add((path, oct(mode)), success=path.is_file() and bool(mode & 0o077))


# API9


def test_no_forgotten_address_is_served(services: Attacked, attack: Attack) -> None:
    versions = ("/", "/v1/", "/v2/", "/v3/", "/api/v1/", "/api/v2/", "/beta/", "/old/", "/dev/", "/_")
    with attack(INVENTORY, "addresses that no document lists") as tries:
        for target, version, name in product(services.targets.values(), versions, FORGOTTEN.split()):
            path = f"{version}{name}"
            if any(known == path for _, known in target.roles):
                continue
            for key in (None, services.key(Role.OPS)):
                answer = target.get(path, key)
                tries.add((target.name, path, answer.status), success=answer.status not in {401, 404})


def test_no_route_is_missing_from_the_document(services: Attacked, attack: Attack) -> None:
    """The page's own files and the documentation's are the only addresses that it does not describe."""
    hidden = {"/", "/pagina/{archivo}", "/docs", "/openapi.json", "/static-offline-docs/{path:path}"}
    with attack(INVENTORY, "routes that the document lacks") as tries:
        for target in services.targets.values():
            paths = target.get("/openapi.json", services.key(Role.OPS)).json["paths"]
            for method, path in target.roles:
                tries.add(
                    (target.name, method, path),
                    success=path not in hidden and method.lower() not in paths.get(path, {}),
                )


def test_the_services_are_up_and_logged_no_error(services: Attacked) -> None:
    assert services.failures() == []
