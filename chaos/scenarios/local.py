"""The local profile under faults: one process on SQLite, killed and stopped repeatedly under load."""

import asyncio
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from chaos.analysis.backlog import Watcher
from chaos.analysis.recovery import recoveries
from chaos.analysis.verdict import Row, judge
from chaos.faults.injection import STARTING, Fault, NotNowError, process_killed, process_stopped, starter_killed
from chaos.faults.schedule import Schedule
from chaos.load.client import read
from chaos.load.plan import Plan, clients
from chaos.scenarios.server import account, settles
from chaos.stack import answers
from chaos.stopping import in_thread
from chaos.supervised import Supervised
from shared.cancellation import background
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.database import query
from tests.support.ports import free_ports
from tests.support.waiting import until

_READY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Laptop:
    """The targets of the faults: processes, and the database file in `folder`, with a lock while it is elsewhere."""

    processes: Sequence[Supervised]
    folder: Path
    elsewhere: asyncio.Lock = field(default_factory=asyncio.Lock)


@asynccontextmanager
async def _database_elsewhere(
    laptop: Laptop, _: random.Random, put_back: Callable[[Path, Path], object]
) -> AsyncIterator[str]:
    """Move the database file away, and put it back by `put_back`.

    The process is not killed meanwhile: it would begin an empty database, which the file would then overwrite.
    """
    database, away = laptop.folder / "predicciones.db", laptop.folder / "away.db"
    async with laptop.elsewhere:
        if not all(process.ready_seconds for process in laptop.processes):
            raise NotNowError
        database.rename(away)
        try:
            yield database.name
        finally:
            await in_thread(put_back, away, database)


def _copied_back(away: Path, database: Path) -> None:
    """Put back a copy of the file, and remove the file."""
    shutil.copy(away, database)
    away.unlink()


@asynccontextmanager
async def _killed_at_home(laptop: Laptop, rng: random.Random, kill: Fault[Laptop]) -> AsyncIterator[str]:
    """Kill by `kill` unless the database file is elsewhere."""
    if laptop.elsewhere.locked():
        raise NotNowError
    async with kill(laptop, rng) as name:
        yield name


LOCAL_KILLS: Mapping[str, tuple[int, Fault[Laptop]]] = {
    "kill-local": (4, partial(_killed_at_home, kill=partial(process_killed, kind="local"))),
    STARTING: (1, partial(_killed_at_home, kill=starter_killed)),
}
LOCAL_HELD: Mapping[str, Fault[Laptop]] = {
    "stop-local": partial(process_stopped, kind="local"),
    "file-moved": partial(_database_elsewhere, put_back=Path.rename),
    "file-copied": partial(_database_elsewhere, put_back=_copied_back),
}
"""Faults of the local profile, as in `chaos.faults.injection`."""


async def run_local(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run `plan` on the local profile in `folder`; return the report, without the machine.

    Raises:
        TimeoutError: it did not start, or did not drain.

    """
    make_bundle(folder / "var", DatosPaciente)
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = {"PORT": str(port), "LOG_LEVEL": "warning"}
    process = Supervised("local", (sys.executable, "-m", "services.local"), folder, environment)
    running = asyncio.create_task(process.run())
    try:
        await until(lambda: answers(url), seconds=_READY_SECONDS)
        return await _report(plan, folder, process, url)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _report(plan: Plan, folder: Path, process: Supervised, url: str) -> dict[str, Any]:
    watcher = Watcher([url], None)
    laptop = Laptop([process], folder)
    schedule = Schedule(laptop, random.Random(plan.seed), plan.chosen(LOCAL_KILLS), plan.chosen(LOCAL_HELD))  # noqa: S311 - repeatable
    async with background(watcher.run()):
        began = time.monotonic()
        async with clients(plan, url, folder) as files:
            await schedule.run(kills=plan.kills, seconds=plan.seconds, in_turn=True)
            asking = time.monotonic() - began
        started = time.monotonic()
        closed = await settles(url)
        drained = time.monotonic() - started
    requests = [line for file in files for line in read(file)]
    records = query(folder, "SELECT id, json_extract(inputs, '$.tsh'), output FROM predicciones")
    verdict = judge(requests, (Row(*row) for row in records))
    return {
        "profile": "local",
        "plan": {**asdict(plan), "faults": sorted(plan.faults)},
        "verdict": asdict(verdict),
        "holds": verdict.holds and closed,
        "answers_per_second": verdict.answered / asking,
        "faults": recoveries(schedule.injected, requests, watcher.samples, {process.name: process.readied}),
        "kills": schedule.killed,
        "drain_seconds": drained,
        "largest_backlog": max(sample.backlog or 0 for sample in watcher.samples),
        "ended": {process.name: process.ended},
        "account_closes": closed,
        "account": await account(url),
        "poison": {"sent": 0, "delivered_twice": 0, "quarantined": len(query(folder, "SELECT id FROM cuarentena"))},
    }
