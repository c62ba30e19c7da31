"""A client of the chaos rig, a separate process: `python -m chaos.load.client URL FILE NUMBER CONNECTIONS PAUSE_MS`.

Every request is a line of FILE, flushed before the connection's next request. Every patient is sent once and differs
from every other, so that two rows of one patient are a duplicate. One patient in three has an `Idempotency-Key`, and is
sent until it is answered; of these, one in ten is sent once more after that. SIGTERM ends the client when the requests
with a key are answered.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from tests.support.load import LoadClient, Plan, Request

_SECONDS = 10
_PER_CLIENT = 10_000_000
_KEYED, _TWICE = 3, 30
_MILLION = 1_000_000


def patient(number: int) -> dict[str, object]:
    """Return the patient of `number`, which is below a thousand million; its TSH gives the number back."""
    return {"edad": number % 100, "sexo": "FM"[number % 2], "tsh": round(1 + number / _MILLION, 6)}


def number_of(tsh: float) -> int:
    """Return the number of the patient with this TSH."""
    return round((tsh - 1) * _MILLION)


def read(file: Path) -> Iterator[Request]:
    """Yield the requests in a client's file; an incomplete last line, of a client that was killed, is ignored."""
    with file.open() as lines:
        for line in lines:
            if line.endswith("]\n"):
                yield Request(*json.loads(line))


def _key(number: int) -> str | None:
    return None if number % _KEYED else f"k-{number}"


def _answers(number: int) -> int:
    return 1 if number % _TWICE else 2


async def main(url: str, path: Path, number: int, connections: int, pause: float) -> None:
    """Send over `connections`, with `pause` seconds after each answer, until SIGTERM."""
    timeout, connector = aiohttp.ClientTimeout(total=_SECONDS), aiohttp.TCPConnector(limit=connections)
    plan = Plan(patient, _key, _answers, first=number * _PER_CLIENT, pause=pause)
    with path.open("a") as file:

        def record(request: Request) -> None:
            file.write(f"{json.dumps(request)}\n")
            file.flush()

        async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as session:
            client = LoadClient(session, plan, record)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stop)
            await client.run(connections)


if __name__ == "__main__":
    _, _url, _path, _number, _connections, _pause_ms = sys.argv
    asyncio.run(main(_url, Path(_path), int(_number), int(_connections), float(_pause_ms) / 1000))
