"""Shapley values: the value of a coalition, divided among its players; the values add up exactly.

The Shapley value of a player is the mean change of the coalition's value when the player joins, over all orders of the
players (Shapley, 1953). With few players all coalitions are evaluated, and the values are exact. With many, orders are
drawn in pairs, each with its reverse, which reduces the variance (Mitchell, Cooper, Frank and Holmes, 2022). The
changes of each order add up to the whole, and so do their means. The draw has a fixed seed.

A coalition is a number; its bit n is set if player n belongs to it.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import factorial

Order = tuple[int, ...]


def draw_orders(players: int, most_coalitions: int) -> list[Order]:
    """Draw pairs of orders with at most `most_coalitions` coalitions; none if all coalitions are that few."""
    if 2**players <= most_coalitions:
        return []
    draw = random.Random(0)  # noqa: S311 - the same patient must get the same explanation
    orders: list[Order] = []
    known: set[int] = set()
    while True:
        order = tuple(draw.sample(range(players), players))
        known.update(_joined(order), _joined(order[::-1]))
        if len(known) > most_coalitions:
            return orders
        orders += [order, order[::-1]]


def coalitions(players: int, orders: Sequence[Order]) -> Sequence[int]:
    """Return the coalitions whose value is needed, including the empty one and the whole."""
    if not orders:
        return range(2**players)
    return sorted({coalition for order in orders for coalition in _joined(order)})


def shares(players: int, orders: Sequence[Order], value: Mapping[int, float]) -> list[float]:
    """Return the Shapley value of each player; they add up to `value[whole] - value[empty]`. Exact without `orders`."""
    if not orders:
        return _exact(players, value)
    shared = [0.0] * players
    for order in orders:
        for player, (before, after) in zip(order, pairwise(_joined(order)), strict=True):
            shared[player] += (value[after] - value[before]) / len(orders)
    return shared


def _exact(players: int, value: Mapping[int, float]) -> list[float]:
    weights = [factorial(size) * factorial(players - size - 1) / factorial(players) for size in range(players)]
    return [
        sum(
            weights[coalition.bit_count()] * (value[coalition | 1 << player] - value[coalition])
            for coalition in range(2**players)
            if not coalition >> player & 1
        )
        for player in range(players)
    ]


def _joined(order: Order) -> list[int]:
    """Return the coalitions that arise as the players join in this order, from the empty one on."""
    joined = [0]
    for player in order:
        joined.append(joined[-1] | 1 << player)
    return joined
