"""The formulas of docs/operations/scale.md against values that others worked out, or that follow by hand."""

from __future__ import annotations

import math
import random

import pytest

from bench.scale.queueing import (
    Station,
    balance,
    batch_size,
    closed_throughput,
    erlang_b,
    erlang_c,
    group_commit,
    servers_for,
    wait,
)


@pytest.mark.parametrize(
    ("servers", "load", "blocked"),
    # traffic tables give the load at which 1 % are blocked: 0.0101, 0.153, 1.36, 4.46, 12.0, 84.1 erlangs
    [(1, 0.0101, 0.01), (2, 0.1526, 0.01), (5, 1.361, 0.01), (10, 4.461, 0.01), (20, 12.03, 0.01), (100, 84.06, 0.01)],
)
def test_erlang_b_is_that_of_the_tables(servers: int, load: float, blocked: float) -> None:
    assert erlang_b(servers, load) == pytest.approx(blocked, rel=2e-3)


@pytest.mark.parametrize(
    ("servers", "load", "waiting"),
    [(1, 0.7, 0.7), (2, 1.0, 1 / 3), (2, 1.5, 9 / 14), (3, 2.0, 4 / 9), (10, 8.0, 0.4092), (3, 3.0, 1.0)],
)
def test_erlang_c_is_that_of_the_tables(servers: int, load: float, waiting: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waiting, rel=1e-4)


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    assert wait(0.8, 1.0) == pytest.approx(4.0)
    assert wait(0.8, 1.0, variation=0.5) == pytest.approx(2.0)
    assert wait(1.0, 1.0) == math.inf
    assert wait(1.5, 1.0, 2) == pytest.approx(9 / 14 / 0.5)


def test_servers_are_enough_for_both_limits_and_one_fewer_is_not() -> None:
    assert servers_for(70, 0.1, busy=0.7, longest=math.inf) == 10
    many = servers_for(70, 0.1, busy=1.0, longest=0.01)
    assert wait(70, 0.1, many) <= 0.01 < wait(70, 0.1, many - 1)


def test_a_commit_alone_takes_its_time_and_many_share_one() -> None:
    alone, crowd = group_commit(0.001, 1.0), group_commit(1000.0, 1.0)
    assert (alone.size, alone.delay) == pytest.approx((1.0, 1.0), rel=2e-3)
    assert (crowd.rate, crowd.size, crowd.delay) == pytest.approx((1.0, 1000.0, 1.5))


def test_group_commit_is_what_a_simulation_of_it_gives() -> None:
    rng, rate = random.Random(4), 1.3  # noqa: S311 - arrivals, not keys
    arrivals, now = [], 0.0
    for _ in range(40_000):
        now += rng.expovariate(rate)
        arrivals.append(now)
    done = commits = 0.0
    delays, first = [], 0
    while first < len(arrivals):
        begun = max(done, arrivals[first])
        last = first
        while last < len(arrivals) and arrivals[last] <= begun:
            last += 1
        done, commits = begun + 1, commits + 1
        delays += [done - arrived for arrived in arrivals[first:last]]
        first = last
    said = group_commit(rate, 1.0)
    assert said.delay == pytest.approx(sum(delays) / len(delays), rel=0.02)
    assert said.size == pytest.approx(len(arrivals) / commits, rel=0.02)


def test_a_batch_takes_along_what_came_during_the_one_before() -> None:
    size = batch_size(2000, 0.001, 0.0001, calls=1, most=64)
    assert size == pytest.approx(2000 * (0.001 + 0.0001 * size))
    assert batch_size(10, 0.001, 0.0001, calls=1, most=64) == 1
    assert batch_size(20_000, 0.001, 0.0001, calls=1, most=64) == 64


@pytest.mark.parametrize(
    ("stations", "delay", "clients", "throughput"),
    [
        ([Station(0.5)], 0, 7, 2.0),
        ([Station(0.5)], 1.5, 1, 0.5),
        ([Station(1), Station(1)], 0, 4, 4 / 5),  # balanced: N / (N + M - 1)
        ([Station(1), Station(1), Station(1)], 0, 3, 3 / 5),
        ([Station(1, servers=5)], 3, 5, 5 / 4),  # a server each: nobody waits
        ([Station(1, servers=2)], 0, 9, 2.0),
    ],
)
def test_throughput_of_waiting_clients(stations: list[Station], delay: float, clients: int, throughput: float) -> None:
    assert closed_throughput(stations, delay, clients) == pytest.approx(throughput)


def test_two_servers_with_thinking_clients_are_the_repairmen_of_the_books() -> None:
    # M/M/2 with 3 sources that each think 1 and are served 1: weights 1, 3, 3, 3/2 for none to three there.
    there = [1, 3, 3, 1.5]
    idle = [number / sum(there) for number in there]
    assert closed_throughput([Station(1, servers=2)], 1, 3) == pytest.approx(idle[1] + 2 * (idle[2] + idle[3]))


def test_a_balance_comes_out_as_it_goes_in() -> None:
    assert balance(lambda rate: 10 / (1 + rate), 100) == pytest.approx((math.sqrt(41) - 1) / 2)
