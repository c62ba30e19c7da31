"""The parts of `make bench`, their reports in docs/benchmarks/, and the index of the reports."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Part:
    """One part: the module `bench.suites.NAME`, which writes NAME.json, NAME.md and, for the index, NAME.svg."""

    name: str
    title: str


PARTS = (
    Part("local", "The local profile against the ceiling and the simplest design"),
    Part("server", "The server profile for a minute, all parts on one machine"),
    Part("field", "Comparison with other model servers"),
    Part("growth", "Speed and cost against the size of database, backlog, replicas, features and batch"),
    Part("limits", "Limits of this machine, and the CPU time of each stage of a request"),
    Part("scale", "Capacity: rate times the measured cost of each part"),
)


def write_report(name: str, report: dict[str, Any], page: str, *, headline: str) -> None:
    """Write NAME.json and NAME.md; `headline` is the one sentence that the index repeats."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps({"headline": headline, **report}, indent=1) + "\n")
    (FOLDER / f"{name}.md").write_text(page)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the Markdown lines of a table; its first column is text, the others are figures."""
    dashes = ["---", *["---:"] * (len(columns) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (columns, dashes, *rows)]


def index(folder: Path) -> str:
    """Return the page with each part's headline and plot, from the reports in `folder`."""
    lines = [
        "# Benchmarks",
        "",
        (
            "Written by `make bench`, which runs all parts; `make bench PARTS='growth limits'` runs some. Each page "
            "has the machine and the versions of its measurement, and its JSON has every figure."
        ),
    ]
    for part in PARTS:
        report = folder / f"{part.name}.json"
        if not report.exists():
            lines += ["", f"## {part.title}", "", "Not measured yet."]
            continue
        headline = json.loads(report.read_text()).get("headline", "")
        lines += ["", f"## [{part.title}]({part.name}.md)", "", headline]
        if (folder / f"{part.name}.svg").exists():
            lines += ["", f"![{part.title}]({part.name}.svg)"]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def write_index() -> None:
    """Write docs/benchmarks/README.md from the present reports."""
    (FOLDER / "README.md").write_text(index(FOLDER))
