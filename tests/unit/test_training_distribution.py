import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.data.distribution import count_values, describe, shares

NAN = float("nan")


def column(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([[value] for value in values], dtype=np.float32)


def test_few_distinct_values_get_a_bin_each() -> None:
    flag = describe(column(*[0.0] * 99, 1.0), ["flag"], {}).columns["flag"]
    assert (flag.shares, flag.missing) == ([0.0, 0.99, 0.01, 0.0], 0.0)


def test_a_new_value_is_counted_apart_from_those_of_training() -> None:
    always_no = describe(column(*[0.0] * 100), ["flag"], {}).columns["flag"]
    assert always_no.shares == [0.0, 1.0, 0.0]
    assert count_values(column(0.0, 1.0, 1.0)[:, 0], always_no.edges).tolist() == [0, 1, 2]


def test_many_values_are_cut_into_tenths() -> None:
    histogram = describe(column(*range(1000)), ["age"], {}).columns["age"]
    assert len(histogram.edges) == 9
    assert histogram.shares == pytest.approx([0.1] * 10, abs=0.002)


def test_a_value_that_most_cases_share_has_an_interval_of_its_own() -> None:
    histogram = describe(column(*[5.0] * 900, *range(100)), ["dose"], {}).columns["dose"]
    assert max(histogram.shares) >= 0.9
    assert sum(histogram.shares) == pytest.approx(1)


def test_missing_values_are_a_share_of_their_own() -> None:
    histogram = describe(column(1.0, 2.0, NAN, NAN), ["t3"], {}).columns["t3"]
    assert (histogram.shares, histogram.missing) == ([0.0, 0.5, 0.5, 0.0], 0.5)


def test_a_column_that_was_never_there_has_one_empty_interval() -> None:
    histogram = describe(column(NAN, NAN), ["t3"], {}).columns["t3"]
    assert (histogram.edges, histogram.shares, histogram.missing) == ([], [0.0], 1.0)


def test_an_edge_belongs_to_the_interval_above_it() -> None:
    assert count_values(np.array([0.9, 1.0, 1.1, NAN], dtype=np.float32), [1.0]).tolist() == [1, 2]


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 100, width=32)))
def test_what_was_described_is_counted_the_same_way_again(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> None:
    histogram = describe(values[:, None], ["x"], {}).columns["x"]
    assert shares(count_values(values, histogram.edges)) == histogram.shares
    assert sum(histogram.shares) == pytest.approx(1, abs=1e-4)
