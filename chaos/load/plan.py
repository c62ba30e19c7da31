"""The plan of a run, and its clients."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.paths import ROOT

T = TypeVar("T")
_LAST_TRIES_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a run: `clients` processes with `connections` each, with a pause of `pause_ms` after each answer."""

    seconds: float
    kills: int
    seed: int
    faults: Collection[str]
    clients: int = 2
    connections: int = 12
    pause_ms: float = 20

    def chosen(self, table: Mapping[str, T]) -> dict[str, T]:
        """Return the entries of a table of faults whose category, the part before the hyphen, is in `faults`."""
        return {kind: fault for kind, fault in table.items() if kind.split("-")[0] in self.faults}


@asynccontextmanager
async def clients(plan: Plan, url: str, folder: Path) -> AsyncIterator[list[Path]]:
    """Run clients on `url` meanwhile; yields their files, in which each keyed request is answered at the end."""
    files = [folder / f"client-{number}.jsonl" for number in range(plan.clients)]
    processes: list[Process] = []
    try:
        for number, file in enumerate(files):
            words = (sys.executable, "-m", "chaos.load.client", url, file, str(number))
            load = (str(plan.connections), str(plan.pause_ms))
            processes.append(await asyncio.create_subprocess_exec(*words, *load, cwd=ROOT))
        yield files
        for process in processes:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_LAST_TRIES_SECONDS):
            codes = [await process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"chaos: clients ended with {codes}")
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
