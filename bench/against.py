"""`python -m bench.against REVISION [SETTING=VALUE …]`: whether a change pays, before it is kept.

The local profile of this working tree, with these settings, against that of a commit, or of HEAD for a setting alone.
Rounds alternate, and each figure is the median of what the rounds' pairs have as ratio, so that what else the machine
does falls on both. Prints; writes nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.lib.inputs import production, write_patients
from bench.lib.wrk import Load, load
from tests.support.bundles import copy_model
from tests.support.paths import ROOT
from tests.support.processes import Process, serving

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUNDS = 10
SECONDS = 1
CONNECTIONS = (1, 32, 128)
_WARMING_SECONDS = 2
_FIGURES = {"rate": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "cpu_us": "CPU µs/request"}

Pairs = dict[int, list[tuple[Load, Load]]]
"""Of each number of connections, what each round saw: the commit, and the working tree."""


def main(asked: list[str]) -> int:
    """Run and print; returns 1 if a request failed in the working tree."""
    if not asked or asked[0].startswith("-") or any("=" not in setting for setting in asked[1:]):
        print("usage: python -m bench.against REVISION [SETTING=VALUE …]", file=sys.stderr)
        return 2
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
        folder = Path(name)
        code = folder / "code"
        code.mkdir()
        if not _taken_out(asked[0], code):
            return 1
        pairs = _measured(folder, model, code, dict(setting.split("=", 1) for setting in asked[1:]))
    print("\n".join(_table(asked, pairs)))
    return 1 if any(now.failed for found in pairs.values() for _, now in found) else 0


def _taken_out(revision: str, folder: Path) -> bool:
    """Put the files of `revision` into `folder`; says so if there is no such revision."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        print(f"bench: git does not know {revision}", file=sys.stderr)
        return False
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    return True


def _measured(folder: Path, model: Path, code: Path, settings: Mapping[str, str]) -> Pairs:
    patients = write_patients(folder / "patients.jsonl")
    homes = folder / "before", folder / "now"
    for home in homes:
        home.mkdir()
        copy_model(home, model)
    command = [sys.executable, "-m", "services.local"]
    pairs: Pairs = {connections: [] for connections in CONNECTIONS}
    with (
        serving(command, homes[0], {"PYTHONPATH": str(code)}) as before,
        serving(command, homes[1], settings) as now,
    ):
        for server in (before, now):
            load(server, patients, connections=max(CONNECTIONS), seconds=_WARMING_SECONDS)
        for number in range(ROUNDS):
            for connections, found in pairs.items():
                found.append(_pair(before, now, patients, connections, turned=number % 2 == 1))
            print(f"round {number + 1}/{ROUNDS}", flush=True)
    return pairs


def _pair(before: Process, now: Process, patients: Path, connections: int, *, turned: bool) -> tuple[Load, Load]:
    """Load one after the other; `turned` the other way round, for what follows may be what came before's."""
    order = (now, before) if turned else (before, now)
    first, second = (load(server, patients, connections=connections, seconds=SECONDS) for server in order)
    return (second, first) if turned else (first, second)


def _table(asked: list[str], pairs: Pairs) -> list[str]:
    lines = [
        "",
        f"{' '.join(asked)}: median of {ROUNDS} rounds of {SECONDS} s here, and in brackets its ratio to {asked[0]}",
        "",
        f"| connections | {' | '.join(_FIGURES.values())} |",
        f"|---|{'---|' * len(_FIGURES)}",
    ]
    for connections, found in pairs.items():
        cells = []
        for figure in _FIGURES:
            here = statistics.median(getattr(now, figure) for _, now in found)
            ratio = statistics.median(getattr(now, figure) / getattr(before, figure) for before, now in found)
            cells.append(f"{here:,.4g} ({ratio:.2f})")
        lines.append(f"| {connections} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
