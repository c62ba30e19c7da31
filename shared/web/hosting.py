"""Hosting of a service: its HTTP application, health, signals and exit code.

A service opens its resources in one async context manager that yields a `Part`. `http_app` makes an application of
parts. `main` binds the port, serves until SIGTERM or SIGINT, drains, and closes the resources in reverse order.
"""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import structlog
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

from shared.failpoints import arm
from shared.patient import PatientClassError
from shared.private_files import UMASK, restrict
from shared.settings import BAD_SETTINGS, ServiceSettings, SettingsError, read_settings
from shared.telemetry import configure_logging, described
from shared.web.access_trail import AccessTrail
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.authorization import Authorizer, may_see_details
from shared.web.connection import CLOSE
from shared.web.key_requirement import log_requirement, open_keys
from shared.web.load_shedding import LoadShedder, server_protocol
from shared.web.middleware import EdgeMiddleware
from shared.web.openapi import add_documentation, document
from shared.web.rate_limit import RateLimit
from shared.web.rejections import Rejections, Translations, handle_errors
from shared.web.routing import PEOPLE, PUBLIC, Router, RouteRoles, addresses, route_roles

LARGEST_BODY = 256 * 1024
"""Most bytes of a request body; more is a 413, with or without a Content-Length."""
SHUTDOWN_SECONDS = 10
"""Time for requests in flight to finish once the service stops."""
UNAVAILABLE = 69
"""Exit code when a resource prevents the start, such as a used port: EX_UNAVAILABLE of sysexits(3)."""

_PAGE = ("GET", "/")
_BACKLOG = 2048
_OWN_FILES = 256
"""Files and connections that a service opens itself: databases, models, RabbitMQ, inference."""
_SWITCH_SECONDS = 0.0005
"""How long a thread may hold the interpreter; Python's default of 5 ms is the time of thirty requests."""


class StartError(Exception):
    """The service cannot start, although its settings are valid; one line with cause, place and remedy."""


class Reason(NamedTuple):
    """Why a component is not ready: a Spanish sentence, and the technical message that the log has, too."""

    sentence: str
    message: str = ""

    def __str__(self) -> str:
        """Return one line for a terminal."""
        return f"{self.sentence} ({self.message})" if self.message else self.sentence


class Listo(BaseModel):
    """El servicio puede hacer su trabajo."""

    estado: str


class NoListo(BaseModel):
    """El servicio no puede hacer su trabajo, y por qué, por componente."""

    estado: str
    motivos: dict[str, str]
    mensajes_tecnicos: dict[str, str] = Field(description="Con claves creadas, solo para una clave de ops.")


@dataclass(frozen=True, slots=True)
class Part:
    """One running service: its routes, and the reasons why it is not ready, by component; empty when it is.

    `hot` are applications that are served before the framework's layers, by method and path; a route documents each.
    `shedder` sheds the load of a route; of several parts in one process, one has a shedder. `translations` are for
    the errors of all paths of a protocol, unknown ones too.
    """

    routers: tuple[APIRouter, ...]
    unready: Callable[[], Mapping[str, Reason]]
    hot: Mapping[tuple[str, str], ASGIApp] = field(default_factory=dict)
    shedder: LoadShedder | None = None
    translations: Translations = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edge:
    """Inputs of the edge middleware: roles of the routes, hot applications, and the process's rejections."""

    roles: RouteRoles
    hot: Mapping[tuple[str, str], ASGIApp]
    rejections: Rejections


def http_app(title: str, *parts: Part, registry: CollectorRegistry, draining: asyncio.Event | None = None) -> FastAPI:
    """Build the application of one or several parts, with health, metrics, offline `/docs` and errors in Spanish."""
    app: FastAPI = FastAPIOffline(
        title=title, docs_url=None, redoc_url=None, max_body_size=LARGEST_BODY, redirect_slashes=False
    )
    add_documentation(app)
    documentation = dict.fromkeys(addresses(app.router), PEOPLE)
    routers = [_own_router(parts, registry, draining), *(router for part in parts for router in part.routers)]
    for router in routers:
        app.include_router(router)
    edge = Edge(
        roles={**documentation, **route_roles(*routers)},
        hot={address: served for part in parts for address, served in part.hot.items()},
        rejections=Rejections(registry, dict(chain.from_iterable(part.translations.items() for part in parts))),
    )
    app.state.edge = edge
    handle_errors(app, edge.rejections)
    bodies = [router.bodies for router in routers if isinstance(router, Router)]
    document(app, edge.roles, dict(chain.from_iterable(each.items() for each in bodies)))
    return app


