"""Outage of the broker or of the database, under load: `python -m chaos.scenarios.outage broker|database`.

Clients send requests at a steady rate from before the outage until the backlog is recorded. The report has the failed
requests, the time to drain the backlog under load, and the answers that were lost, doubled, altered or dead-lettered.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aio_pika

from chaos.analysis.outage_page import page
from chaos.analysis.recorded_rows import fetched, rows
from chaos.analysis.verdict import judge
from chaos.load.client import read
from chaos.load.plan import Plan, clients
from chaos.scenarios.server import settles
from chaos.stack import SupervisedStack, supervised_stack
from chaos.stopping import in_thread, stoppable
from shared.broker.topology import topology
from tests.support.load import Request
from tests.support.machine import fsync_ms, machine
from tests.support.paths import ROOT

_CONNECTIONS = 10
_BEFORE_SECONDS = 20
_AFTER_SECONDS = 10
_DRAIN_SECONDS = 900
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Drain:
    """`backlog` answers waited when the server was back; all but a second's were recorded `seconds` later."""

    backlog: int
    seconds: float
    recorded: int

    @property
    def rate(self) -> float:
        """Rows per second, of the backlog and of the answers meanwhile."""
        return self.recorded / self.seconds


def main() -> int:
    """Run, print and write; return 1 if a request failed or anything was lost, doubled, altered or dead-lettered."""
    arguments = _arguments()
    for client in ("aiormq", "asyncio"):
        logging.getLogger(client).setLevel(logging.CRITICAL)  # expected here: the broker is stopped
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var", prefix="outage-") as name:
        folder = Path(name)
        conditions = {"machine": machine(), "fsync_ms": fsync_ms(folder)}
        result = asyncio.run(run(arguments.what, arguments.minutes * 60, arguments.rate, folder))
    report = {**conditions, **result}
    print(page(report))
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(json.dumps(report, indent=1) + "\n")
        arguments.report.with_suffix(".md").write_text(page(report))
    return 0 if report["holds"] else 1


async def run(what: str, seconds: float, rate: float, folder: Path) -> dict[str, Any]:
    """Stop `what` for `seconds` at `rate` requests a second; return the report, without the machine.

    Raises:
        TimeoutError: the system did not start, or did not drain.

    """
    plan = Plan(seconds, 0, 0, (), clients=1, connections=_CONNECTIONS, pause_ms=1000 * _CONNECTIONS / rate)
    async with supervised_stack(folder) as stack:
        async with clients(plan, stack.url, folder) as files:
            await asyncio.sleep(_BEFORE_SECONDS)
            moments = [time.monotonic()]
            await _without(stack, what, seconds)
            moments.append(time.monotonic())
            drain = await _drain(_Backlog(stack, files), rate)
            moments.append(time.monotonic())
            await asyncio.sleep(_AFTER_SECONDS)
        closed = await settles(stack.services["recorder"][0].url)
        requests = [line for file in files for line in read(file)]
        verdict = judge(requests, await rows(stack))
        dead = await _dead_letters(stack)
        quarantined = len(await fetched(stack, "SELECT id FROM cuarentena"))
        return {
            "without": what,
            "seconds": seconds,
            "rate": rate,
            "holds": verdict.holds and closed and not (verdict.failed or dead or quarantined),
            "verdict": asdict(verdict),
            "drain": {**asdict(drain), "rate": drain.rate},
            "dead_lettered": dead,
            "quarantined": quarantined,
            "phases": phases(requests, moments),
            "account_closes": closed,
        }


async def _without(stack: SupervisedStack, what: str, seconds: float) -> None:
    server = stack.around.rabbit if what == "broker" else stack.around.postgres
    async with stack.around.starting[what]:
        await in_thread(server.stop)
        await asyncio.sleep(seconds)
        await in_thread(server.start)


class _Backlog:
    """Answers in `files` of clients that have no row in the database."""

    def __init__(self, stack: SupervisedStack, files: Sequence[Path]) -> None:
        self._stack, self._read = stack, dict.fromkeys(files, 0)
        self._numbers: set[int] = set()

    async def look(self) -> tuple[int, int]:
        """Count the answers without a row, and the rows."""
        for file, start in self._read.items():
            with file.open("rb") as lines:
                lines.seek(start)
                new = lines.read()
            new = new[: new.rfind(b"\n") + 1]
            self._read[file] = start + len(new)
            requests = (Request(*json.loads(line)) for line in new.splitlines())
            self._numbers.update(each.number for each in requests if not each.failed)
        [row] = await fetched(self._stack, "SELECT count(*) AS number FROM predicciones")
        recorded = int(row["number"])
        return len(self._numbers) - recorded, recorded


async def _drain(backlog: _Backlog, rate: float) -> Drain:
    """Wait until the answers without a row are no more than those of one second."""
    started = time.monotonic()
    waiting, first = await backlog.look()
    still, last = waiting, first
    async with asyncio.timeout(_DRAIN_SECONDS):
        while still > rate:
            await asyncio.sleep(_LOOK_SECONDS)
            still, last = await backlog.look()
    return Drain(waiting, time.monotonic() - started, last - first)


async def _dead_letters(stack: SupervisedStack) -> int:
    async with await aio_pika.connect(stack.around.rabbit.url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(topology("predecir").dead.name, passive=True)
        return int(queue.declaration_result.message_count or 0)


def phases(requests: Iterable[Request], moments: Sequence[float]) -> list[dict[str, Any]]:
    """Return the figures of the requests before, during and after the outage, and while draining."""
    names = ("before", "without", "draining", "after")
    by_phase: dict[str, list[Request]] = {name: [] for name in names}
    for each in requests:
        by_phase[names[sum(each.start >= moment for moment in moments)]].append(each)
    return [_phase(name, those) for name, those in by_phase.items() if those]


def _phase(name: str, requests: Sequence[Request]) -> dict[str, Any]:
    took = sorted(each.end - each.start for each in requests if not each.failed)
    seconds = max(each.end for each in requests) - min(each.start for each in requests)
    return {
        "phase": name,
        "seconds": seconds,
        "answered": len(took),
        "answers_per_second": len(took) / seconds,
        "p50_ms": 1000 * statistics.median(took) if took else None,
        "p99_ms": 1000 * took[len(took) * 99 // 100] if took else None,
        "failed": dict(Counter(each.failed for each in requests if each.failed)),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.scenarios.outage", description=__doc__)
    parser.add_argument("what", choices=("broker", "database"))
    parser.add_argument("--minutes", type=float, default=10, help="how long it is down (default: 10)")
    parser.add_argument("--rate", type=float, default=100, help="requests a second (default: 100)")
    parser.add_argument("--report", type=Path, help="JSON file to write; the same name with .md is a page")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(stoppable(main))
