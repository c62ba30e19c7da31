import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.web.rate_limit import RateLimit

RATES = st.floats(0.1, 1e4)


@given(rate=RATES, burst=st.integers(1, 200), start=st.floats(0, 1e7))
def test_a_burst_is_let_in_whole_and_the_next_one_waits(rate: float, burst: int, start: float) -> None:
    limit = RateLimit(rate, burst)
    assert [limit.wait("a", start) for _ in range(burst)] == [0] * burst
    assert 0 < limit.wait("a", start) <= 1 / rate
    assert limit.wait("b", start) == 0


@given(rate=RATES, burst=st.integers(1, 50))
def test_a_rejected_request_takes_no_token(rate: float, burst: int) -> None:
    limit = RateLimit(rate, burst)
    steps = 1000
    admitted = sum(limit.wait("a", step / rate / 10) == 0 for step in range(steps))
    assert admitted == pytest.approx(burst + steps / 10, abs=1.5)


def test_a_rate_of_0_lets_everything_in() -> None:
    limit = RateLimit(0, 1)
    assert {limit.wait("a", 5.0) for _ in range(10_000)} == {0}


def test_a_long_rest_earns_one_burst_and_no_more() -> None:
    limit = RateLimit(rate=1, burst=3)
    assert limit.wait("a", 0) == 0
    assert [limit.wait("a", 1000) == 0 for _ in range(4)] == [True, True, True, False]


def test_more_callers_than_the_bound_are_forgotten_in_order() -> None:
    limit = RateLimit(rate=1, burst=1, most=3)
    for caller in "abcd":
        assert limit.wait(caller, 0) == 0
    assert [caller for caller in "bcd" if limit.wait(caller, 0)] == ["b", "c", "d"]
    assert limit.wait("a", 0) == 0
