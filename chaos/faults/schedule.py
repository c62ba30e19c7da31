"""When what is done to the system, from a seed: kills at a steady pace, and beside them one lasting fault at a time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from chaos.faults.injection import STARTING, NotNowError

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from chaos.faults.injection import Fault

Broken = TypeVar("Broken")

_AGAIN_SECONDS = 0.1
_PATIENCE_SECONDS = 30
_GIVE_UP_SECONDS = 300
_SHORTEST_SECONDS, _USUAL_SECONDS, _LONGEST_SECONDS = 0.5, 1.5, 12.0
"""How long a fault holds: most are short, and some outlast every deadline of the services."""
_REST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was, on the clock of `time.monotonic`: from `over` on the system could recover by itself.

    A kill is over when it begins: all that follows is recovery.
    """

    kind: str
    target: str
    start: float
    healed: float
    over: float


class Schedule(Generic[Broken]):
    """Does to `broken` what `kills`, by weight, and `held` give; keeps what it did."""

    def __init__(
        self,
        broken: Broken,
        rng: random.Random,
        kills: Mapping[str, tuple[int, Fault[Broken]]],
        held: Mapping[str, Fault[Broken]],
    ) -> None:
        """Choose with `rng`."""
        self._broken, self._rng, self._kills, self._held = broken, rng, kills, held
        self.injected: list[Injected] = []

    @property
    def killed(self) -> int:
        """How many kills there were."""
        return sum(fault.kind in self._kills for fault in self.injected)

    async def run(self, *, kills: int, seconds: float, in_turn: bool = False) -> None:
        """Kill `kills` times within `seconds`, with lasting faults meanwhile; all are healed when it returns.

        A kill does not wait for the one before, unless they are to be done `in_turn`: then it may take longer.
        """
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            if self._held:
                tasks.create_task(self._hold_one_after_the_other(end))
            for number in range(kills if self._kills else 0):
                at = end - seconds + (number + self._rng.random()) * seconds / kills
                await asyncio.sleep(at - time.monotonic())
                kill = tasks.create_task(self._kill(self._shuffled_kills()))
                if in_turn:
                    await kill
            await asyncio.sleep(end - time.monotonic())

    async def _kill(self, kinds: list[str]) -> None:
        """Kill by the first of `kinds` as soon as it can be had; by another one only if it cannot for long.

        Whether anything is starting is a matter of chance, and not waited for.

        Raises:
            TimeoutError: none of them can be had for minutes, so that the system has not come back.

        """
        given_up = time.monotonic() + _GIVE_UP_SECONDS
        patience = time.monotonic() + (0 if kinds[0] == STARTING else _PATIENCE_SECONDS)
        while time.monotonic() < given_up:
            for kind in kinds[: 1 if time.monotonic() < patience else None]:
                if await self._inject(kind, self._kills[kind][1], 0):
                    return
            await asyncio.sleep(_AGAIN_SECONDS)
        raise TimeoutError("chaos: for minutes nothing was at work that could be killed")

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
