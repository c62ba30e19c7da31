"""`python -m chaos.long`: the proofs that need minutes, each part with its own stack.

Lanes run in parallel, and the parts of a lane in sequence; parts that measure speed run alone at the end. Each part
writes its report, and its output to var/chaos/NAME.log; the index of all reports is in docs/proof/README.md.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chaos.programs import CLOCK, SERVERS, TRACER, require
from chaos.stopping import WITH_PARENT, stoppable
from tests.support.paths import ROOT

PROOF = ROOT / "docs" / "proof"
_BEGIN, _END = "<!-- reports: written by make chaos-long -->", "<!-- end of reports -->"


@dataclass(frozen=True, slots=True)
class Part:
    """`python -m COMMAND --report …/NAME.json`; `minutes` are its arguments for a run of 30 minutes."""

    name: str
    title: str
    command: str
    spare: float = 15
    """Minutes that it may take beyond three times the length of the run: starts, draining, a busy machine."""

    def deadline(self, minutes: float) -> float:
        """Return the seconds after which a run whose longest part takes `minutes` has hung."""
        return 60 * (3 * minutes + self.spare)

    def words(self, minutes: float, report: Path) -> list[str]:
        """Return the command for a run in which the longest part takes `minutes`."""
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
    """Run the chosen parts and write the index; return 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m chaos.long", description=__doc__)
    names = [part.name for lane in (*LANES, ALONE) for part in lane]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which of {', '.join(names)} (default: all)")
    parser.add_argument("--minutes", type=float, default=30, help="of the longest part (default: 30); less to rehearse")
    parser.add_argument("--into", type=Path, default=PROOF, help="where reports go (default: docs/proof)")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(names):
        print(f"chaos.long: {', '.join(sorted(unknown))}: choose from {', '.join(names)}", file=sys.stderr)
        return 78
    if set(arguments.parts) != {"local"}:
        require(*SERVERS, CLOCK, TRACER)
    chosen = [[part for part in lane if part.name in (arguments.parts or names)] for lane in (*LANES, ALONE)]
    into = arguments.into.absolute()
    into.mkdir(parents=True, exist_ok=True)
    running = Running()
    passed = [running.side_by_side(lanes, arguments.minutes, into) for lanes in (chosen[:-1], chosen[-1:])]
    if into == PROOF:
        page = PROOF / "README.md"
        page.write_text(indexed(page.read_text(), PROOF))
    return 0 if all(passed) else 1


def indexed(page: str, folder: Path) -> str:
    """Return `page` with its table of reports replaced by one of the reports in `folder`."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    lines = ["| report | command | it says |", "|---|---|---|"]
    for part in (part for lane in (*LANES, ALONE) for part in lane):
        report = folder / f"{part.name}.md"
        title = f"[{part.title}]({part.name}.md)" if report.exists() else part.title
        headline = _headline(report.read_text().splitlines()) if report.exists() else "not run yet"
        lines.append(f"| {title} | `.venv/bin/python -m chaos.long {part.name}` | {headline} |")
    return "\n".join([f"{before}{_BEGIN}", "", *lines, "", f"{_END}{after}"])


def _headline(lines: Iterable[str]) -> str:
    """Return the sentence in bold at the beginning of a report."""
    return next((line.replace("|", "/") for line in lines if line.startswith("**")), "see there")


class Running:
    """The running parts. After `stop` no other part starts."""

    def __init__(self, stop_seconds: float = 120) -> None:
        """Start without parts; one that does not stop within `stop_seconds` is killed."""
        self._turn, self._stopped, self._stop_seconds = threading.Lock(), False, stop_seconds
        self._processes: list[subprocess.Popen[bytes]] = []

    def side_by_side(self, lanes: Sequence[Sequence[Part]], minutes: float, into: Path) -> bool:
        """Run `lanes` to their ends; on an interrupt, wait until the stopped parts have ended."""
        with ThreadPoolExecutor(len(lanes)) as threads:
            try:
                passed = list(threads.map(lambda lane: self._along(lane, minutes, into), lanes))
            except KeyboardInterrupt:
                self._stop()
                raise
        return all(passed)

    def _along(self, lane: Sequence[Part], minutes: float, into: Path) -> bool:
        passed = [self._run(part, minutes, into) for part in lane]
        return all(passed)

    def _run(self, part: Part, minutes: float, into: Path) -> bool:
        log = ROOT / "var" / "chaos" / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = part.words(minutes, into / f"{part.name}.json")
        with log.open("wb") as output, self._turn:
            if self._stopped:
                return False
            # In a new session, so that Ctrl-C reaches it only once, through this process.
            process = subprocess.Popen(  # noqa: S603 - ours
                [*WITH_PARENT, *words], cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )
            self._processes.append(process)
        print(f"{time.strftime('%H:%M:%S')} {part.name}: begins; see {log.relative_to(ROOT)}", flush=True)
        try:
            code = process.wait(part.deadline(minutes))
        except subprocess.TimeoutExpired:
            self._end(process)
            limit = f"{part.deadline(minutes) / 60:.0f} minutes"
            print(f"chaos.long: {part.name}: no end within {limit}; stopped; see {log}", file=sys.stderr, flush=True)
            return False
        page = into / f"{part.name}.md"
        outcome = _headline(page.read_text().splitlines()) if code == 0 and page.exists() else f"ENDED WITH {code}"
        print(f"{time.strftime('%H:%M:%S')} {part.name}: {outcome}", flush=True)
        return code == 0

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a part that has hung, and kill its group if it does not unwind."""
        process.terminate()
        try:
            process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # it leads its session
            process.wait()

    def _stop(self) -> None:
        with self._turn:
            self._stopped = True
            for process in self._processes:
                process.terminate()


if __name__ == "__main__":
    sys.exit(stoppable(main))
