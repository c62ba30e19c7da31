"""The rig's verdict: every kind of loss is detected."""

import json
import math
from pathlib import Path

import pytest

from chaos.analysis.backlog import Sample
from chaos.analysis.recovery import recoveries
from chaos.analysis.verdict import Row, judge
from chaos.faults.schedule import Injected
from chaos.load.client import number_of, patient, read
from tests.support.load import Request


def answered(number: int, *, start: float = 0, keyed: bool = False, output: str = "sano") -> Request:
    return Request(start, start + 0.5, number, keyed, "", f"id-{number}", output)


def row(number: int, *, event_id: str | None = None, output: str = "sano") -> Row:
    tsh = patient(number)["tsh"]
    assert isinstance(tsh, float)
    return Row(event_id or f"id-{number}", tsh, output)


@pytest.mark.parametrize("number", [0, 1, 9_999_999, 29_999_999, 899_999_999])
def test_a_recorded_row_identifies_its_patient(number: int) -> None:
    tsh = json.loads(json.dumps(patient(number)))["tsh"]
    assert number_of(tsh) == number
    assert number_of(math.nextafter(tsh, 0)) == number


def test_all_is_well_when_every_answer_has_its_row() -> None:
    verdict = judge([answered(1), answered(2)], [row(1), row(2), row(3)])
    assert verdict.holds
    assert (verdict.answered, verdict.recorded, verdict.unanswered) == (2, 3, 1)


def test_an_answer_without_a_row_is_lost() -> None:
    verdict = judge([answered(1), answered(2)], [row(1)])
    assert (verdict.lost, verdict.holds) == (1, False)


def test_two_rows_of_one_patient_are_a_duplicate() -> None:
    verdict = judge([answered(1)], [row(1), row(1, event_id="another")])
    assert (verdict.duplicated, verdict.holds) == (1, False)


@pytest.mark.parametrize("found", [row(2, event_id="id-1"), row(1, output="enfermo")])
def test_a_row_with_another_patient_or_diagnosis_is_altered(found: Row) -> None:
    verdict = judge([answered(1)], [found])
    assert (verdict.altered, verdict.lost, verdict.holds) == (1, 0, False)


def test_a_key_must_get_the_same_answer_again() -> None:
    same = [answered(3, keyed=True), answered(3, keyed=True)]
    assert judge(same, [row(3)]).repeated == 1
    assert judge(same, [row(3)]).holds
    other = [answered(3, keyed=True), answered(3, keyed=True, output="enfermo")]
    assert (judge(other, [row(3)]).unfaithful, judge(other, [row(3)]).holds) == (1, False)


def test_failures_are_counted_by_kind_and_are_no_answers() -> None:
    failed = [Request(0, 1, number, keyed=False, failed=kind) for number, kind in enumerate(("cut", "503", "cut"))]
    verdict = judge([*failed, answered(3)], [row(3)])
    assert verdict.holds
    assert (verdict.answered, verdict.failed) == (1, {"503": 1, "cut": 2})
    assert not judge(failed, []).holds  # without answers nothing is proven


def test_a_line_cut_off_by_a_kill_is_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "client.jsonl"
    file.write_text(f"{json.dumps(answered(1))}\n{json.dumps(answered(2))[:-4]}")
    assert list(read(file)) == [answered(1)]


def test_recovery_ends_with_the_first_answer_to_a_later_request() -> None:
    asked = [answered(1, start=9.9), answered(2, start=12), answered(3, start=11.5)]
    fault = Injected("stop-gateway", "gateway-1", start=9, healed=10, over=10)
    samples = [Sample(8, 0, 3), Sample(10.5, 4000, 5), Sample(12, None, 0), Sample(13, 0, 2)]
    seen = recoveries([fault], asked, samples, {"gateway-1": [1.0, 11.0]})
    assert seen == {
        "stop-gateway": {"times": 1, "answered_median": 2, "answered_max": 2, "drained_median": 3, "drained_max": 3}
    }


def test_a_kill_is_recovered_from_once_its_process_is_ready_again() -> None:
    fault = Injected("kill-recorder", "recorder-2", start=10, healed=10.5, over=10)
    samples = [Sample(9, 0, 0), Sample(10.2, 0, 0), Sample(12, 3000, 1), Sample(14, 100, 1)]
    seen = recoveries([fault], [answered(1, start=10)], samples, {"recorder-2": [2.0, 11.5, 20.0]})
    assert seen["kill-recorder"] == {
        "times": 1,
        "answered_median": 0.5,
        "answered_max": 0.5,
        "drained_median": 4,
        "drained_max": 4,
        "restarted_median": 1.5,
        "restarted_max": 1.5,
    }
