"""Rolling restarts under load: `python -m chaos.scenarios.rolling [--restarts 20] [--report FILE]`.

Two of each service behind HAProxy, as deployed. Clients send requests all the while. One replica at a
time, in turns of gateway, inference and recorder, gets SIGTERM, drains, and is started again, until each service was
restarted that often. No request may fail, and every answer must be a row. With `--report docs/proof/rolling.json` it
writes that file and the page beside it.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos.stack import supervised_stack
from chaos.stopping import stoppable
from chaos.supervised import Supervised
from chaos.surroundings import KINDS
from tests.support.load import load
from tests.support.machine import describe, machine
from tests.support.paths import ROOT
from tests.support.waiting import until

DRAIN_SECONDS = 3
"""As in docker-compose.yml: HAProxy checks every second, and acts on the second equal result."""
_SETTLED_SECONDS = 3
"""Seconds of readiness of a replica before the next one is stopped, as an orchestrator waits."""
_DEADLINE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Rolled:
    """Result: `restarts` of each service, `rows` of the `answered` requests; `codes` are the exit codes."""

    seconds: float
    restarts: dict[str, int]
    codes: list[int]
    asked: int
    failed: int
    rows: int


async def roll(folder: Path, restarts: int) -> Rolled:
    """Restart a replica of each service `restarts` times under load."""
    started = time.monotonic()
    async with supervised_stack(folder, {"DRAIN_SECONDS": str(DRAIN_SECONDS)}) as stack:
        async with load(stack.url) as requests:
            await requests.more(1)
            for number in range(restarts):
                turn = [stack.services[kind][number % len(stack.services[kind])].process for kind in KINDS]
                await asyncio.gather(*map(_restarted, turn))
        failed, asked = requests.failed(0)

        def rows() -> int:
            found = stack.around.postgres.query(stack.around.database, "SELECT count(*) FROM predicciones")
            return int(found[0])

        await until(lambda: rows() >= asked - failed, seconds=_DEADLINE_SECONDS)
        ended = {kind: [each.process.ended for each in stack.services[kind]] for kind in KINDS}
        return Rolled(
            time.monotonic() - started,
            {kind: sum(sum(codes.values()) for codes in found) for kind, found in ended.items()},
            sorted({code for found in ended.values() for codes in found for code in codes}),
            asked,
            failed,
            rows(),
        )


async def _restarted(process: Supervised) -> None:
    """Stop `process` as an operator does, and wait until it has been ready again for a while."""
    before = sum(process.ended.values())
    process.send(signal.SIGTERM)
    await until(lambda: sum(process.ended.values()) > before, seconds=_DEADLINE_SECONDS)
    await until(lambda: (process.ready_seconds or 0) >= _SETTLED_SECONDS, seconds=_DEADLINE_SECONDS)


def main() -> int:
    """Run, print and write the report; return 1 if a request failed or an answer is missing."""
    parser = argparse.ArgumentParser(
        prog="chaos.scenarios.rolling", description="Restart each replica in turn, under load."
    )
    parser.add_argument("--restarts", type=int, default=20, help="of each service")
    parser.add_argument("--report", type=Path, help="where to write the JSON; a page of Markdown goes beside it")
    asked = parser.parse_args()
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
        conditions = machine()
        rolled = asyncio.run(roll(Path(name), asked.restarts))
    page = _page(rolled, describe(conditions, "python -m chaos.scenarios.rolling"))
    print(page)
    if asked.report is not None:
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(json.dumps({"machine": conditions, **asdict(rolled)}, indent=1) + "\n")
        asked.report.with_suffix(".md").write_text(page)
    return 1 if rolled.failed or rolled.rows != rolled.asked else 0


def _page(rolled: Rolled, conditions: str) -> str:
    restarts = ", ".join(f"{kind} {number}" for kind, number in rolled.restarts.items())
    lines = [
        "# Rolling restarts under load",
        "",
        (
            f"**{rolled.failed} of {rolled.asked:,} requests failed in {sum(rolled.restarts.values())} restarts**, and "
            f"{rolled.rows:,} rows are in PostgreSQL."
        ),
        "",
        conditions,
        "",
        "| quantity | number |",
        "|---|---|",
        f"| restarts by SIGTERM | {restarts} |",
        f"| exit codes | {', '.join(map(str, rolled.codes))} |",
        f"| requests | {rolled.asked:,} |",
        f"| failed | {rolled.failed} |",
        f"| rows in PostgreSQL | {rolled.rows:,} |",
        f"| duration, seconds | {rolled.seconds:.0f} |",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(stoppable(main))
