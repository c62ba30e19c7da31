"""The cost of one call: wall-clock time and CPU time."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_BLOCK = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of one call: wall-clock time (median), and CPU time of all threads of this process (mean)."""

    wall_us: float
    cpu_us: float

    def beyond(self, other: "Cost") -> "Cost":
        """Return the cost beyond `other`, which is a part of it; at least 0."""
        return Cost(max(0.0, self.wall_us - other.wall_us), max(0.0, self.cpu_us - other.cpu_us))


@dataclass(frozen=True, slots=True)
class Timer:
    """Repeats each call for `seconds` seconds, at least once."""

    seconds: float

    def computed(self, step: Callable[[int], object]) -> Cost:
        """Call `step`, which only computes, with 0, 1, 2 and so on."""
        walls: list[float] = []
        count, cpu = 0, time.process_time()
        deadline = time.perf_counter() + self.seconds
        while not walls or time.perf_counter() < deadline:
            began = time.perf_counter()
            for number in range(count, count + _BLOCK):
                step(number)
            walls.append((time.perf_counter() - began) / _BLOCK)
            count += _BLOCK
        return Cost(statistics.median(walls) * 1e6, (time.process_time() - cpu) / count * 1e6)

    async def awaited(self, step: Callable[[int], Awaitable[object]], callers: int) -> Cost:
        """Await `step` with 0, 1, 2 and so on, in as many tasks as there are `callers`."""
        walls: list[float] = []
        numbers, cpu = itertools.count(), time.process_time()
        deadline = time.perf_counter() + self.seconds

        async def call() -> None:
            while not walls or time.perf_counter() < deadline:
                began = time.perf_counter()
                await step(next(numbers))
                walls.append(time.perf_counter() - began)

        await asyncio.gather(*(call() for _ in range(callers)))
        return Cost(statistics.median(walls) * 1e6, (time.process_time() - cpu) / len(walls) * 1e6)
