"""The formulas of docs/operations/scale.md, without measurements. Times share one unit, rates are in its inverse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def erlang_b(servers: int, load: float) -> float:
    """Probability that all `servers` are busy when nobody waits (M/M/c/c); `load` is arrival rate times service time.

    By the recursion B(0) = 1, B(n) = aB / (n + aB), after A. K. Erlang, 1917.
    """
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """Probability of having to wait for one of `servers` (M/M/c), 1 when they are overloaded. Erlang, 1917."""
    if load >= servers:
        return 1.0
    blocked = erlang_b(servers, load)
    return servers * blocked / (servers - load * (1 - blocked))


def wait(rate: float, service: float, servers: int = 1, *, variation: float = 1.0) -> float:
    """Mean wait before service with `servers` (G/G/c), infinite when they are overloaded.

    Allen and Cunneen's approximation: Erlang's wait times `variation`, the mean of the squared coefficients of
    variation of arrivals and service. With 1 it is M/M/c and exact, with 0.5 and one server M/D/1 and exact; with one
    server it is Kingman's formula (1961), of G/G/1.
    """
    load = rate * service
    if load >= servers:
        return math.inf
    return variation * erlang_c(servers, load) * service / (servers - load)


def servers_for(rate: float, service: float, *, busy: float, longest: float) -> int:
    """Give the fewest servers that are at most `busy` (a share) and let wait at most `longest` on average (M/M/c)."""
    servers = max(1, math.ceil(rate * service / busy))
    while wait(rate, service, servers) > longest:
        servers += 1
    return servers


@dataclass(frozen=True, slots=True)
class Commits:
    """What a disk does that commits, in one go, whatever gathered during the commit before."""

    rate: float
    size: float
    delay: float


def group_commit(rate: float, commit: float) -> Commits:
    """Give commits per time, events per commit, and mean time until an event is committed.

    A queue with bulk service of any size (M/D/1 after N. T. J. Bailey, 1954, with no largest bulk): after a commit the
    next starts at once if anything came meanwhile, with probability 1 - exp(-rate x commit), else with the next event.
    Who comes during a commit waits for its rest, half of it on average, and then for the next.
    """
    if rate <= 0 or commit <= 0:
        return Commits(rate, 1, commit)
    busy = commit / (commit + math.exp(-rate * commit) / rate)
    return Commits(busy / commit, rate * commit / busy, commit * (1 + busy / 2))


def batch_size(rate: float, fixed: float, each: float, *, calls: int, most: float) -> float:
    """Rows in a call when `calls` run at once, each for `fixed` + `each` x rows, and rows gather while all run.

    A call takes along what came since the last one began: size = rate x (fixed + each x size) / calls, solved for size.
    """
    share = rate * each / calls
    return most if share >= 1 else min(most, max(1.0, rate * fixed / calls / (1 - share)))


@dataclass(frozen=True, slots=True)
class Station:
    """A place every request visits: `demand` is the time it takes there, `servers` how many it can do at once."""

    demand: float
    servers: int = 1


def closed_throughput(stations: Sequence[Station], delay: float, clients: int) -> float:
    """Requests per time of `clients` that send the next once they were answered, with `delay` spent in no line at all.

    Exact mean value analysis, M. Reiser and S. S. Lavenberg (1980), with several servers by marginal probabilities.
    """
    queue = [0.0] * len(stations)
    # probabilities[i][j]: that j are at station i, for fewer than it has servers
    probabilities = [[1.0, *([0.0] * (station.servers - 1))] for station in stations]
    throughput = 0.0
    for present in range(1, clients + 1):
        times = [
            s.demand / s.servers * (1 + queue[i] + sum((s.servers - 1 - j) * p for j, p in enumerate(probabilities[i])))
            for i, s in enumerate(stations)
        ]
        throughput = present / (delay + sum(times))
        queue = [throughput * time for time in times]
        for i, s in enumerate(stations):
            before = probabilities[i]
            own = [s.demand * throughput / j * before[j - 1] for j in range(1, s.servers)]
            idle = throughput * s.demand + sum((s.servers - 1 - j) * p for j, p in enumerate(own))
            probabilities[i] = [max(0.0, 1 - idle / s.servers), *own]
    return throughput


def balance(out: Callable[[float], float], high: float) -> float:
    """Find the rate between 0 and `high` that comes `out` as it goes in, where `out` falls with it; by halving."""
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if out(middle) > middle else (low, middle)
    return low
