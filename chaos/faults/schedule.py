"""Schedule of faults by a seed: kills at a steady rate, and meanwhile one lasting fault at a time."""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from chaos.faults.injection import STARTING, Fault, NotNowError

Broken = TypeVar("Broken")

_AGAIN_SECONDS = 0.1
_PATIENCE_SECONDS = 30
_GIVE_UP_SECONDS = 300
_SHORTEST_SECONDS, _USUAL_SECONDS, _LONGEST_SECONDS = 0.5, 1.5, 12.0
"""Durations of a lasting fault: most are short, and some exceed every deadline of the services."""
_REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Injected:
    """A past fault; times are of `time.monotonic`. From `over` on the system could recover by itself.

    A kill is over when it begins: all that follows is recovery.
    """

    kind: str
    target: str
    start: float
    healed: float
    over: float


class Schedule(Generic[Broken]):
    """Injects faults into `broken`: kills, chosen by weight, and lasting faults; keeps a record of them."""

    def __init__(
        self,
        broken: Broken,
        rng: random.Random,
        kills: Mapping[str, tuple[int, Fault[Broken]]],
        lasting: Mapping[str, Fault[Broken]],
    ) -> None:
        """Choose faults with `rng`."""
        self._broken, self._rng, self._kills, self._lasting = broken, rng, kills, lasting
        self.injected: list[Injected] = []

    @property
    def killed(self) -> int:
        """Number of kills."""
        return sum(fault.kind in self._kills for fault in self.injected)

    async def run(self, *, kills: int, seconds: float, in_turn: bool = False) -> None:
        """Kill `kills` times within `seconds`, with lasting faults meanwhile; all are healed when it returns.

        A kill does not wait for the previous one, except with `in_turn`: then the run may take longer.
        """
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            if self._lasting:
                tasks.create_task(self._hold_one_after_the_other(end))
            for number in range(kills if self._kills else 0):
                at = end - seconds + (number + self._rng.random()) * seconds / kills
                await asyncio.sleep(at - time.monotonic())
                kill = tasks.create_task(self._kill(self._shuffled_kills()))
                if in_turn:
                    await kill
            await asyncio.sleep(end - time.monotonic())

    async def _kill(self, kinds: list[str]) -> None:
        """Kill by the first of `kinds` as soon as it has a target; by another one if it has none for long.

        A kill of a starting process is not waited for: it depends on chance whether one is starting.

        Raises:
            TimeoutError: none had a target for minutes: the system has not recovered.

        """
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        patience = time.monotonic() + (0 if kinds[0] == STARTING else _PATIENCE_SECONDS)
        while time.monotonic() < deadline:
            for kind in kinds[: 1 if time.monotonic() < patience else None]:
                if await self._inject(kind, self._kills[kind][1], 0):
                    return
            await asyncio.sleep(_AGAIN_SECONDS)
        raise TimeoutError("chaos: for minutes nothing was at work that could be killed")

    def _shuffled_kills(self) -> list[str]:
        """Return the kinds in random order by weight: the first is tried first, the others if it has no target."""
        return sorted(self._kills, key=lambda kind: self._rng.expovariate(self._kills[kind][0]))

    async def _hold_one_after_the_other(self, end: float) -> None:
        deck: list[str] = []
        while time.monotonic() < end:
            if not deck:
                deck = self._rng.sample(list(self._lasting), len(self._lasting))
            kind = deck.pop()
            await self._inject(
                kind,
                self._lasting[kind],
                min(_SHORTEST_SECONDS + self._rng.expovariate(1 / _USUAL_SECONDS), _LONGEST_SECONDS),
            )
            await asyncio.sleep(_REST_SECONDS)

    async def _inject(self, kind: str, fault: Fault[Broken], seconds: float) -> bool:
        start = time.monotonic()
        try:
            async with fault(self._broken, self._rng) as target:
                await asyncio.sleep(seconds)
        except NotNowError:
            return False
        healed = time.monotonic()
        self.injected.append(Injected(kind, target, start, healed, start if kind in self._kills else healed))
        return True
