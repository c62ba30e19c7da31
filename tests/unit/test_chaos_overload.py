"""The report of an overload: a missed aim in its first sentence, and a lost answer as a failure."""

from typing import Any

import pytest

from chaos.analysis.overload_page import aims, failures, page
from chaos.load.arrivals import PhaseStats

MACHINE: dict[str, Any] = {
    "date": "", "processor": "", "cores": 2, "system": "", "python": "", "commit": "", "libraries": {},
    "load_before": 0.0,
}  # fmt: skip


def seen(*, answers: float = 900, refusal_ms: float = 9, recovery: int = 1, lost: int = 0) -> dict[str, Any]:
    def phase(rates: dict[str, float], recovered_after: int = 0) -> dict[str, Any]:
        by_status = {
            status: {"count": int(rate), "rate": rate, "p50_ms": 1.0, "p99_ms": refusal_ms}
            for status, rate in rates.items()
        }
        return {
            "offered_rate": 3000.0, "by_status": by_status, "recovered_after": recovered_after,
            "without_retry_after": 0, "bad_later": 0, "late_p99_ms": 1.0, "unsent": 0,
        }  # fmt: skip

    return {
        "peak": phase({"200": 1000}), "before": phase({"200": 500}), "overload": phase({"200": answers, "503": 2000}),
        "after": phase({"200": 500}, recovery), "generator_cpu": 0.25, "answered": 7, "lost": lost,
    }  # fmt: skip


def headline(found: dict[str, Any]) -> str:
    report = {"machine": MACHINE, "fsync_ms": 0.5, "times": 3.0, "seconds": 60.0, "profiles": {"local": found}}
    return next(line for line in page(report).splitlines() if line.startswith("**"))


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"answers": 480}, "answers a second, of the peak: 0.48, aimed at 0.8 or more: missed"),
        ({"answers": 0}, "of the peak: 0.00, aimed at 0.8 or more: missed"),
        ({"refusal_ms": 60.04}, "99 % of rejections within 60.0 ms, aimed at 50: missed"),
        ({"recovery": 7}, "99 % of a second's requests answered again after 7 s, aimed at 5: missed"),
    ],
)
def test_a_missed_aim_is_in_the_first_sentence(figures: dict[str, float], said: str) -> None:
    found = seen(**figures)  # type: ignore[arg-type]  # `lost` is none of these
    assert said in headline(found)
    assert headline(found).count("missed") == 1
    assert [aim.reached for aim in aims(seen())] == [True, True, True]


def test_an_answer_that_is_lost_or_a_request_that_failed_is_a_failure() -> None:
    found = seen(lost=3)
    found["overload"]["by_status"] |= {status: {"count": 2, "rate": 0.1, "p50_ms": 1, "p99_ms": 1} for status in "05"}
    found["overload"]["without_retry_after"] = 1
    assert failures(found) == {"lost": 3, "rejected without Retry-After": 1, "failed otherwise": 4}
    assert headline(found).startswith("**Local: 3 lost, 1 rejected without Retry-After, 4 failed otherwise; ")
    assert not any(failures(seen()).values())


def test_recovery_is_the_first_good_second_and_later_bad_ones_count() -> None:
    after = PhaseStats()
    for moment in range(1000):
        refused = moment < 220 or moment == 500 or 700 <= moment < 710
        after.note(503 if refused else 200, 0.01, moment / 100, b"retry-after: 1")
    summary = after.summary(10)
    assert (summary["recovered_after"], summary["bad_later"]) == (3, 1)
    assert PhaseStats().summary(10)["recovered_after"] == 0
