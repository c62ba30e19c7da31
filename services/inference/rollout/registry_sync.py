"""Registry sync: bring the registry's version in production into the model store, the cache for starts without it.

Nothing from the registry is trusted. The signature of the manifest must hold under the operator's key before anything
else is fetched, and the bundle must be sealed as that version of that run. Files are fetched beside the polls: a slow
one delays its own version only, and a rollback meanwhile is taken.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
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
    SealedManifest,
    largest,
)
from shared.artifacts.errors import BundleError, BundleTamperedError
from shared.artifacts.store import ModelStore, ModelStoreError
from shared.cancellation import cancel_and_wait
from shared.failpoints import failpoint

KEPT_VERSIONS = 5
"""Versions that stay in the model store beside the linked ones."""
RETRY_SECONDS = 60
"""How long to wait before a rejected version is fetched again; another public key ends the wait."""


FETCH_SECONDS = 30
"""Time for manifest and signature of a version, and again for its files beside their bytes."""
SLOWEST_BYTES = 512 * 1024
"""Bytes of the files that must arrive each second, on average."""


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A fetch that runs, of a version to be checked under a public key."""

    registered: RegisteredVersion
    key: bytes
    task: asyncio.Task[Bundle]


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
        self._fetch: _Fetch | None = None
        self._failed: _FailedFetch | None = None
        self._late: RegisteredVersion | None = None
        """The version whose files the registry did not send, until it does."""
        self._linked: str | None = None
        self._unwritten: str | None = None

    async def poll(self, *, patience: float) -> Candidate | RejectedVersion | None:
        """Poll the registry once; return what is in production, or None if it is silent or has nothing there.

        Also None while the version is fetched, after a wait of `patience` seconds. Meanwhile the registry counts as
        answering, unless an earlier fetch of that version failed.
        """
        try:
            registered = await self._client.version_at(PRODUCTION)
            self._state.production = None if registered is None else registered.version
            if self._fetch is not None and self._fetch.registered != registered:
                await self.aclose()
            candidate = None if registered is None else await self._candidate(registered, patience)
        except RegistryDownError as error:
            self._state.registry_silent(self._client.url, str(error))
            return None
        if candidate is None and registered is not None and registered == self._late:
            return None  # it knows the alias, and has not sent the files yet
        self._late = None
        self._state.registry_answered(self._client.url)
        return candidate

    async def aclose(self) -> None:
        """Cancel the fetch that runs, if any."""
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            await cancel_and_wait(fetch.task)
            if not fetch.task.cancelled():
                fetch.task.exception()  # retrieved, so that asyncio does not log it: that version is not wanted now

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

    async def _candidate(self, registered: RegisteredVersion, patience: float) -> Candidate | RejectedVersion | None:
        """Return `registered` from the model store, or fetch it into the store; None while it is being fetched."""
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
        task = await self._running_fetch(registered, key)
        done, _ = await asyncio.wait({task}, timeout=patience)
        if not done:
            return None
        self._fetch = None
        try:
            bundle = task.result()
        except RegistryDownError:
            self._late = registered
            raise
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

    async def _running_fetch(self, registered: RegisteredVersion, key: bytes) -> asyncio.Task[Bundle]:
        """Return the task that fetches `registered` and checks it under `key`; start it unless it runs."""
        if self._fetch is None or self._fetch.key != key:
            await self.aclose()
            self._fetch = _Fetch(registered, key, asyncio.create_task(self._fetch_and_publish(registered)))
        return self._fetch.task

    async def _fetch_and_publish(self, registered: RegisteredVersion) -> Bundle:
        """Fetch and check the bundle of `registered`, each byte before it is used, and publish it in the store."""
        origin = f"{self._client.url}, version {registered.version}"

        async def fetch(name: str, most: int) -> bytes:
            try:
                return await self._client.fetch(registered.run_id, name, most=most)
            except NotInRegistryError as error:
                raise NotInRegistryError(f"{origin}/{error}") from None

        async with self._deadline(registered, FETCH_SECONDS):
            content, signature = await fetch(MANIFEST, LARGEST_MANIFEST), await fetch(SIGNATURE, LARGEST_SIGNATURE)
        sealed = await asyncio.to_thread(
            self._model_store.check_manifest, content, signature, registered.version, origin=origin
        )
        manifest = sealed.manifest
        if manifest.run_id != registered.run_id:
            raise BundleTamperedError(
                f"{origin}: sealed in run {manifest.run_id}, but registered as of run {registered.run_id}"
            )
        sizes = {name: largest(digest) for name, digest in manifest.files.items()}
        async with self._deadline(registered, FETCH_SECONDS + sum(sizes.values()) / SLOWEST_BYTES):
            files = {name: await fetch(name, size) for name, size in sizes.items()}
        return await asyncio.to_thread(self._publish, sealed, files)

    @asynccontextmanager
    async def _deadline(self, registered: RegisteredVersion, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            message = f"{self._client.url} did not send version {registered.version} within {seconds:.0f} s"
            raise RegistryDownError(message) from None

    def _publish(self, sealed: SealedManifest, files: Mapping[str, bytes]) -> Bundle:
        bundle = sealed.with_files(files)
        failpoint("registry.fetched")
        return self._model_store.publish(bundle)

    def _fingerprint(self, registered: RegisteredVersion) -> Fingerprint:
        return fingerprint(self._model_store.folder / registered.version, self._model_store.public_key)
