"""A client of the chaos rig, a process of its own: `python -m chaos.load.client URL FILE NUMBER CONNECTIONS PAUSE_MS`.

Each connection sends its next patient as soon as the one before was answered, or failed. What was answered is a line of
FILE, flushed before the next request; so is what failed, with its kind. Every patient is asked about once and differs
from every other, so that two rows of one patient are a duplicate; one in three carries an `Idempotency-Key`, and is
asked for until it is answered, whatever happens; of these one in ten once more after that. SIGTERM ends it, after the
keyed ones were answered.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS = 10
_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.5
_LAST_TRIES_SECONDS = 90
_PER_CLIENT = 10_000_000
_KEYED, _TWICE = 3, 30
_MILLION = 1_000_000


class Asked(NamedTuple):
    """One line of a client's file: `failed` is the kind of failure, or empty for an answer."""

    start: float
    end: float
    number: int
    keyed: bool
    failed: str
    id: str = ""
    output: str = ""


def patient(number: int) -> dict[str, object]:
    """Make the patient that only `number` is: below a thousand million, it can be told from the TSH."""
    return {"edad": number % 100, "sexo": "FM"[number % 2], "tsh": round(1 + number / _MILLION, 6)}


def number_of(tsh: float) -> int:
    """Tell which patient it was."""
    return round((tsh - 1) * _MILLION)


def read(file: Path) -> Iterator[Asked]:
    """Read what a client wrote; a line that was being written when it was killed is no answer."""
    with file.open() as lines:
        for line in lines:
            if line.endswith("]\n"):
                yield Asked(*json.loads(line))


class Client:
    """What the connections of one process share."""

    def __init__(self, session: aiohttp.ClientSession, file: TextIO, number: int, pause: float) -> None:
        """Ask with `session` and write to `file`; `number` says whose patients they are."""
        self._session, self._file, self._pause = session, file, pause
        self._numbers = itertools.count(number * _PER_CLIENT)
        self._stopping = asyncio.Event()
        self._deadline = float("inf")

    def stop(self) -> None:
        """Begin nothing new."""
        self._deadline = time.monotonic() + _LAST_TRIES_SECONDS
        self._stopping.set()

    async def ask_on(self) -> None:
        """Ask about one patient after the other, until stopped."""
        while not self._stopping.is_set():
            number = next(self._numbers)
            if number % _KEYED:
                await self._ask(number, {})
            else:
                await self._insist(number)
            await asyncio.sleep(self._pause)

    async def _insist(self, number: int) -> None:
        key, wait = {"Idempotency-Key": f"k-{number}"}, _FIRST_WAIT
        answers = 2 if number % _TWICE == 0 else 1
        while answers and time.monotonic() < self._deadline:
            if await self._ask(number, key):
                answers -= 1
            else:
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    async def _ask(self, number: int, headers: dict[str, str]) -> bool:
        start = time.monotonic()
        failed, answer = "", {"id": "", "prediccion": ""}
        try:
            async with self._session.post("/predecir", json=patient(number), headers=headers) as response:
                body = await response.read()
            if response.status == 200:  # noqa: PLR2004 - as HTTP has it
                answer = json.loads(body)
            else:
                failed = str(response.status)
        except TimeoutError:
            failed = "timeout"
        except aiohttp.ClientConnectorError:
            failed = "refused"
        except (aiohttp.ClientError, OSError):
            failed = "cut"
        asked = Asked(start, time.monotonic(), number, bool(headers), failed, answer["id"], answer["prediccion"])
        self._file.write(f"{json.dumps(asked)}\n")
        self._file.flush()
        return not failed


async def main(url: str, path: Path, number: int, connections: int, pause: float) -> None:
    """Ask over `connections` at once, with `pause` seconds after each answer, until SIGTERM."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    connector = aiohttp.TCPConnector(limit=connections)
    with path.open("a") as file:
        async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
            client = Client(session, file, number, pause)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(connections):
                    tasks.create_task(client.ask_on())


if __name__ == "__main__":
    _, _url, _path, _number, _connections, _pause_ms = sys.argv
    asyncio.run(main(_url, Path(_path), int(_number), int(_connections), float(_pause_ms) / 1000))
