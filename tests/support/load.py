"""Closed-loop load client over HTTP: each connection sends its next patient after the answer to the one before.

Patients, keys and records are the caller's choice. This client uses as much CPU per request as the server, so there are
two other generators for peak rates: `chaos.load.arrivals`, an open loop, and wrk (`bench.lib.wrk`).
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NamedTuple

import aiohttp

from tests.support.waiting import until

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.5
_LAST_TRIES_SECONDS = 90
_MORE_SECONDS = 120
PATIENT = {"edad": 47, "sexo": "F", "tsh": 0.05, "t3": 4.1, "t4_total": 210, "captacion_t4": 0.9}


class Request(NamedTuple):
    """One request: `failed` is its status code or the kind of failure, or empty for an answer. Times are monotonic."""

    start: float
    end: float
    number: int
    keyed: bool
    failed: str
    id: str = ""
    output: str = ""


@dataclass(slots=True)
class Requests:
    """A record of requests in memory."""

    all: list[Request] = field(default_factory=list)

    @property
    def answered(self) -> list[str]:
        """Ids of the answers, in the order of their arrival."""
        return [request.id for request in self.all if not request.failed]

    @property
    def rejected(self) -> list[int]:
        """Status codes of the responses that were no answers."""
        return [int(request.failed) for request in self.all if request.failed.isdigit()]

    @property
    def cut(self) -> int:
        """Number of requests without a response."""
        return sum(request.failed != "" and not request.failed.isdigit() for request in self.all)

    def failed(self, since: float, to: float = float("inf")) -> tuple[int, int]:
        """Return the number of failed requests, and of all, that were sent in a span of time."""
        failures = [request.failed != "" for request in self.all if since <= request.start < to]
        return sum(failures), len(failures)

    async def more(self, count: int) -> None:
        """Wait for so many more requests, answered or not."""
        enough = len(self.all) + count
        await until(lambda: len(self.all) >= enough, seconds=_MORE_SECONDS)


@dataclass(frozen=True, slots=True)
class Plan:
    """A client's request. With a key it is repeated until it has its `answers`; without one it is sent once."""

    patient: Callable[[int], Mapping[str, object]] = lambda _: PATIENT
    key: Callable[[int], str | None] = lambda _: None
    answers: Callable[[int], int] = lambda _: 1
    first: int = 0
    pause: float = 0.01


class LoadClient:
    """The connections of one session, which follow one plan until `stop`."""

    def __init__(self, session: aiohttp.ClientSession, plan: Plan, record: Callable[[Request], None]) -> None:
        self._session, self._plan, self._record = session, plan, record
        self._numbers = itertools.count(plan.first)
        self._stopping = asyncio.Event()
        self._deadline = float("inf")

    def stop(self) -> None:
        """Begin no new patient; requests with a key are repeated for at most 90 s more."""
        self._deadline = time.monotonic() + _LAST_TRIES_SECONDS
        self._stopping.set()

    async def run(self, connections: int) -> None:
        """Send over so many `connections` until stopped."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while not self._stopping.is_set():
            number = next(self._numbers)
            key = self._plan.key(number)
            if key is None:
                await self._send(number, {})
            else:
                await self._send_until_answered(number, {"Idempotency-Key": key})
            await asyncio.sleep(self._plan.pause)

    async def _send_until_answered(self, number: int, headers: dict[str, str]) -> None:
        answers, wait = self._plan.answers(number), _FIRST_WAIT
        while answers and time.monotonic() < self._deadline:
            if await self._send(number, headers):
                answers -= 1
            else:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    async def _send(self, number: int, headers: dict[str, str]) -> bool:
        start = time.monotonic()
        failed, answer = "", {"id": "", "prediccion": ""}
        try:
            async with self._session.post("/predecir", json=self._plan.patient(number), headers=headers) as response:
                body = await response.read()
            if response.status == HTTPStatus.OK:
                answer = json.loads(body)
            else:
                failed = str(response.status)
        except TimeoutError:
            failed = "timeout"
        except aiohttp.ClientConnectorError:
            failed = "refused"
        except (aiohttp.ClientError, OSError):
            failed = "cut"
        request = Request(start, time.monotonic(), number, bool(headers), failed, answer["id"], answer["prediccion"])
        self._record(request)
        return not failed


@asynccontextmanager
async def load(
    url: str, plan: Plan | None = None, *, connections: int = 8, seconds: float = 30, api_key: str | None = None
) -> AsyncIterator[Requests]:
    """Send requests to `url` meanwhile, each with a timeout of `seconds`; yields their record, complete at the end."""
    requests, timeout = Requests(), aiohttp.ClientTimeout(total=seconds)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    async with aiohttp.ClientSession(url, timeout=timeout, headers=headers) as session, asyncio.TaskGroup() as tasks:
        client = LoadClient(session, plan or Plan(), requests.all.append)
        tasks.create_task(client.run(connections))
        try:
            yield requests
        finally:
            client.stop()
