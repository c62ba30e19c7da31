"""`python -m chaos.long`: everything that proves by minutes what tests cannot, each part in a stack of its own.

Parts run beside each other in lanes, one after the other within a lane, and what measures speed alone at the end. Each
writes its report, and its output to var/chaos/NAME.log; the index of all reports is in docs/proof/README.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.stopping import WITH_PARENT, stoppable
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROOF = ROOT / "docs" / "proof"
_BEGIN, _END = "<!-- reports: written by make chaos-long -->", "<!-- end of reports -->"


@dataclass(frozen=True, slots=True)
class Part:
    """`python -m COMMAND --report …/NAME.json`; `minutes` of 30 is what it is given, in its own words."""

    name: str
    title: str
    command: str

    def words(self, minutes: float, report: Path) -> list[str]:
        """Give the whole command for a run in which the longest part takes `minutes`."""
        share = minutes / 30
        filled = self.command.format(
            seconds=round(minutes * 60), kills=round(1000 * share), minutes=minutes, third=minutes / 3,
            local_seconds=round(300 * share), local_kills=round(100 * share), hits=max(1, round(50 * share)),
            restarts=max(1, round(20 * share)),
        )  # fmt: skip
        return [sys.executable, "-m", *filled.split(), "--report", str(report)]


LANES = (
    (Part("chaos", "The server profile under faults", "chaos --seconds {seconds} --kills {kills} --pause-ms 10"),),
    (Part("soak", "Half an hour without faults", "chaos.scenarios.soak --minutes {minutes}"),),
    (
        Part(
            "local",
            "The local profile, killed again and again",
            "chaos --profile local --seconds {local_seconds} --kills {local_kills}",
        ),
        Part("broker", "Minutes without RabbitMQ", "chaos.scenarios.outage broker --minutes {third}"),
        Part("database", "Minutes without PostgreSQL", "chaos.scenarios.outage database --minutes {third}"),
    ),
    (Part("failpoints", "Death at every line that splits two steps", "chaos.failpoints --hits {hits}"),),
)
ALONE = (
    Part("rolling", "Rolling restarts under load", "chaos.scenarios.rolling --restarts {restarts}"),
    Part("overload", "Three times the capacity", "chaos.scenarios.overload"),
)


def main() -> int:
    """Run what was chosen and write the index; returns 1 if any part did not hold."""
    parser = argparse.ArgumentParser(prog="python -m chaos.long", description=__doc__)
    names = [part.name for lane in (*LANES, ALONE) for part in lane]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(names)} (default: all)")
    parser.add_argument("--minutes", type=float, default=30, help="of the longest part (default: 30); less to rehearse")
    parser.add_argument("--into", type=Path, default=PROOF, help="where reports go (default: docs/proof)")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(names):
        print(f"chaos.long: {', '.join(sorted(unknown))}: choose from {', '.join(names)}", file=sys.stderr)
        return 78
    chosen = [[part for part in lane if part.name in (asked.parts or names)] for lane in (*LANES, ALONE)]
    into = asked.into.absolute()
    into.mkdir(parents=True, exist_ok=True)
    running = Running()
    held = [running.side_by_side(lanes, asked.minutes, into) for lanes in (chosen[:-1], chosen[-1:])]
    if into == PROOF:
        page = PROOF / "README.md"
        page.write_text(indexed(page.read_text(), PROOF))
    return 0 if all(held) else 1


def indexed(page: str, folder: Path) -> str:
    """Replace the table of reports in `page` by what the reports in `folder` say."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    lines = ["| report | command | it says |", "|---|---|---|"]
    for part in (part for lane in (*LANES, ALONE) for part in lane):
        report = folder / f"{part.name}.md"
        title = f"[{part.title}]({part.name}.md)" if report.exists() else part.title
        said = _headline(report.read_text().splitlines()) if report.exists() else "not run yet"
        lines.append(f"| {title} | `.venv/bin/python -m chaos.long {part.name}` | {said} |")
    return "\n".join([f"{before}{_BEGIN}", "", *lines, "", f"{_END}{after}"])


def _headline(lines: Iterable[str]) -> str:
    """Give the sentence in bold that a report begins with."""
    return next((line.replace("|", "/") for line in lines if line.startswith("**")), "see there")


class Running:
    """The parts that run now. Once they are told to stop, no other one begins."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._turn, self._stopped = threading.Lock(), False
        self._processes: list[subprocess.Popen[bytes]] = []

    def side_by_side(self, lanes: Sequence[Sequence[Part]], minutes: float, into: Path) -> bool:
        """Run `lanes` to their ends, or until interrupted: then to the ends of those who were told to stop."""
        with ThreadPoolExecutor(len(lanes)) as threads:
            try:
                held = list(threads.map(lambda lane: self._along(lane, minutes, into), lanes))
            except KeyboardInterrupt:
                self._stop()
                raise
        return all(held)

    def _along(self, lane: Sequence[Part], minutes: float, into: Path) -> bool:
        held = [self._run(part, minutes, into) for part in lane]
        return all(held)

    def _run(self, part: Part, minutes: float, into: Path) -> bool:
        log = ROOT / "var" / "chaos" / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = part.words(minutes, into / f"{part.name}.json")
        with log.open("wb") as said, self._turn:
            if self._stopped:
                return False
            # In a session of its own, so that Ctrl-C reaches it once: by us.
            process = subprocess.Popen(  # noqa: S603 - ours
                [*WITH_PARENT, *words], cwd=ROOT, stdout=said, stderr=said, start_new_session=True
            )
            self._processes.append(process)
        print(f"{time.strftime('%H:%M:%S')} {part.name}: begins; see {log.relative_to(ROOT)}", flush=True)
        code = process.wait()
        page = into / f"{part.name}.md"
        found = _headline(page.read_text().splitlines()) if code == 0 and page.exists() else f"ENDED WITH {code}"
        print(f"{time.strftime('%H:%M:%S')} {part.name}: {found}", flush=True)
        return code == 0

    def _stop(self) -> None:
        with self._turn:
            self._stopped = True
            for process in self._processes:
                process.terminate()


if __name__ == "__main__":
    sys.exit(stoppable(main))
