"""The version in production: named by the link in the model store, or by a registry that the model store mirrors."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.inference.rollout.swapper import Refusal, Swapper

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.rollout.registry_sync import RegistrySync
    from services.inference.serving.batcher import Batcher

_START_SECONDS = 5
"""How long a start waits for the registry before it serves what the model store has."""


@dataclass(frozen=True, slots=True)
class Production:
    """Has the follower serve what is in production: `link`, or what `mirror` brings from the registry, if there is one.

    Whatever the registry says, the link on the model store leads to a version that has served here: a start without the
    registry, or with a bad version in production, finds that.
    """

    link: Path
    follower: Swapper
    batcher: Batcher
    mirror: RegistrySync | None

    async def start(self) -> None:
        """Look for the first time; if the registry does not answer soon, at the model store alone."""
        found = None
        if self.mirror is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_START_SECONDS):
                    found = await self.mirror.turn()
        await self._follow(found)

    async def keep_looking(self, seconds: float) -> None:
        """Look every `seconds`, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self._follow(None if self.mirror is None else await self.mirror.turn())

    async def _follow(self, found: Path | Refusal | None) -> None:
        if found is None:
            await self._without_word()
            return
        if isinstance(found, Refusal):
            refusal: Refusal | None = found
        elif await self.follower.look(found):
            await self._settle()
            return
        else:
            refusal = self.follower.refusal
        if self.batcher.loaded is None and await asyncio.to_thread(os.path.isdir, self.link):
            await self.follower.look(self.link)
        self.follower.refuse(refusal)

    async def _without_word(self) -> None:
        """Follow the link, unless a registry is followed and something of it serves: only a start goes by its cache."""
        if self.mirror is None or self.batcher.loaded is None:
            await self.follower.look(self.link)
        elif self.mirror.production is None:
            self.follower.refuse(None)

    async def _settle(self) -> None:
        if self.mirror is not None:
            await self.mirror.settle()
