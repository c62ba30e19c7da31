"""Routes of the Open Inference Protocol v2 over REST; its messages are in `shared.contracts.open_inference`.

Errors have an `ErrorBody`: 400 malformed request, 404 unknown model or version, 408 too slow, 413 too large,
415 content coding, 503 no model or no room.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.types import ASGIApp

from services.inference.api.errors import OpenInferenceProblemError, OpenInferenceRoute, hot_app
from services.inference.api.tensors import read_rows, write_output
from services.inference.serving.batcher import Batcher
from services.inference.serving.model import LoadedModel, Model, Probabilities, Rows
from shared.contracts.open_inference import (
    EXTENSIONS,
    INPUT,
    JSON_LENGTH,
    OTHER_CLASS,
    ErrorBody,
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ResponseParameters,
    ServerLive,
    ServerMetadata,
    ServerReady,
    describe,
    read_request,
)
from shared.contracts.scoring import ModelUnavailableError
from shared.patient import Patient
from shared.web.access_trail import note_access
from shared.web.api_keys import Role
from shared.web.authorization import may_see_details
from shared.web.bodies import read_body
from shared.web.problems import ProblemError
from shared.web.routing import PUBLIC, SCHEMAS, Body, Router
from shared.web.security_headers import styles_policy

_READERS = frozenset({Role.SERVICIO, Role.OPS})
"""The roles that may read what is served; only SERVICIO may ask for scores."""
SERVER = "predecir"
PROTOCOL_VERSION = "2"
_LONGEST_NUMBER = 32
"""Most bytes of a number, its comma and white space in a request body."""
BODY_SECONDS = 30
"""Time for a request body to arrive."""
_BODY_DETAILS = {
    "tamano": "the body has more than {largest} bytes; send fewer rows at a time",
    "cortada": "the body ended too early",
    "codificacion": "Content-Encoding: send the body as it is, or compressed once with gzip or deflate",
    "comprimido": "the body is not compressed as its Content-Encoding states, or was cut off",
}
_BINARY = "application/octet-stream"
_INLINE_BYTES = 32 * 1024
"""Larger bodies are parsed and serialised in a thread."""

T = TypeVar("T")


def protocol_routes(
    batcher: Batcher, patient: type[Patient], *, max_rows: int
) -> tuple[Router, Mapping[tuple[str, str], ASGIApp]]:
    """Build the routes under `/v2` for the one model of `patient`; a request may have up to `max_rows` rows.

    The second value is the hot route, which gateways call. It bypasses the framework, whose layers cost as much as
    several rows.
    """
    routes = Router(prefix="/v2", tags=["Open Inference Protocol"], route_class=OpenInferenceRoute)
    find = partial(_find, batcher, patient.disease.name)
    _add_server(routes, batcher)
    _add_model(routes, batcher, find)
    infer = _add_infer(routes, batcher, find, len(patient.columns), max_rows)
    name = patient.disease.name
    return routes, {("POST", f"/v2/models/{name}/infer"): hot_app(lambda *request: infer(Request(*request), name))}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document errors, and those of the keys, in the protocol's form."""
    return {
        status: {"model": ErrorBody, "description": HTTPStatus(status).phrase} for status in (*statuses, 401, 403, 429)
    }


def _add_server(routes: Router, batcher: Batcher) -> None:
    @routes.get("", roles=_READERS, responses=_errors())
    async def server_metadata() -> ServerMetadata:
        return ServerMetadata(name=SERVER, version=PROTOCOL_VERSION, extensions=list(EXTENSIONS))

    @routes.get("/health/live", roles=PUBLIC)
    async def server_live() -> ServerLive:
        return ServerLive(live=True)

    unready: dict[int | str, dict[str, Any]] = {503: {"model": ErrorBody, "description": "Not ready, and why"}}

    @routes.get("/health/ready", roles=PUBLIC, response_model=ServerReady, responses=unready)
    async def server_ready(request: Request) -> Response:
        reason = batcher.unavailable()
        if reason is not None and not may_see_details(request.scope):
            reason = "no model serves; the log has the reason"
        return _readiness({"live": True}, reason)


def _add_model(routes: Router, batcher: Batcher, find: Callable[[str, str | None], LoadedModel | None]) -> None:
    errors = _errors(404, 503)

    def readiness(name: str, version: str | None) -> Response:
        find(name, version)
        return _readiness({"name": name}, batcher.unavailable())

    @routes.get("/models/{name}/ready", roles=_READERS, response_model=ModelReady, responses=errors)
    async def model_ready(name: str) -> Response:
        return readiness(name, None)

    @routes.get("/models/{name}/versions/{version}/ready", roles=_READERS, response_model=ModelReady, responses=errors)
    async def version_ready(name: str, version: str) -> Response:
        return readiness(name, version)

    @routes.get("/models/{name}/card", roles=_READERS, response_class=HTMLResponse, responses=errors)
    async def model_card(name: str) -> Response:
        card = _serving(batcher, find(name, None)).card
        if card is None:
            raise _unknown("this version has no model card")
        return HTMLResponse(card, headers={"Content-Security-Policy": styles_policy(card)})

    def metadata(name: str, version: str | None) -> ModelMetadata:
        model = _serving(batcher, find(name, version)).model
        return describe(model.facts, model.platform)

    @routes.get("/models/{name}", roles=_READERS, responses=errors)
    async def model_metadata(name: str) -> ModelMetadata:
        return metadata(name, None)

    @routes.get("/models/{name}/versions/{version}", roles=_READERS, responses=errors)
    async def version_metadata(name: str, version: str) -> ModelMetadata:
        return metadata(name, version)


