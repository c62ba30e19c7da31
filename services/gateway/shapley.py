"""Shapley values: sharing out what a coalition is worth among its players, so that the shares add up exactly.

A player's share is the mean change of the value when it joins, over all orders in which the players can come (Shapley,
1953). With few players all coalitions are asked for, and the shares are exact. With many, orders are drawn in pairs,
each with its reverse, which cancels much of the chance (Mitchell, Cooper, Frank and Holmes, 2022); every order's
changes add up to the whole, so that their means do as well. The draw is always the same.

A coalition is a number whose bit n says whether player n is in it.
"""

from __future__ import annotations

import random
from itertools import pairwise
from math import factorial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Order = tuple[int, ...]


def draw_orders(players: int, most_coalitions: int) -> list[Order]:
    """Draw pairs of orders that together ask for at most `most_coalitions`; none if all coalitions are no more."""
    if 2**players <= most_coalitions:
        return []
    draw = random.Random(0)  # noqa: S311 - the same patient must get the same explanation
    orders: list[Order] = []
    known: set[int] = set()
    while True:
        order = tuple(draw.sample(range(players), players))
        known.update(*(_joined(each) for each in (order, order[::-1])))
        if len(known) > most_coalitions:
            return orders
        orders += [order, order[::-1]]


def coalitions(players: int, orders: Sequence[Order]) -> Collection[int]:
    """Give the coalitions whose value is needed, the empty one and the whole among them."""
    if not orders:
        return range(2**players)
    return sorted({coalition for order in orders for coalition in _joined(order)})


def shares(players: int, orders: Sequence[Order], value: Mapping[int, float]) -> list[float]:
    """Share out `value[whole] - value[empty]`; without `orders`, exactly."""
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
    """Give the coalitions that arise as the players come in this order, from the empty one on."""
    found = [0]
    for player in order:
        found.append(found[-1] | 1 << player)
    return found
