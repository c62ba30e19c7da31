"""When what is done to the system, from a seed: kills at a steady pace, and beside them one lasting fault at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.faults import HELD, KILLS, NotNowError

if TYPE_CHECKING:
    import random
    from collections.abc import Collection

    from chaos.faults import Fault
    from chaos.stack import Stack

_AGAIN_SECONDS = 0.1
_SHORTEST_SECONDS, _USUAL_SECONDS, _LONGEST_SECONDS = 0.5, 1.5, 12.0
"""How long a fault holds: most are short, and some outlast every deadline of the services."""
_REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was, on the clock of `time.monotonic`: a kill is over at its `start`, another when it was healed."""

    kind: str
    target: str
    start: float
    healed: float

    @property
    def over(self) -> float:
        """From when the system could recover by itself."""
        return self.start if self.kind in KILLS else self.healed


class Schedule:
    """Injects faults into `stack` of the categories `chosen` (what stands before the hyphen); keeps what it did."""

    def __init__(self, stack: Stack, rng: random.Random, chosen: Collection[str]) -> None:
        """Choose from those kinds with `rng`."""
        self._stack, self._rng = stack, rng
        self._kills = {kind: found for kind, found in KILLS.items() if kind.split("-")[0] in chosen}
        self._held = {kind: fault for kind, fault in HELD.items() if kind.split("-")[0] in chosen}
        self.injected: list[Injected] = []

    async def run(self, *, kills: int, seconds: float) -> None:
        """Kill `kills` times within `seconds`, with lasting faults meanwhile; all are healed when it returns."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            if self._held:
                tasks.create_task(self._hold_one_after_the_other(end))
            for number in range(kills if self._kills else 0):
                at = end - seconds + (number + self._rng.random()) * seconds / kills
                await asyncio.sleep(at - time.monotonic())
                tasks.create_task(self._kill(self._shuffled_kills()))
            await asyncio.sleep(end - time.monotonic())

    async def _kill(self, kinds: list[str]) -> None:
        while True:
            for kind in kinds:
                if await self._inject(kind, self._kills[kind][1], 0):
                    return
            await asyncio.sleep(_AGAIN_SECONDS)

    def _shuffled_kills(self) -> list[str]:
        """Put the kinds in an order in which the first is chosen by weight: the rest is for when it cannot be had."""
        return sorted(self._kills, key=lambda kind: self._rng.expovariate(self._kills[kind][0]))

    async def _hold_one_after_the_other(self, end: float) -> None:
        deck: list[str] = []
        while time.monotonic() < end:
            if not deck:
                deck = self._rng.sample(list(self._held), len(self._held))
            kind = deck.pop()
            await self._inject(
                kind,
                self._held[kind],
                min(_SHORTEST_SECONDS + self._rng.expovariate(1 / _USUAL_SECONDS), _LONGEST_SECONDS),
            )
            await asyncio.sleep(_REST_SECONDS)

    async def _inject(self, kind: str, fault: Fault, seconds: float) -> bool:
        start = time.monotonic()
        try:
            async with fault(self._stack, self._rng) as target:
                await asyncio.sleep(seconds)
        except NotNowError:
            return False
        self.injected.append(Injected(kind, target, start, time.monotonic()))
        return True
