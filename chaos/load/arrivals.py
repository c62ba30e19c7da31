"""Open-loop load generator of `chaos.scenarios.overload`: `python -m chaos.load.arrivals PORT TIMES SECONDS FOLDER`.

Each request is sent at its own time, whether or not earlier ones were answered. Latency counts from when it was sent.
A closed loop would wait with the server, and so could not send more than the server answers. The generator is a process
of its own: one event loop on plain sockets, to leave most of the CPU to the server. It reports its own delay, too.
"""

import asyncio
import json
import sys
import time
from array import array
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any, Self, cast

import uvloop

from tests.support.waiting import until

PEAK_CLIENTS = 64
"""Number of connections while the peak is measured."""
CONNECTIONS = 1000
"""Largest number of open requests; a further one is not sent, and counted as unsent."""
_TICK_SECONDS = 0.001
_WARMING_SECONDS = 2.0
_PEAK_SECONDS = 8.0
_HALF_SECONDS = 8.0
"""Seconds at half of the peak, before the overload, for comparison, and after it."""
_GIVE_UP_SECONDS = 10
_ODD_ONES = 0.01
"""Largest share of unanswered requests in a second that counts as good; it allows for pauses of the machine."""
_OK = 200
_HEAD = b"POST /predecir HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@dataclass(slots=True)
class PhaseStats:
    """Statistics of the requests of one phase; times in seconds from its start."""

    latencies: dict[int, "array[float]"] = field(default_factory=dict)
    """Milliseconds by status; 0 for a connection that ended without a response."""
    late: "array[float]" = field(default_factory=lambda: array("d"))
    """Delay of the sending of each request, in milliseconds."""
    unsent: int = 0
    """Requests for which no connection was free."""
    without_retry_after: int = 0
    missed: Counter[int] = field(default_factory=Counter)
    """Unanswered requests, by the second in which they were sent or due."""

    def note(self, status: int, seconds: float, sent: float, head: bytes) -> None:
        """Count one response."""
        self.latencies.setdefault(status, array("d")).append(seconds * 1000)
        if status != _OK:
            self.missed[int(sent)] += 1
            self.without_retry_after += b"retry-after" not in head.lower()

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return summary figures; the phase took `seconds`."""
        rate = (sum(map(len, self.latencies.values())) + self.unsent) / seconds
        bad = {second for second, missed in self.missed.items() if missed > rate * _ODD_ONES}
        # Bad seconds after the first good one are counted apart: a pause of the machine makes one at any time.
        recovered = next(second for second in count() if second not in bad)
        return {
            "seconds": seconds,
            "offered_rate": rate,
            "unsent": self.unsent,
            "without_retry_after": self.without_retry_after,
            "recovered_after": recovered,
            "bad_later": sum(second > recovered for second in bad),
            "late_p99_ms": _quantile(self.late, 0.99),
            "by_status": {
                str(status): {
                    "count": len(taken),
                    "rate": len(taken) / seconds,
                    "p50_ms": _quantile(taken, 0.5),
                    "p99_ms": _quantile(taken, 0.99),
                }
                for status, taken in sorted(self.latencies.items())
            },
        }


def _quantile(values: "array[float]", part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


class _Client(asyncio.Protocol):
    """One connection, with at most one request on it."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._pending: tuple[PhaseStats, float, float] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection as free."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, stats: PhaseStats, since_start: float) -> None:
        """Send `request`."""
        assert self._transport is not None  # noqa: S101 - asked once it is connected
        self._pending = (stats, time.perf_counter(), since_start)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read a response; the connection is free again when it is complete."""
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or self._pending is None:
            return
        head = self._buffer[:end]
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length:
            return
        stats, started, since_start = self._pending
        status, body, self._buffer, self._pending = int(head[9:12]), self._buffer[end + 4 :], b"", None
        stats.note(status, time.perf_counter() - started, since_start, head)
        if status == _OK:
            self._load.answered.append(body[7:43].decode())  # {"id":"…36 characters…"
        self._load.is_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the open request as failed."""
        del exc
        if self._pending is not None:
            stats, started, since_start = self._pending
            self._pending = None
            stats.note(0, time.perf_counter() - started, since_start, b"retry-after")
        self._load.is_gone(self)

    def hang_up(self) -> None:
        """End the connection."""
        assert self._transport is not None  # noqa: S101 - connected
        self._transport.abort()


