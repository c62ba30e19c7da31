"""What the registry has in production, brought onto the model store: the cache that inference starts from without it.

Nothing of it is trusted: the signature of the manifest must hold under the operator's key before anything else is
fetched, and the bundle must be sealed as that very version of that very run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.inference.rollout.mlflow_client import NotInRegistryError, RegistryDownError
from services.inference.rollout.swapper import Refusal
from shared.artifacts.bundle import MANIFEST, PRODUCTION, SIGNATURE, BundleError, BundleTamperedError
from shared.artifacts.store import ModelStoreError
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from services.inference.metrics import Metrics
    from services.inference.rollout.mlflow_client import Registered, Registry
    from shared.artifacts.store import ModelStore

LARGEST_FILE = 256 * 1024 * 1024
"""Bytes of one file of a bundle."""
_LARGEST_MANIFEST = 16 * 1024 * 1024
_LARGEST_SIGNATURE = 1024
KEPT_VERSIONS = 5
"""Versions that stay on the model store, the one in production apart."""
AGAIN_SECONDS = 60
"""How long a version that was refused is left alone before it is fetched again."""


class _NotSoundError(Exception):
    """What the registry has is not a bundle that may be kept."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """What was refused, under which key, and when."""

    registered: Registered
    key: bytes
    at: float
    refusal: Refusal


class RegistrySync:
    """The registry's production, on the model store."""

    def __init__(
        self, registry: Registry, model_store: ModelStore, metrics: Metrics, *, again_seconds: float = AGAIN_SECONDS
    ) -> None:
        """Bring what `registry` has onto `model_store`; fetch what was refused again after `again_seconds`."""
        self._registry, self._shelf, self._metrics, self._again_seconds = registry, model_store, metrics, again_seconds
        self._refused: _Refused | None = None
        self._asked: Registered | None = None
        self._served: Registered | None = None
        self._pointed: str | None = None
        self._unwritten: str | None = None
        self.seen: datetime | None = None
        """When the registry last gave all that it was asked for."""
        self.silent_since: datetime | None = None
        """Since when it has not, or None if it does."""
        self.silent_because: str | None = None
        """Why it does not, or None."""
        metrics.registry_seen(0)

    @property
    def url(self) -> str:
        """Where the registry is, without credentials."""
        return self._registry.url

    @property
    def production(self) -> str | None:
        """The version that the registry had in production when it last answered."""
        return None if self._asked is None else self._asked.version

    async def turn(self) -> Path | Refusal | None:
        """Ask once; gives the folder of what is in production, or its refusal, or None if there is nothing to say."""
        served, self._served = self._served, None
        try:
            self._asked = asked = await self._registry.at(PRODUCTION)
            found: Path | Refusal | None = None
            if asked is not None:
                found = self._folder(asked) if asked == served else await self._brought(asked)
        except RegistryDownError as error:
            self._silent(str(error))
            return None
        self._heard()  # only now: it may know the alias and not have the files
        return found

    async def settle(self) -> None:
        """Make what the last turn gave, which serves now, what a start without the registry finds."""
        self._served = self._asked
        if self._asked is None or self._pointed == self._asked.version:
            return
        try:
            await asyncio.to_thread(self._shelf.point, PRODUCTION, self._asked.version)
            self._pointed, self._unwritten = self._asked.version, None
            await asyncio.to_thread(self._shelf.prune, KEPT_VERSIONS)
        except ModelStoreError as error:
            if str(error) != self._unwritten:  # tried at each turn, said once
                structlog.get_logger().error("shelf_not_written", reason=str(error))
            self._unwritten = str(error)

    async def _brought(self, registered: Registered) -> Path | Refusal:
        """Give the folder of `registered`, fetching what is not there."""
        if await asyncio.to_thread(self._has, registered):
            return self._folder(registered)
        key, now, before = await asyncio.to_thread(self._shelf.key), time.monotonic(), self._refused
        known = before is not None and (before.registered, before.key) == (registered, key)
        if before is not None and known and now - before.at < self._again_seconds:
            return before.refusal
        try:
            with tempfile.TemporaryDirectory() as folder:
                await self._fetch(registered, Path(folder))
        except (_NotSoundError, ModelStoreError, OSError) as error:
            self._metrics.not_loaded()
            refusal = Refusal(registered.version, str(error))
            self._refused = _Refused(registered, key, now, refusal)
            return refusal
        self._refused = None
        return self._folder(registered)

    async def _fetch(self, registered: Registered, folder: Path) -> None:
        try:
            for name, most in ((MANIFEST, _LARGEST_MANIFEST), (SIGNATURE, _LARGEST_SIGNATURE)):
                await self._registry.fetch(registered.run_id, name, folder, most=most)
            manifest = await asyncio.to_thread(self._shelf.check_manifest, folder, registered.version)
            if manifest.run_id != registered.run_id:
                message = f"{folder}: sealed in run {manifest.run_id}, but registered as of run {registered.run_id}"
                raise BundleTamperedError(message)
            for name, digest in manifest.files.items():
                most = min(digest.size, LARGEST_FILE)
                await self._registry.fetch(registered.run_id, name, folder, most=most)
            await asyncio.to_thread(self._publish, folder, registered)
        except (BundleError, NotInRegistryError) as error:
            where = f"{self.url}, version {registered.version}"  # rather than a folder that is gone by now
            raise _NotSoundError(str(error).replace(str(folder), where)) from error

    def _publish(self, folder: Path, registered: Registered) -> None:
        self._shelf.check(folder, registered.version)
        failpoint("mirror.fetched")
        self._shelf.publish(folder, registered.version)

    def _has(self, registered: Registered) -> bool:
        bundle = self._shelf.opened(registered.version)
        return bundle is not None and bundle.manifest.run_id == registered.run_id

    def _folder(self, registered: Registered) -> Path:
        return self._shelf.folder / registered.version

    def _heard(self) -> None:
        self.seen = datetime.now(UTC)
        self._metrics.registry_seen(self.seen.timestamp())
        if self.silent_since is not None:
            structlog.get_logger().info("registry_back", registry=self.url)
        self.silent_since = self.silent_because = None

    def _silent(self, reason: str) -> None:
        if self.silent_since is None:
            self.silent_since = datetime.now(UTC)
            structlog.get_logger().warning("registry_silent", reason=reason)
        self.silent_because = reason
