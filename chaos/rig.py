"""One run: start everything, ask, break, heal, drain, and compare what was answered with what is recorded."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg

from chaos.client import read
from chaos.recovery import recoveries
from chaos.schedule import Schedule
from chaos.stack import Stack, server_stack
from chaos.supervised import ROOT
from chaos.verdict import Row, judge
from chaos.watching import Watcher
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection
    from pathlib import Path

_WARMING_SECONDS = 3
_LAST_TRIES_SECONDS = 120
_DRAIN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to be: `clients` processes with `connections` each, which rest `pause_ms` after each answer."""

    seconds: float
    kills: int
    seed: int
    faults: Collection[str]
    clients: int = 2
    connections: int = 12
    pause_ms: float = 20


async def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Do it in `folder`; returns the report, which does not yet say on which machine.

    Raises:
        TimeoutError: the system did not start, or did not drain.

    """
    async with server_stack(folder) as stack:
        watcher = Watcher(stack)
        schedule = Schedule(stack, random.Random(plan.seed), plan.faults)  # noqa: S311 - when to kill, repeatably
        watching = asyncio.create_task(watcher.run())
        began = time.monotonic()
        async with _clients(plan, stack) as files:
            await asyncio.sleep(_WARMING_SECONDS)
            await schedule.run(kills=plan.kills, seconds=plan.seconds)
            asking = time.monotonic() - began
        drained = await _drained(stack, watcher)
        watching.cancel()
        asked = [line for file in files for line in read(file)]
        verdict = judge(asked, await _rows(stack))
        readied = {process.name: process.readied for process in stack.processes}
        return {
            "plan": {**asdict(plan), "faults": sorted(plan.faults)},
            "verdict": asdict(verdict),
            "holds": verdict.holds,
            "answers_per_second": verdict.answered / asking,
            "faults": recoveries(schedule.injected, asked, watcher.samples, readied),
            "kills": sum(fault.kind.startswith("kill-") for fault in schedule.injected),
            "drain_seconds": drained,
            "largest_backlog": max(sample.backlog or 0 for sample in watcher.samples),
            "ended": {process.name: process.ended for process in stack.processes},
            "account": await _account(stack),
            "quarantine": await _fetched(stack, "SELECT motivo, count(*) AS number FROM cuarentena GROUP BY motivo"),
        }


@asynccontextmanager
async def _clients(plan: Plan, stack: Stack) -> AsyncIterator[list[Path]]:
    """Let clients ask meanwhile; in the end each keyed request was answered."""
    files = [stack.around.folder / f"client-{number}.jsonl" for number in range(plan.clients)]
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaos.client", stack.url, file, str(number)),
            *(str(plan.connections), str(plan.pause_ms)),
            cwd=ROOT,
        )
        for number, file in enumerate(files)
    ]
    try:
        yield files
        for process in processes:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_LAST_TRIES_SECONDS):
            codes = [await process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"clients ended with {codes}")
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _drained(stack: Stack, watcher: Watcher) -> float:
    """Wait until nothing is on its way any more; returns how many seconds that took."""
    started = time.monotonic()

    async def empty() -> bool:
        return (await watcher.look()).backlog == 0

    async def settled() -> bool:
        gateways = (await _account(stack)).get("gateways", [])
        return bool(gateways) and all(
            each["en_outbox"] == each["en_camino"] == each["diferencia"] == 0 for each in gateways
        )

    await until(empty, seconds=_DRAIN_SECONDS)
    seconds = time.monotonic() - started
    await until(settled, seconds=_DRAIN_SECONDS)
    return seconds


async def _account(stack: Stack) -> dict[str, Any]:
    """Ask a recorder for the account; empty while none can say."""
    timeout = aiohttp.ClientTimeout(total=30)
    try:
        async with (
            aiohttp.ClientSession(stack.services["recorder"][0].url, timeout=timeout) as session,
            session.get("/conciliacion") as response,
        ):
            response.raise_for_status()
            account: dict[str, Any] = await response.json()
            return account
    except (aiohttp.ClientError, OSError, TimeoutError):
        return {}


async def _rows(stack: Stack) -> list[Row]:
    found = await _fetched(stack, "SELECT id::text, (inputs->>'tsh')::float AS tsh, output FROM predicciones")
    return [Row(row["id"], row["tsh"], row["output"]) for row in found]


async def _fetched(stack: Stack, query: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(stack.around.postgres.url(stack.around.database))
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()
