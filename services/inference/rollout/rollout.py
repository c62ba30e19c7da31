"""The rollout: serve the version in production, named by the registry or by the model store's link.

Each poll goes from the source (registry or link) through the cache (model store) and the loader to the swap.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from services.inference.rollout.candidate import Candidate, fingerprint
from services.inference.rollout.registry_sync import RegistrySync
from services.inference.rollout.state import RejectedVersion, RolloutState
from services.inference.rollout.swapper import Swapper
from services.inference.serving.batcher import Batcher

_START_SECONDS = 5
"""How long a start waits for the registry before it serves the version in the model store."""
_PATIENCE_SECONDS = 1
"""How long a poll waits for the files of a version, which go on arriving until the next poll."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """Makes the swapper serve the version in production: `link`, or the registry's by `registry_sync`, if there is one.

    With a registry, the link in the model store leads to a version that has served here. A start without the registry,
    or with a bad version in production, serves that version.
    """

    link: Path
    public_key: Path
    swapper: Swapper
    batcher: Batcher
    state: RolloutState
    registry_sync: RegistrySync | None

    async def start(self) -> None:
        """Poll for the first time; if the registry does not answer soon, serve from the model store alone."""
        candidate = None
        if self.registry_sync is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_START_SECONDS):
                    candidate = await self.registry_sync.poll(patience=_START_SECONDS)
        await self._roll_out(candidate)

    async def keep_polling(self, seconds: float) -> None:
        """Poll every `seconds`, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            sync = self.registry_sync
            await self._roll_out(None if sync is None else await sync.poll(patience=_PATIENCE_SECONDS))

    async def _roll_out(self, candidate: Candidate | RejectedVersion | None) -> None:
        rejected = await self._swap(candidate)
        if rejected is not None:
            self.batcher.note_unavailable(rejected.reason)
        self.state.reject(rejected)

    async def _swap(self, candidate: Candidate | RejectedVersion | None) -> RejectedVersion | None:
        """Serve `candidate`, or the link where there is none; return the rejection of the version in production."""
        if candidate is None:
            if self.registry_sync is None or self.state.serving is None:
                return await self._swap_link()
            return None if self.state.production is None else self.state.rejected  # silent: no news
        rejected = await self.swapper.swap(candidate) if isinstance(candidate, Candidate) else candidate
        if rejected is None:
            if self.registry_sync is not None:
                await self.registry_sync.settle(candidate.version)
        elif self.state.serving is None and await asyncio.to_thread(os.path.isdir, self.link):
            await self._swap_link()
        return rejected

    async def _swap_link(self) -> RejectedVersion | None:
        candidate = Candidate(await asyncio.to_thread(fingerprint, self.link, self.public_key))
        if self.registry_sync is None:
            self.state.production = candidate.version if candidate.fingerprint.files else None
        return await self.swapper.swap(candidate)