def _add_infer(
    routes: Router,
    batcher: Batcher,
    find: Callable[[str, str | None], LoadedModel | None],
    columns: int,
    max_rows: int,
) -> Callable[[Request, str], Awaitable[Response]]:
    example = {"inputs": [{"name": INPUT, "datatype": "FP32", "shape": [1, columns], "data": [None] * columns}]}
    options: dict[str, Any] = {
        "response_model": InferResponse,
        "responses": {200: {"content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}}}}
        | _errors(400, 404, 408, 413, 415, 503),
        "body": Body("InferRequest", InferRequest.model_json_schema(ref_template=SCHEMAS) | {"examples": [example]}),
        "max_body_size": sys.maxsize,  # `_body` has the limit: its error has the protocol's body
    }
    largest = max_rows * columns * _LONGEST_NUMBER

    async def answer(request: Request, name: str, version: str | None) -> Response:
        loaded = _serving(batcher, find(name, version))
        body = await _body(request, largest)
        read = partial(_parse, body, request.headers.get(JSON_LENGTH), loaded, columns, max_rows)
        parsed, rows = await _run(len(body), read)
        probabilities = await batcher.infer(rows, loaded)
        note_access(request.scope, rows=len(rows))
        return await _run(len(body), partial(_response, parsed, loaded.model, probabilities))

    @routes.post("/models/{name}/infer", roles={Role.SERVICIO}, **options)
    async def infer(request: Request, name: str) -> Response:
        return await answer(request, name, None)

    @routes.post("/models/{name}/versions/{version}/infer", roles={Role.SERVICIO}, **options)
    async def infer_version(request: Request, name: str, version: str) -> Response:
        return await answer(request, name, version)

    return infer


def _find(batcher: Batcher, served: str, name: str, version: str | None) -> LoadedModel | None:
    """Return the model that serves, if any; raise a 404 if the path names another."""
    loaded = batcher.loaded
    if name != served:
        raise _unknown(f"unknown model; this server has {served}")
    if loaded is not None and version not in (None, loaded.model.facts.version):
        raise _unknown(f"unknown version; {served} is served in version {loaded.model.facts.version}")
    return loaded


def _unknown(detail: str) -> OpenInferenceProblemError:
    return OpenInferenceProblemError(404, "modelo_desconocido", detail)


def _serving(batcher: Batcher, loaded: LoadedModel | None) -> LoadedModel:
    if loaded is None:
        raise ModelUnavailableError(batcher.unavailable())
    return loaded


def _readiness(body: dict[str, Any], reason: str | None) -> Response:
    if reason is None:
        return JSONResponse({**body, "ready": True})
    return JSONResponse({**body, "ready": False, "error": reason}, 503)


async def _body(request: Request, largest: int) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await read_body(request.scope, request.receive, largest)
    except TimeoutError:
        raise OpenInferenceProblemError(408, "cortada", f"the body took more than {BODY_SECONDS} s") from None
    except ProblemError as problem:
        detail = _BODY_DETAILS[problem.rule].format(largest=largest)
        raise OpenInferenceProblemError(problem.status, problem.rule, detail) from None


def _parse(
    body: bytes, json_length: str | None, loaded: LoadedModel, columns: int, max_rows: int
) -> tuple[InferRequest, Rows]:
    request, binary = read_request(body, json_length)
    if request.options.patient_digest not in {None, loaded.model.facts.patient_digest}:
        raise ModelUnavailableError(OTHER_CLASS)
    return request, read_rows(request, binary, columns, most=max_rows)


def _response(request: InferRequest, model: Model, probabilities: Probabilities) -> Response:
    facts, known = model.facts, request.options.known_digests
    unknown = known is not None and facts.digest not in known.split()
    output, binary = write_output(request, probabilities, facts.classes)
    response = InferResponse.model_construct(
        model_name=facts.name,
        model_version=facts.version,
        parameters=ResponseParameters(digest=facts.digest, model=describe(facts, model.platform) if unknown else None),
        outputs=[output],
        id=request.id,
    )
    content = orjson.dumps(response.model_dump(exclude_none=True))
    if output.parameters is None:
        return Response(content, media_type="application/json")
    return Response(content + binary, 200, {JSON_LENGTH: str(len(content))}, _BINARY)


async def _run(size: int, work: Callable[[], T]) -> T:
    """Do `work` here, or in a thread if the body has more than `_INLINE_BYTES`."""
    return work() if size <= _INLINE_BYTES else await asyncio.to_thread(work)