def edge_of(app: FastAPI) -> Edge:
    """Return the inputs of the edge middleware of an application that `http_app` built."""
    edge: Edge = app.state.edge
    return edge


def edge_app(
    app: FastAPI,
    allowed_hosts: str,
    keys: ApiKeyStore | None = None,
    limit: RateLimit | None = None,
    trail: AccessTrail | None = None,
) -> EdgeMiddleware:
    """Put the edge middleware before `app`, which `http_app` built; without `keys` no request needs one."""
    edge = edge_of(app)
    authorizer = None if keys is None else Authorizer(keys, edge.roles, limit or RateLimit(0, 1))
    return EdgeMiddleware(app, edge.hot, allowed_hosts, edge.rejections, authorizer, trail)


def _own_router(parts: Sequence[Part], registry: CollectorRegistry, draining: asyncio.Event | None) -> Router:
    """Build the routes that every service has."""
    router, log = Router(tags=["salud"]), _ReadinessLog()

    @router.get("/health/live", roles=PUBLIC, summary="¿Vive el proceso?")
    async def live() -> dict[str, str]:
        return {"estado": "vivo"}

    @router.get(
        "/health/ready",
        roles=PUBLIC,
        summary="¿Puede hacer su trabajo?",
        response_model=Listo,
        responses={503: {"model": NoListo, "description": "No; dice por qué"}},
    )
    async def ready(request: Request) -> Response:
        reasons = unready_reasons(*parts)
        if draining is not None and draining.is_set():
            reasons["servicio"] = Reason("El servicio se está deteniendo.")
        log.note(reasons)
        if reasons:
            sentences = {name: reason.sentence for name, reason in reasons.items()}
            messages = _messages(reasons) if may_see_details(request.scope) else {}
            return JSONResponse({"estado": "no disponible", "motivos": sentences, "mensajes_tecnicos": messages}, 503)
        return JSONResponse({"estado": "listo"})

    @router.get(
        "/metrics",
        roles={Role.OPS},
        summary="Contadores, en el formato de Prometheus",
        response_class=PlainTextResponse,
    )
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


class _ReadinessLog:
    """Logs each change of the reasons that a readiness check reports: the response may lack the technical messages."""

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}

    def note(self, reasons: dict[str, Reason]) -> None:
        if reasons != self._reasons:
            sentences = {name: reason.sentence for name, reason in reasons.items()}
            structlog.get_logger().info("readiness_changed", reasons=sentences | _messages(reasons))
        self._reasons = reasons


