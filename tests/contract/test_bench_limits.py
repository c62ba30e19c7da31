"""The microseconds of a request by stage, in short runs: every stage is measured, and the stages sum to the total."""

from dataclasses import asdict
from pathlib import Path

import pytest

from bench.lib.plots import draw
from bench.suites.limits.costs import Cost, Timer
from bench.suites.limits.disk import floor
from bench.suites.limits.pages import HTTP, REST, accounted, headline, page, picture
from bench.suites.limits.stages import LOOP, RECORDING, WHOLE, stages
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle

PATIENTS = [DatosPaciente(edad=age, sexo="F", tsh=1.5) for age in range(20, 60)]


async def test_each_stage_of_a_request_is_measured(tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", DatosPaciente)
    found = await stages(tmp_path, PATIENTS, 4, Timer(0.02))
    assert list(found)[-2:] == [LOOP, WHOLE]
    measured = {name: cost for name, cost in found.items() if name not in {LOOP, "validation"}}  # these are differences
    assert min(cost.wall_us for cost in measured.values()) > 0
    assert found[WHOLE].cpu_us > found["event"].cpu_us


def test_a_commit_of_several_answers_is_one_line_of_the_floor(tmp_path: Path) -> None:
    found = floor(tmp_path, b"{}", times=20)
    assert [each["events"] for each in found] == [1, 1, 8, 32]
    assert all(0 < each["p50_ms"] <= each["p99_ms"] for each in found)


def test_the_account_sums_up_to_what_was_measured_from_outside(tmp_path: Path) -> None:
    costs = {"event": Cost(10, 8), RECORDING: Cost(50, 40), LOOP: Cost(30, 20), WHOLE: Cost(90, 70)}
    runs = {
        name: {"32": dict.fromkeys(("rate", "p99_ms"), 5.0) | {"p50_ms": ms, "cpu_us": us}}
        for name, ms, us in (("nothing", 0.04, 25.0), ("ceiling", 0.1, 110.0), ("local", 0.4, 120.0))
    }
    report = {
        "machine": {"date": "2026-01-01", "processor": "P", "cores": 2, "system": "S", "python": "3", "commit": "c"}
        | {"libraries": {}, "load_before": 0.5},
        "servers": {name: by | {"1": by["32"]} for name, by in runs.items()},
        "stages": {callers: {name: asdict(cost) for name, cost in costs.items()} for callers in ("32", "1")},
        "disk": floor(tmp_path, b"{}", times=20),
    }
    together, alone = accounted(report, "32", "cpu_us"), accounted(report, "1", "wall_us")
    assert together == {HTTP: 25, "event": 8, RECORDING: 40, LOOP: 20, REST: 25}
    assert alone == {HTTP: 40, "event": 10, LOOP: 30, REST: pytest.approx(270)}
    assert "| event | 8.0 | 7% | 10.0 | 3% |" in page(report)
    assert f"{RECORDING}, 40; {HTTP}, 25" in headline(report)
    draw(tmp_path / "limits.svg", *picture(report))
    assert f">{LOOP}<" in (tmp_path / "limits.svg").read_text()


async def test_each_call_is_made_at_least_once_however_short_the_time() -> None:
    """If the process was not scheduled for longer than the time limit, the limit is over before the first call."""
    calls: list[int] = []

    async def step(number: int) -> None:
        calls.append(number)

    await Timer(0).awaited(step, 2)
    Timer(0).computed(calls.append)
    assert calls[:1] == [0]
    assert len(calls) > 100