class Load:
    """Sends requests to one server and counts their outcomes."""

    def __init__(self, port: int, patients: list[bytes]) -> None:
        """Send `patients` in turn to the server on `port` of loopback."""
        self._requests = cycle([_HEAD % len(patient) + patient for patient in patients])
        self._port = port
        self._free: deque[_Client] = deque()
        self._all: set[_Client] = set()
        self._again: tuple[PhaseStats, float] | None = None
        self.answered: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in tuple(self._all):
            client.hang_up()
        await until(lambda: not self._all, seconds=_GIVE_UP_SECONDS)

    async def connect(self, connections: int) -> None:
        """Open connections until there are as many as `connections`."""
        while len(self._all) < connections:
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: _Client(self), "127.0.0.1", self._port
            )
            self._all.add(client)
            self._free.append(client)

    async def arrive(self, rate: float, seconds: float) -> PhaseStats:
        """Send `rate` requests a second for `seconds`, each at its moment."""
        stats, started, due = PhaseStats(), time.perf_counter(), 0
        while due < rate * seconds:
            now = time.perf_counter() - started
            while due < rate * seconds and due / rate <= now:
                stats.late.append((now - due / rate) * 1000)
                self._send(stats, now)
                due += 1
            await asyncio.sleep(_TICK_SECONDS)
        return stats

    async def keep_asking(self, clients: int, seconds: float) -> PhaseStats:
        """Send the next request on each of `clients` connections after each response, for `seconds`."""
        stats = PhaseStats()
        await self.connect(clients)
        self._again = (stats, time.perf_counter())
        for _ in range(clients):
            self._send(stats, 0)
        await asyncio.sleep(seconds)
        self._again = None
        await self.settle()
        return stats

    async def settle(self) -> None:
        """Wait for the outstanding responses."""
        with suppress(TimeoutError):
            await until(lambda: len(self._free) == len(self._all), seconds=_GIVE_UP_SECONDS)

    def is_free(self, client: _Client) -> None:
        """Return `client` to the free connections."""
        self._free.append(client)
        if self._again is not None:
            self._send(self._again[0], time.perf_counter() - self._again[1])

    def is_gone(self, client: _Client) -> None:
        """Remove the closed connection `client`."""
        self._all.discard(client)
        if client in self._free:
            self._free.remove(client)

    def _send(self, stats: PhaseStats, since_start: float) -> None:
        if self._free:
            self._free.popleft().ask(next(self._requests), stats, since_start)
        else:
            stats.unsent += 1
            stats.missed[int(since_start)] += 1


async def overload(port: int, times: float, seconds: float) -> tuple[dict[str, Any], list[str]]:
    """Measure the peak of the server on `port`, send half of it, `times` the peak for `seconds`, then half again.

    Returns the report, and the ids of all answers.
    """
    patients = [f'{{"edad":{age},"sexo":"F","tsh":{age / 20}}}'.encode() for age in range(18, 98)]
    async with Load(port, patients) as load:
        await load.keep_asking(PEAK_CLIENTS, _WARMING_SECONDS)
        peak = (await load.keep_asking(PEAK_CLIENTS, _PEAK_SECONDS)).summary(_PEAK_SECONDS)
        rate = peak["by_status"][str(_OK)]["rate"]
        await load.connect(CONNECTIONS)
        before = (await load.arrive(rate / 2, _HALF_SECONDS)).summary(_HALF_SECONDS)
        cpu = time.process_time()
        over = await load.arrive(rate * times, seconds)
        cpu = time.process_time() - cpu
        after = await load.arrive(rate / 2, _HALF_SECONDS)
        await load.settle()
    report = {
        "times": times,
        "peak": peak,
        "before": before,
        "overload": over.summary(seconds),
        "after": after.summary(_HALF_SECONDS),
        "generator_cpu": cpu / seconds,
    }
    return report, load.answered


def main() -> None:
    """Load the server on the port argument; write a report and the ids of all answers into the folder argument."""
    port, times, seconds, folder = sys.argv[1:]
    report, answered = uvloop.run(overload(int(port), float(times), float(seconds)))
    Path(folder, "report.json").write_text(json.dumps(report))
    Path(folder, "answered").write_text("\n".join(answered))


if __name__ == "__main__":
    main()