def _messages(reasons: Mapping[str, Reason]) -> dict[str, str]:
    return {name: reason.message for name, reason in reasons.items() if reason.message}


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers (code after `serve` would never run), and with a start line."""

    def __init__(self, config: uvicorn.Config, unready: Callable[[], Mapping[str, Reason]], *, page: bool) -> None:
        super().__init__(config)
        self._unready, self._page = unready, page

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in sockets or ():
            address, port = sock.getsockname()[:2]
            url = f"http://{f'[{address}]' if ':' in address else address}:{port}"
            print(announcement(url, self._unready(), page=self._page), flush=True)  # noqa: T201 - for a person and scripts

    def close_connections(self) -> None:
        """Close each connection after its next response, from within a second on: clients then connect elsewhere."""
        self.config.encoded_headers.append(CLOSE)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def announcement(url: str, reasons: Mapping[str, Reason], *, page: bool) -> str:
    """Return the line that a started service prints; scripts read its beginning, up to the address."""
    if reasons:
        return f"listening on {url} · Aún no está listo. {' '.join(map(str, reasons.values()))}"
    return f"ready on {url} · Abra {url} en el navegador" if page else f"ready on {url} (see /docs)"


def unready_reasons(*parts: Part) -> dict[str, Reason]:
    """Return why any of `parts` cannot do its job, by component; empty when all can."""
    return {name: reason for part in parts for name, reason in part.unready().items()}


S = TypeVar("S", bound=ServiceSettings)
Opened = Callable[[S, CollectorRegistry], "AbstractAsyncContextManager[tuple[Part, ...]]"]


def main(service: str, kind: type[S], opened: Opened[S]) -> int:
    """Run `service` until SIGTERM or SIGINT; return the exit code. Expected failures are one line, no traceback.

    `kind` is the class of the service's settings, read here once; `opened` opens its resources and yields its parts.
    """
    code = 0
    try:
        settings = read_settings(kind)
        configure_logging(settings.log_level, service=service)
        os.umask(UMASK)
        arm(settings.failpoint)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(service, settings, opened))
    except* (SettingsError, PatientClassError) as group:
        _print_errors(service, group)
        code = BAD_SETTINGS
    except* StartError as group:
        _print_errors(service, group)
        code = UNAVAILABLE
    return code


async def _serve(service: str, settings: S, opened: Opened[S]) -> None:
    keys, trail = open_keys(settings), AccessTrail(service)
    limit, restricted = RateLimit(settings.key_rate, settings.key_burst), restrict(settings.var)
    registry = CollectorRegistry()
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(_unexpected)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    connections = allow_open_files(settings.max_connections)
    with contextlib.closing(trail), _listen(settings.host, settings.port) as sock:
        async with opened(settings, registry) as parts:
            log_requirement(settings, keys)  # here, since a start that fails is one line
            if restricted:
                structlog.get_logger().warning("private_files_restricted", folder=str(settings.var), count=restricted)
            app = http_app(f"Predecir: {service}", *parts, _of_keys(keys), registry=registry, draining=stopping)
            shedder = next((part.shedder for part in parts if part.shedder is not None), None)
            server = _Server(
                uvicorn.Config(
                    edge_app(app, settings.allowed_hosts, keys, limit, trail),
                    http=server_protocol(edge_of(app).rejections, shedder, connections),
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    timeout_keep_alive=settings.keep_alive_seconds,
                    timeout_graceful_shutdown=SHUTDOWN_SECONDS,
                ),
                lambda: unready_reasons(*parts),
                page=_PAGE in edge_of(app).roles,
            )
            limit_pauses()
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            stopped = asyncio.create_task(stopping.wait())
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for signum in (signal.SIGTERM, signal.SIGINT):  # a second signal stops without waiting
                loop.add_signal_handler(signum, setattr, server, "force_exit", True)  # noqa: FBT003
            server.close_connections()
            await asyncio.sleep(settings.drain_seconds)
            server.should_exit = True
            await serving


def allow_open_files(connections: int) -> int:
    """Raise this process's limit of open files to what `connections` and the service itself need.

    Returns how many connections fit: fewer, if the system does not allow as many files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _OWN_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        connections = max(allowed - _OWN_FILES, 1)
        structlog.get_logger().warning("connections_limited", connections=connections, open_files=hard)
    return connections


def limit_pauses() -> None:
    """Shorten pauses of the interpreter, which delay every request in flight.

    A thread that commits waits for the interpreter after each of its steps, and the event loop waits for the thread.
    Objects of the start stay in memory: without `freeze` the collector would search them repeatedly, a tenth of a
    second each time.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()


def _unexpected(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log only the place of an uncaught error: asyncio would print the message, which may hold a patient's values."""
    error = context.get("exception")
    structlog.get_logger().error("unexpected_error", error=described(error) if error else context["message"])


def _of_keys(keys: ApiKeyStore) -> Part:
    # Readiness is open to everybody, so it does not show the file's path.
    reason = Reason("Las claves no se pueden leer; vea el registro.")
    return Part((), lambda: {} if keys.failure is None else {"claves": reason})


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        message = f"cannot listen on {address} port {port}: {error.strerror}; stop what uses it, or choose PORT=…"
        raise StartError(message) from None
    return sock


def _print_errors(service: str, error: BaseException) -> None:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            _print_errors(service, inner)
    else:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201 - for a person, in one line
