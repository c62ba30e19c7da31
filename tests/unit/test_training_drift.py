import datetime as dt
import fcntl
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.waiting import until_now
from training.commands.trigger import claim_start, withdraw_start
from training.config import Trigger
from training.data.distribution import describe
from training.errors import RegistryError
from training.monitoring.drift import RecentPredictions, agreement, psi, wilson

LIMITS = Trigger(days=30, period_days=7, least=100, psi=0.25, missing=0.2, accuracy=0.85)
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
ANSWERS = {"sano": 0.9, "enfermo": 0.1}
NAN = float("nan")


def rows(count: int, *, mean: float = 5.0, missing: float = 0.1, seed: int = 0) -> list[list[float]]:
    """Return rows of a measurement and a flag; the measurement is missing in the share `missing` of them."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.normal(mean, 1, count), rng.random(count) < 0.2], axis=1)
    table[rng.random(count) < missing, 0] = NAN
    result: list[list[float]] = table.tolist()
    return result


def beyond(recorded: list[list[float]], answers: list[str], *, missing_then: float = 0.1) -> list[str]:
    learned = np.array(rows(2000, missing=missing_then, seed=1), dtype=np.float32)
    recent = RecentPredictions(describe(learned, ["tsh", "embarazo"], ANSWERS))
    for start in range(0, len(recorded), 70):
        recent.add(recorded[start : start + 70], answers[start : start + 70])
    assert recent.predictions == len(recorded)
    return [finding.name for finding in recent.figures(LIMITS) if finding.beyond]


def answers(count: int, ill: float) -> list[str]:
    return ["enfermo"] * round(count * ill) + ["sano"] * round(count * (1 - ill))


def test_patients_like_those_it_learned_from_are_within_every_limit() -> None:
    assert beyond(rows(400), answers(400, 0.12)) == []


def test_a_measurement_that_moved_is_named() -> None:
    assert beyond(rows(400, mean=6.5), answers(400, 0.1)) == ["tsh.psi"]


def test_a_measurement_no_longer_taken_is_named_once() -> None:
    assert beyond(rows(400, mean=9, missing=0.95), answers(400, 0.1)) == ["tsh.missing_change"]


def test_a_measurement_that_is_taken_more_often_than_before_is_named() -> None:
    assert beyond(rows(400, missing=0), answers(400, 0.1), missing_then=0.6) == ["tsh.missing_change"]


def test_answers_that_moved_are_named() -> None:
    assert beyond(rows(400), answers(400, 0.6)) == ["answers.psi"]


def test_answers_of_other_versions_do_not_count() -> None:
    assert beyond(rows(400), answers(99, 1.0)) == []


def test_too_few_predictions_give_no_figure() -> None:
    assert beyond(rows(99, mean=20), answers(99, 1.0)) == []


def test_the_psi_is_that_of_the_textbook_but_for_half_a_case() -> None:
    expected = 0.2 * np.log(0.7 / 0.5) - 0.2 * np.log(0.3 / 0.5)
    assert psi(np.array([70_000, 30_000]), np.array([50_000.0, 50_000.0])) == pytest.approx(expected, abs=1e-4)
    assert psi(np.array([1, 0]), np.array([0.0, 0.0])) < 0.3


def test_the_interval_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1


@pytest.mark.parametrize(
    ("right", "of", "decayed"), [(80, 100, False), (70, 100, True), (700, 1000, True), (840, 1000, False)]
)
def test_performance_has_decayed_only_if_the_whole_interval_lies_below(right: int, of: int, decayed: bool) -> None:  # noqa: FBT001
    assert agreement(right, of, LIMITS).beyond is decayed


@pytest.mark.parametrize("of", [0, 1, 99])
def test_too_few_outcomes_give_no_figure_however_wrong(of: int) -> None:
    figure = agreement(0, of, LIMITS)
    assert (figure.figure, figure.interval, figure.beyond, figure.count) == (None, None, False, of)


def test_the_line_of_a_figure_has_its_number_of_values() -> None:
    line = "BEYOND   outcomes.accuracy 0.700 (0.671 to 0.728) >= 0.85, n = 1,000"
    assert agreement(700, 1000, LIMITS).summary == line


def test_a_start_counts_for_a_period_and_is_logged_with_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "trigger"
    assert claim_start(folder, NOW, LIMITS, ["tsh.psi"])
    assert not claim_start(folder, NOW + dt.timedelta(days=6.9), LIMITS, ["tsh.psi"])
    assert claim_start(folder, NOW + dt.timedelta(days=7), LIMITS, ["answers.psi"])
    ledger = [json.loads(line) for line in (folder / "started.jsonl").read_text().splitlines()]
    assert [entry["reasons"] for entry in ledger] == [["tsh.psi"], ["answers.psi"]]


def test_a_start_that_is_withdrawn_does_not_count_and_those_before_stay(tmp_path: Path) -> None:
    assert claim_start(tmp_path, NOW, LIMITS, ["tsh.psi"])
    later = NOW + dt.timedelta(days=8)
    assert claim_start(tmp_path, later, LIMITS, ["tsh.psi"])
    withdraw_start(tmp_path, later)
    assert not claim_start(tmp_path, NOW + dt.timedelta(days=6), LIMITS, ["tsh.psi"])
    assert claim_start(tmp_path, later, LIMITS, ["answers.psi"])
    withdraw_start(tmp_path, NOW)
    assert len((tmp_path / "started.jsonl").read_text().splitlines()) == 2


def test_a_start_waits_for_a_concurrent_one_and_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "started.jsonl"
    with path.open("a") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        second = pool.submit(claim_start, tmp_path, NOW, LIMITS, ["tsh.psi"])
        until_now(lambda: is_waited_for(path))
        other.write(json.dumps({"started": NOW.isoformat(), "reasons": ["tsh.psi"]}) + "\n")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
        assert not second.result(60)


def is_waited_for(path: Path) -> bool:
    """Return whether a process waits for the lock of `path`: the kernel lists a waiting one with an arrow."""
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{path.stat().st_ino} " in line for line in locks)


def test_an_invalid_log_of_starts_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / "started.jsonl").write_text("yesterday\n")
    with pytest.raises(RegistryError, match=r"started\.jsonl: cannot be used"):
        claim_start(tmp_path, NOW, LIMITS, ["tsh.psi"])
