"""The server profile on one machine, predicted: clients that wait for their answers, parts that share the cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.scale.queueing import Station, balance, closed_throughput, erlang_c, group_commit

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENTS = 32
_ASKED = ("gateway", "inference", "load generator")
"""What a client waits for, besides the disk; each works in one thread. The others only take cores."""
_ANY_CORE = "balancer"
"""Waited for, too, with a thread for each core."""


def predicted_rate(cpu_us: Mapping[str, float], fsync_ms: float, *, replicas: int, cores: int) -> float:
    """Give the requests per second that `CLIENTS` get answered, from the CPU time of each part for one request.

    Mean value analysis of the parts a client waits for, with group commit as a delay. Each part's time is stretched by
    what all parts together do on `cores`: as long as an M/M/c queue with their load keeps a task, over its service.
    """
    demand = {name: us / 1e6 for name, us in cpu_us.items()}
    all_parts = sum(demand.values())

    def out(rate: float) -> float:
        load = rate * all_parts
        if load >= cores:
            return 0.0
        stretch = 1 + erlang_c(cores, load) / (cores - load)
        stations = [
            Station(demand[name] * stretch, {"inference": replicas, _ANY_CORE: cores}.get(name, 1))
            for name in (*_ASKED, _ANY_CORE)
            if name in demand
        ]
        return closed_throughput(stations, group_commit(rate, fsync_ms / 1e3).delay, CLIENTS)

    return balance(out, cores / all_parts)
