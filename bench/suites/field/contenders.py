"""Contenders of the comparison: this system in both profiles, the simplest design, and the other tools."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.lib.profile import rows, server_processes, server_profile
from bench.suites.field.competitors import ONNX, SKLEARN, TOOLS, Bundle, Tool, simplest
from bench.suites.field.environments import OURS, environment
from bench.suites.field.sample_requests import SampleRequests
from tests.support.bundles import copy_model
from tests.support.processes import Process, family, serving

_DRAIN_SECONDS = 60
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Of every server: with two, one call of the scikit-learn model takes several times as long on two busy cores."""


@dataclass(frozen=True, slots=True)
class MeasuredServer:
    """A server under measurement.

    `kept` waits until no event is in transit and returns the number of recorded answers. None: it records none.
    """

    server: Process
    target: str
    body: Callable[[int], dict[str, Any]]
    """Function from a patient's number to the body of its request."""
    read: Callable[[Any], list[float]]
    """The probabilities in an answer: all, or only the highest."""
    processes: Callable[[], list[psutil.Process]]
    kept: Callable[[], dict[str, int]] | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the comparison; `open` starts it in an empty folder and stops it."""

    name: str
    title: str
    model: str
    open: Callable[[Path], AbstractContextManager[MeasuredServer]]


def contenders(bundle: Bundle, requests: SampleRequests) -> list[Contender]:
    """Return all contenders, this system first."""
    return [
        Contender("local", "this system, local profile", ONNX, partial(_local, bundle, requests)),
        Contender("server", "this system, server profile", ONNX, partial(_server, bundle, requests)),
        *(
            Contender(f"{tool.name}-{model.lower()}", tool.title, model, partial(_tool, tool, bundle, model, requests))
            for tool in TOOLS
            for model in (SKLEARN, ONNX)
        ),
        Contender("simplest", "the simplest design", SKLEARN, partial(_simplest, bundle, requests)),
    ]


@contextmanager
def _local(bundle: Bundle, requests: SampleRequests, home: Path) -> Iterator[MeasuredServer]:
    copy_model(home, bundle.folder)
    command = [environment(OURS).python, "-m", "services.local"]
    with serving(command, home, _ONE_THREAD, _answers("/predecir", requests.patient(0))) as server:
        yield _ours(bundle, requests, server, lambda: family(server.process), lambda: _reconciled(server))


@contextmanager
def _server(bundle: Bundle, requests: SampleRequests, home: Path) -> Iterator[MeasuredServer]:
    with server_profile(home, bundle.folder) as stack, stack.recorder() as recorder:

        def kept() -> dict[str, int]:
            stack.drain(recorder)
            return {"answered": stack.gateway.metric("predecir_answers_total"), "recorded": rows(stack)}

        yield _ours(bundle, requests, stack.gateway, lambda: server_processes(stack, recorder), kept)


def _ours(
    bundle: Bundle,
    requests: SampleRequests,
    server: Process,
    processes: Callable[[], list[psutil.Process]],
    kept: Callable[[], dict[str, int]],
) -> MeasuredServer:
    def read(answer: Any) -> list[float]:  # noqa: ANN401 - JSON
        return [answer["probabilidades"][name] for name in bundle.classes]

    return MeasuredServer(server, "/predecir", requests.patient, read, processes, kept)


@contextmanager
def _simplest(bundle: Bundle, requests: SampleRequests, home: Path) -> Iterator[MeasuredServer]:
    with serving(simplest(bundle), home, _ONE_THREAD, _answers("/predecir", requests.patient(0))) as server:
        yield MeasuredServer(
            server,
            "/predecir",
            requests.patient,
            lambda answer: [answer["probabilidad"]],
            lambda: family(server.process),
        )


@contextmanager
def _tool(tool: Tool, bundle: Bundle, model: str, requests: SampleRequests, home: Path) -> Iterator[MeasuredServer]:
    def body(number: int) -> dict[str, Any]:
        return tool.body(bundle, model, requests.row(number))

    command = tool.start(bundle, model, home)
    with serving(command, home, {**_ONE_THREAD, **tool.variables}, _answers(tool.target, body(0))) as server:
        yield MeasuredServer(server, tool.target, body, tool.read, lambda: family(server.process))


def _answers(target: str, body: dict[str, Any]) -> Callable[[int], bool]:
    """Return a function that checks whether the server on a port answers `body`."""

    def answers(port: int) -> bool:
        try:
            ask(port, target, body)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True

    return answers


def ask(port: int, target: str, body: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """POST `body` and return the parsed response."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{target}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a server of ours on this machine
        return json.load(response)


def _reconciled(server: Process) -> dict[str, int]:
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        account = json.loads(server.read("/conciliacion"))["gateways"][0]
        answered = server.metric("predecir_answers_total")
        if account["registradas"] >= answered or time.monotonic() > deadline:
            return {"answered": answered, "recorded": account["registradas"]}
        time.sleep(0.1)
