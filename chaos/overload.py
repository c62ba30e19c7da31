"""Three times what the system can answer, for a minute: `python -m chaos.overload [--seconds 60] [--report FILE]`.

The local profile on a small model, and beside it the load generator (`chaos.arrivals`): closed loop for the peak, then
an open loop at three times that rate, then half of it. Afterwards every answer is looked for in the database. With
`--report docs/proof/overload.json` it writes that file and the page beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.conditions import describe, fsync_ms, machine
from bench.servers import ROOT, running
from chaos.arrivals import CONNECTIONS, PEAK_CLIENTS
from shared.diseases.thyroid import DatosPaciente
from tests.bundles import make_bundle
from tests.database import query
from tests.waiting import until_now

TIMES = 3.0
_GOODPUT, _REFUSAL_MS, _RECOVERY_SECONDS = 0.8, 50, 5
_REFUSED = "503"
_SPARE_SECONDS = 120


def main() -> int:
    """Run, print, and write what is asked for; returns 1 if an answer is missing or a refusal says nothing."""
    parser = argparse.ArgumentParser(prog="chaos.overload", description="Ask three times as much as can be answered.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--report", type=Path, help="where to write the JSON; a page of Markdown goes beside it")
    asked = parser.parse_args()
    report = run(asked.seconds)
    page = _page(report)
    print(page)
    if asked.report is not None:
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(json.dumps(report, indent=1) + "\n")
        asked.report.with_suffix(".md").write_text(page)
    return 1 if report["lost"] or report["overload"]["without_retry_after"] else 0


def run(seconds: float) -> dict[str, Any]:
    """Overload the local profile for `seconds`."""
    (ROOT / "var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "var") as name:
        folder = Path(name)
        make_bundle(folder / "var", DatosPaciente)
        conditions = {"machine": machine(), "fsync_ms": fsync_ms(folder)}
        with running([sys.executable, "-m", "services.local"], folder) as server:
            command = [sys.executable, "-m", "chaos.arrivals", str(server.port), str(TIMES), str(seconds), name]
            subprocess.run(command, cwd=ROOT, check=True, timeout=seconds + _SPARE_SECONDS)  # noqa: S603 - our own module
            until_now(lambda: _settled(server.get("/conciliacion")), seconds=_SPARE_SECONDS)
        recorded = {row[0] for row in query(folder, "SELECT id FROM predicciones")}
        answered = (folder / "answered").read_text().split()
        seen = json.loads((folder / "report.json").read_text())
    return {**conditions, **seen, "answered": len(answered), "lost": len(set(answered) - recorded)}


def _settled(account: bytes) -> bool:
    found = json.loads(account)
    return found["diferencia"] == 0 and all(gateway["en_outbox"] == 0 for gateway in found["gateways"])


def _judged(report: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """Hold the figures against what is promised: what, figure, aim, and whether it is reached."""
    peak, over, after = report["peak"], report["overload"], report["after"]
    nothing = {"rate": 0.0, "p99_ms": 0.0, "p50_ms": 0.0, "count": 0}
    goodput = over["by_status"].get("200", nothing)["rate"] / peak["by_status"]["200"]["rate"]
    refused = over["by_status"].get(_REFUSED, nothing)
    failed = sum(found["count"] for status, found in over["by_status"].items() if status not in {"200", _REFUSED})
    return [
        ("answers a second, of the peak", f"{goodput:.2f}", f"≥ {_GOODPUT}", goodput >= _GOODPUT),
        ("refused, p99 ms", f"{refused['p99_ms']:.1f}", f"≤ {_REFUSAL_MS}", refused["p99_ms"] <= _REFUSAL_MS),
        ("refused without Retry-After", str(over["without_retry_after"]), "0", not over["without_retry_after"]),
        ("failed otherwise", str(failed), "0", not failed),
        (
            "seconds until nothing is refused any more",
            f"{after['last_refused']:.2f}",
            f"≤ {_RECOVERY_SECONDS}",
            after["last_refused"] <= _RECOVERY_SECONDS,
        ),
        ("answers that are not in the database", str(report["lost"]), "0", not report["lost"]),
    ]


def _headline(report: dict[str, Any]) -> str:
    goodput, refusal, _, _, recovery, lost = (figure for _, figure, _, _ in _judged(report))
    return (
        f"**{goodput} of the peak answered at {report['times']:g} times the capacity**, 99 % of refusals within "
        f"{refusal} ms, nothing refused {recovery} s after it; {lost} answers lost."
    )


def _page(report: dict[str, Any]) -> str:
    over = report["overload"]
    lines = [
        "# Three times as much as can be answered",
        "",
        _headline(report),
        "",
        describe(report["machine"], "python -m chaos.overload"),
        (
            f"The local profile, every answer fsynced ({report['fsync_ms']:.2f} ms) and recorded in SQLite, and the "
            f"load generator on the same cores. Peak: {PEAK_CLIENTS} clients in a closed loop. Overload: "
            f"{report['times']:g} times that rate in an open loop for {over['seconds']:g} s over {CONNECTIONS} "
            f"connections; then half of the peak. The generator used {report['generator_cpu']:.2f} of a core, sent "
            f"99 % of its requests within {over['late_p99_ms']:.1f} ms of their moment, and had no free connection for "
            f"{over['unsent']:,}."
        ),
        "",
        "| | figure | promised | reached |",
        "|---|---|---|---|",
        *(
            f"| {what} | {figure} | {aim} | {'yes' if reached else 'no'} |"
            for what, figure, aim, reached in _judged(report)
        ),
        "",
        "| phase | offered/s | status | responses/s | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|",
        *(
            f"| {phase} | {report[phase]['offered_rate']:,.0f} | {status} | {found['rate']:,.0f} "
            f"| {found['p50_ms']:.1f} | {found['p99_ms']:.1f} |"
            for phase in ("peak", "overload", "after")
            for status, found in report[phase]["by_status"].items()
        ),
        "",
        f"{report['answered']:,} requests were answered in all.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
