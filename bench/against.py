"""`python -m bench.against REVISION [SETTING=VALUE …]`: compare a change with a commit before keeping it.

Compares the local profile of this working tree, with these settings, with that of a commit (HEAD for a setting alone).
Rounds alternate, and each figure is the median of the ratios of the rounds' pairs, so that other load on the machine
affects both. Prints a table; writes no file.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.lib.inputs import production, write_patients
from bench.lib.wrk import Load, load
from tests.support.bundles import copy_model
from tests.support.paths import ROOT
from tests.support.processes import Process, serving

ROUNDS = 10
SECONDS = 1
CONNECTIONS = (1, 32, 128)
_WARMING_SECONDS = 2
_FIGURES = {"rate": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "cpu_us": "CPU µs/request"}

Pairs = dict[int, list[tuple[Load, Load]]]
"""By number of connections, the measurements of each round: of the commit, and of the working tree."""


def main(arguments: list[str]) -> int:
    """Run the comparison and print it; return 1 if a request failed in the working tree."""
    if not arguments or arguments[0].startswith("-") or any("=" not in setting for setting in arguments[1:]):
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
        if not _taken_out(arguments[0], code):
            return 1
        pairs = _measured(folder, model, code, dict(setting.split("=", 1) for setting in arguments[1:]))
    print("\n".join(_table(arguments, pairs)))
    return 1 if any(now.failed for rounds in pairs.values() for _, now in rounds) else 0


def _taken_out(revision: str, folder: Path) -> bool:
    """Write the files of `revision` into `folder`; return false and print an error if it does not exist."""
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
            for connections, rounds in pairs.items():
                rounds.append(_pair(before, now, patients, connections, turned=number % 2 == 1))
            print(f"round {number + 1}/{ROUNDS}", flush=True)
    return pairs


def _pair(before: Process, now: Process, patients: Path, connections: int, *, turned: bool) -> tuple[Load, Load]:
    """Load both servers in turn, with `turned` in reverse order: the first run may affect the second."""
    order = (now, before) if turned else (before, now)
    first, second = (load(server, patients, connections=connections, seconds=SECONDS) for server in order)
    return (second, first) if turned else (first, second)


def _table(arguments: list[str], pairs: Pairs) -> list[str]:
    lines = [
        "",
        (
            f"{' '.join(arguments)}: median of {ROUNDS} rounds of {SECONDS} s here, "
            f"and in brackets its ratio to {arguments[0]}"
        ),
        "",
        f"| connections | {' | '.join(_FIGURES.values())} |",
        f"|---|{'---|' * len(_FIGURES)}",
    ]
    for connections, rounds in pairs.items():
        cells = []
        for figure in _FIGURES:
            here = statistics.median(getattr(now, figure) for _, now in rounds)
            ratio = statistics.median(getattr(now, figure) / getattr(before, figure) for before, now in rounds)
            cells.append(f"{here:,.4g} ({ratio:.2f})")
        lines.append(f"| {connections} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
