"""Registry sync: bring the registry's version in production into the model store, the cache for starts without it.

Nothing from the registry is trusted. The signature of the manifest must hold under the operator's key before anything
else is fetched, and the bundle must be sealed as that version of that run.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog

from services.inference.metrics import Metrics
from services.inference.rollout.candidate import Candidate, Fingerprint, fingerprint
from services.inference.rollout.mlflow_client import (
    ModelRegistryClient,
    NotInRegistryError,
    RegisteredVersion,
    RegistryDownError,
)
from services.inference.rollout.state import RejectedVersion, RolloutState
from shared.artifacts.bundle import (
    LARGEST_MANIFEST,
    LARGEST_SIGNATURE,
    MANIFEST,
    PRODUCTION,
    SIGNATURE,
    Bundle,
    largest,
)
from shared.artifacts.errors import BundleError, BundleTamperedError
from shared.artifacts.store import ModelStore, ModelStoreError
from shared.failpoints import failpoint

KEPT_VERSIONS = 5
"""Versions that stay in the model store beside the linked ones."""
RETRY_SECONDS = 60
"""How long to wait before a rejected version is fetched again; another public key ends the wait."""


@dataclass(frozen=True, slots=True)
class _FailedFetch:
    """A fetch that ended in a rejection, under which public key, and when."""

    registered: RegisteredVersion
    key: bytes
    at: float
    rejected: RejectedVersion


class RegistrySync:
    """The registry's version in production, in the model store."""

    def __init__(
        self,
        client: ModelRegistryClient,
        model_store: ModelStore,
        state: RolloutState,
        metrics: Metrics,
        *,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        """Fetch from `client` into `model_store`; fetch a rejected version again after `retry_seconds`."""
        self._client, self._model_store, self._state, self._metrics = client, model_store, state, metrics
        self._retry_seconds = retry_seconds
        self._checked: tuple[RegisteredVersion, Fingerprint] | None = None
        self._failed: _FailedFetch | None = None
        self._linked: str | None = None
        self._unwritten: str | None = None

    async def poll(self) -> Candidate | RejectedVersion | None:
        """Poll the registry once; return what is in production, or None if it is silent or has nothing there."""
        try:
            registered = await self._client.version_at(PRODUCTION)
            self._state.production = None if registered is None else registered.version
            candidate = None if registered is None else await self._candidate(registered)
        except RegistryDownError as error:
            self._state.registry_silent(self._client.url, str(error))
            return None
        self._state.registry_answered(self._client.url)  # only now: it may know the alias and lack the files
        return candidate

    async def settle(self, version: str) -> None:
        """Point the store's link at `version`, which serves now: a start without the registry serves it."""
        if self._linked == version:
            return
        try:
            await asyncio.to_thread(self._model_store.point, PRODUCTION, version)
            self._linked, self._unwritten = version, None
            await asyncio.to_thread(self._model_store.prune, KEPT_VERSIONS)
        except ModelStoreError as error:
            self._log_unwritten(error)

    async def _candidate(self, registered: RegisteredVersion) -> Candidate | RejectedVersion:
        """Return `registered` from the model store, or fetch it into the store."""
        await self._note(registered)
        before = await asyncio.to_thread(self._fingerprint, registered)
        if self._checked == (registered, before):
            return Candidate(before)
        bundle = await asyncio.to_thread(self._model_store.opened, registered.version)
        if bundle is not None and bundle.manifest.run_id == registered.run_id:
            self._checked = registered, before
            return Candidate(before, bundle)
        key, now = await asyncio.to_thread(self._model_store.key), time.monotonic()
        failed = self._failed
        if failed and (failed.registered, failed.key) == (registered, key) and now < failed.at + self._retry_seconds:
            return failed.rejected
        try:
            bundle = await asyncio.to_thread(self._publish, await self._fetch(registered))
        except (BundleError, NotInRegistryError, ModelStoreError) as error:
            self._metrics.load_failures.inc()
            rejected = RejectedVersion(registered.version, str(error))
            self._failed = _FailedFetch(registered, key, now, rejected)
            return rejected
        self._failed = None
        self._checked = registered, await asyncio.to_thread(self._fingerprint, registered)
        return Candidate(self._checked[1], bundle)

    async def _note(self, registered: RegisteredVersion) -> None:
        """Note in the model store whether `registered` was forced, for its card."""
        try:
            await asyncio.to_thread(self._model_store.note_forced, registered.version, registered.forced_past)
        except ModelStoreError as error:
            self._log_unwritten(error)

    def _log_unwritten(self, error: ModelStoreError) -> None:
        if str(error) != self._unwritten:  # tried at each poll, logged once
            structlog.get_logger().error("model_store_not_written", reason=str(error))
        self._unwritten = str(error)

    async def _fetch(self, registered: RegisteredVersion) -> Bundle:
        """Fetch and check the bundle of `registered`, each byte before it is used."""
        origin = f"{self._client.url}, version {registered.version}"

        async def fetch(name: str, most: int) -> bytes:
            try:
                return await self._client.fetch(registered.run_id, name, most=most)
            except NotInRegistryError as error:
                raise NotInRegistryError(f"{origin}/{error}") from None

        content, signature = await fetch(MANIFEST, LARGEST_MANIFEST), await fetch(SIGNATURE, LARGEST_SIGNATURE)
        sealed = await asyncio.to_thread(
            self._model_store.check_manifest, content, signature, registered.version, origin=origin
        )
        manifest = sealed.manifest
        if manifest.run_id != registered.run_id:
            raise BundleTamperedError(
                f"{origin}: sealed in run {manifest.run_id}, but registered as of run {registered.run_id}"
            )
        files = {name: await fetch(name, largest(digest)) for name, digest in manifest.files.items()}
        return await asyncio.to_thread(sealed.with_files, files)

    def _publish(self, bundle: Bundle) -> Bundle:
        failpoint("registry.fetched")
        return self._model_store.publish(bundle)

    def _fingerprint(self, registered: RegisteredVersion) -> Fingerprint:
        return fingerprint(self._model_store.folder / registered.version, self._model_store.public_key)
