"""Shapley values: compared with their definition, and their guarantees."""

import math
from collections.abc import Callable
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.shapley import coalitions, draw_orders, shares

GAMES = st.integers(0, 5).flatmap(
    lambda players: st.lists(st.floats(0, 1), min_size=2**players, max_size=2**players).map(lambda v: (players, v))
)


def shared(players: int, worth: Callable[[int], float], most: int = 1024) -> list[float]:
    orders = draw_orders(players, most)
    return shares(players, orders, {each: worth(each) for each in coalitions(players, orders)})


@given(GAMES)
def test_with_few_players_they_are_the_mean_over_all_orders(game: tuple[int, list[float]]) -> None:
    players, value = game
    orders = list(permutations(range(players)))
    expected = [0.0] * players
    for order in orders:
        joined = [sum(1 << player for player in order[:size]) for size in range(players + 1)]
        for player, (before, after) in zip(order, pairwise(joined), strict=True):
            expected[player] += (value[after] - value[before]) / len(orders)

    assert shared(players, value.__getitem__) == pytest.approx(expected, abs=1e-12)


def tangled(coalition: int) -> float:
    """Return a value of `coalition` that is not a sum over its players."""
    return math.sin(coalition * 12.9898) * 43758.5453 % 1


@pytest.mark.parametrize("players", [1, 9, 10, 11, 21, 40])
def test_they_add_up_to_the_whole_with_any_number_of_players(players: int) -> None:
    assert math.fsum(shared(players, tangled)) == pytest.approx(tangled(2**players - 1) - tangled(0), abs=1e-9)


@pytest.mark.parametrize("players", [5, 21])
def test_they_are_the_same_every_time(players: int) -> None:
    assert shared(players, tangled) == shared(players, tangled)


@pytest.mark.parametrize("players", [5, 21])
def test_a_player_with_a_constant_contribution_gets_it(players: int) -> None:
    worth = [place / 7 for place in range(players)]
    found = shared(players, lambda each: sum(w for place, w in enumerate(worth) if each >> place & 1))
    assert found == pytest.approx(worth, abs=1e-12)


def test_players_that_do_the_same_get_the_same() -> None:
    found = shared(6, lambda each: 1.0 if each & 0b11 == 0b11 and each & 0b11100 else 0.0)
    assert found[0] == pytest.approx(found[1])
    assert found[2] == pytest.approx(found[3]) == pytest.approx(found[4])
    assert found[5] == 0


def test_drawn_shares_are_near_the_exact_ones() -> None:
    def worth(each: int) -> float:
        return 1 / (1 + math.exp(3 - 2 * (each & 0b111).bit_count() + (each >> 3).bit_count() / 3))

    exact, drawn = shared(11, worth, most=2**11), shared(11, worth)
    assert exact != drawn
    assert drawn == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("players", [11, 21, 64])
def test_no_more_coalitions_are_scored_than_allowed(players: int) -> None:
    orders = draw_orders(players, 1024)
    asked = coalitions(players, orders)
    assert 900 < len(asked) <= 1024
    assert {0, 2**players - 1} <= set(asked)
    assert all(one == other[::-1] for one, other in zip(orders[::2], orders[1::2], strict=True))
