"""`python -m chaos.scenarios.soak`: half an hour at a steady rate without faults, with a check for growth.

Memory, descriptors and files are sampled every five seconds. After a third of the time, in which caches fill, a line is
fitted through the samples of each process; its rise until the end is compared with a bound.
"""

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from chaos.load.client import read
from chaos.load.plan import Plan, clients
from chaos.stack import SupervisedStack, supervised_stack
from chaos.stopping import in_thread, stoppable
from tests.support.machine import describe, machine
from tests.support.paths import ROOT

_LOOK_SECONDS = 5
_WARMING_SHARE = 1 / 3
_MIB = 2**20
_SETTINGS = {"GATEWAY_IDEMPOTENCY_HOURS": "0.05"}
"""Answers to repeat are kept for three minutes instead of a day, so that their number is steady within the run."""
_MOST = {"memory": 8.0, "descriptors": 3.0, "WAL": 8.0, "outbox": 8.0}
"""Allowed rise of each quantity, from the end of warming up to the end of the run: in MiB, descriptors by number.

A WAL is checkpointed at 4 MiB, and may be twice that if it grows meanwhile. The outbox holds the answers of three
minutes; its pages are reused.
"""


def main() -> int:
    """Run, print and write the report; return 1 if something grew."""
    parser = argparse.ArgumentParser(prog="python -m chaos.scenarios.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--report", type=Path, help="JSON file to write; the same name with .md is a page")
    arguments = parser.parse_args()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var", prefix="soak-") as name:
        report = {"machine": machine(), **asyncio.run(_soaked(Path(name), arguments.minutes * 60))}
    page = "\n".join([*_page(report), ""])
    print(page)
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=1) + "\n")
        arguments.report.with_suffix(".md").write_text(page)
    return 0 if report["holds"] else 1


async def _soaked(folder: Path, seconds: float) -> dict[str, Any]:
    plan = Plan(seconds, 0, 1, (), clients=1, connections=4, pause_ms=40)
    samples_of: dict[str, list[tuple[float, float]]] = {}
    async with supervised_stack(folder, _SETTINGS) as stack, clients(plan, stack.url, folder) as files:
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            for name, value in (await in_thread(_looked, stack)).items():
                samples_of.setdefault(name, []).append((now, value))
            await asyncio.sleep(_LOOK_SECONDS)
    answers = [each for each in read(files[0]) if not each.failed]
    measures = {name: judged(samples, _MOST[name.split(": ")[1]]) for name, samples in samples_of.items()}
    return {
        "seconds": seconds,
        "answers": len(answers),
        "settings": _SETTINGS,
        "measures": measures,
        "holds": all(measure["holds"] for measure in measures.values()),
    }


def judged(samples: Sequence[tuple[float, float]], most: float) -> dict[str, Any]:
    """Fit a line through `samples`, of seconds and values, from after warming up; it may rise by `most` to the end."""
    end = samples[-1][0]
    late = [(at, value) for at, value in samples if at >= end * _WARMING_SHARE]
    slope, _ = statistics.linear_regression(*zip(*late, strict=True))
    rise = slope * (end - late[0][0])
    values = [value for _, value in late]
    return {
        "first": values[0],
        "last": values[-1],
        "largest": max(values),
        "rise": rise,
        "most": most,
        "holds": rise <= most,
    }


def _looked(stack: SupervisedStack) -> dict[str, float]:
    """Return the present value of every quantity, by `PROCESS: QUANTITY`."""
    values: dict[str, float] = {}
    for process in stack.processes:
        running = psutil.Process(process.pid)
        values[f"{process.name}: memory"] = running.memory_info().rss / _MIB
        values[f"{process.name}: descriptors"] = running.num_fds()
    outbox = stack.around.folder / "gateway-1" / "var" / "gateway" / "outbox.db"
    values["gateway-1: WAL"] = outbox.with_name("outbox.db-wal").stat().st_size / _MIB
    values["gateway-1: outbox"] = outbox.stat().st_size / _MIB
    return values


def _page(report: Mapping[str, Any]) -> Iterator[str]:
    minutes = report["seconds"] / 60
    yield "# Half an hour without faults: memory, descriptors and files"
    yield ""
    yield describe(report["machine"], "python -m chaos.scenarios.soak")
    yield (
        f"The server profile, two of each service, for {minutes:g} minutes and {report['answers']:,} answers. After "
        f"{minutes * _WARMING_SHARE:g} minutes of warming up, a line is fitted through each quantity; the table has "
        "its rise until the end and the bound. Answers to repeat are deleted after "
        f"{float(_SETTINGS['GATEWAY_IDEMPOTENCY_HOURS']) * 60:g} minutes in this run (a day by default)."
    )
    yield ""
    yield f"**{'Nothing grew' if report['holds'] else 'SOMETHING GREW'} beyond its bound.**"
    yield ""
    yield "| quantity (MiB, or a number) | after warming up | at the end | largest | rise | bound | holds |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for name, measure in report["measures"].items():
        figures = " | ".join(f"{measure[key]:.2f}" for key in ("first", "last", "largest", "rise", "most"))
        yield f"| {name} | {figures} | {'yes' if measure['holds'] else 'NO'} |"


if __name__ == "__main__":
    sys.exit(stoppable(main))
