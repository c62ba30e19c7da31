"""`python -m bench.suites.growth [SECTION…]`: how speed and cost grow; writes docs/benchmarks/growth.*.

The report keeps the earlier results of sections that are not measured in this run, each with its date and its machine.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from bench.lib.inputs import production
from bench.lib.plots import Panel, draw
from bench.lib.reports import FOLDER, write_report
from bench.suites.growth import backlog, batch, database, features, replicas
from shared.telemetry import configure_logging
from tests.support.machine import describe, machine
from tests.support.paths import ROOT


class Section(Protocol):
    """A module of this package: its measurement, and its part of the report."""

    TITLE: str

    def measure(self, folder: Path, model: Path) -> list[dict[str, Any]]:
        """Measure with `model`, a version's folder, in the temporary `folder`; return one entry per size."""

    def page(self, results: list[dict[str, Any]]) -> list[str]:
        """Return the Markdown lines of `results`."""

    def headline(self, results: list[dict[str, Any]]) -> str:
        """Return the result in a sentence."""

    def panels(self, results: list[dict[str, Any]]) -> list[Panel]:
        """Return the plot's panels."""


SECTIONS: dict[str, Section] = {
    "rows": database,
    "backlog": backlog,
    "replicas": replicas,
    "features": features,
    "batch": batch,
}


def main(wanted: list[str]) -> int:
    """Measure the sections `wanted`, or all, and write the report."""
    if unknown := set(wanted) - set(SECTIONS):
        print(
            f"bench.suites.growth: there is no section {', '.join(unknown)}; choose among {' '.join(SECTIONS)}",
            file=sys.stderr,
        )
        return 2
    configure_logging("error", service="bench")
    model = production()
    if model is None:
        print("no model in production: run `make train` first", file=sys.stderr)
        return 1
    path = FOLDER / "growth.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"machines": {}}
    report = {"machines": dict(before["machines"]), **{name: before[name] for name in SECTIONS if name in before}}
    for name, section in SECTIONS.items():
        if not wanted or name in wanted:
            print(f"growth: {section.TITLE}", flush=True)
            report["machines"][name] = machine()
            with tempfile.TemporaryDirectory(dir=ROOT / "var") as folder:
                report[name] = section.measure(Path(folder), model)
            print("\n".join(section.page(report[name])), flush=True)
    shown = {name: section for name, section in SECTIONS.items() if name in report}
    headline = "\n".join(f"- {section.headline(report[name])}" for name, section in shown.items())
    panels = [panel for name, section in shown.items() for panel in section.panels(report[name])]
    draw(FOLDER / "growth.svg", *panels, columns=2)
    write_report("growth", report, _page(report, shown), headline=headline)
    return 0


def _page(report: dict[str, Any], shown: dict[str, Section]) -> str:
    machines = {name: report["machines"][name] for name in shown}
    alike = len({_without_load(machine) for machine in machines.values()}) == 1
    lines = ["# Growth", "", "![Speed and cost by size](growth.svg)"]
    if alike:
        lines += ["", describe(next(iter(machines.values())))]
    for name, section in shown.items():
        load = f"Load average of the machine before: {machines[name]['load_before']:.1f}."
        lines += [
            "",
            f"## {section.TITLE}",
            "",
            *section.page(report[name]),
            "",
            load if alike else describe(machines[name]),
        ]
    return "\n".join(lines) + "\n"


def _without_load(machine: dict[str, Any]) -> str:
    return json.dumps({name: fact for name, fact in machine.items() if name != "load_before"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
