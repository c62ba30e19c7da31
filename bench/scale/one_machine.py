"""The server profile on one machine, predicted: clients that wait for their answers, parts that share the cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.scale.queueing import Station, balance, closed_throughput, group_commit

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENTS = 32
_ONE_THREAD = ("gateway", "load generator")
"""Each works in one thread, as does each replica of inference; the other parts use any core."""


def predicted_rate(
    cpu_us: Mapping[str, float], fsync_ms: float, *, replicas: int, cores: int, others: float = 0
) -> float:
    """Give the requests per second that `CLIENTS` get answered, from the CPU time of each part for one request.

    Mean value analysis of one station, the cores, on which all parts work for every request, with group commit as a
    delay. Other programs that keep `others` of the cores busy make all work slower by that share. By the utilisation
    law (P. J. Denning and J. P. Buzen, 1978) no thread does more requests than one over its time for each.
    """
    left = cores - others
    if left <= 0:
        return 0.0
    parts = {name: us / 1e6 for name, us in cpu_us.items()}
    machine = Station(sum(parts.values()) * cores / left, cores)

    def out(rate: float) -> float:
        return closed_throughput([machine], group_commit(rate, fsync_ms / 1e3).delay, CLIENTS)

    threads = dict.fromkeys(_ONE_THREAD, 1) | {"inference": replicas}
    limits = [count / parts[name] for name, count in threads.items() if name in parts]
    return min([balance(out, cores / machine.demand), *limits])
