"""From a folder to the model that serves: loaded beside the old one, and swapped in between two batches.

What must not serve is refused, and the old model goes on.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from services.inference.serving.loading import load_model
from shared.artifacts.bundle import BundleError, BundleMissingError
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from services.inference.metrics import Metrics
    from services.inference.serving.batcher import Batcher
    from services.inference.serving.model import Loaded


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that must not serve, and why: one line that says what to do."""

    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """What tells one state of a folder from another: where it leads, its files, and the key that has to fit them."""

    folder: Path
    files: tuple[tuple[str, int, int, int], ...]


class Swapper:
    """Brings the model of a folder into the batcher, and the next one when the folder leads to another."""

    def __init__(self, public_key: Path, patient_digest: str, batcher: Batcher, metrics: Metrics) -> None:
        """Serve only what is signed under `public_key` for `patient_digest`."""
        self._public_key, self._patient_digest = public_key, patient_digest
        self._batcher, self._metrics = batcher, metrics
        self._serving: _Seen | None = None
        self._bad: tuple[_Seen, Refusal] | None = None
        self.refusal: Refusal | None = None
        """What is wrong with the version that was last looked at, or None."""
        self.since: datetime | None = None
        """Since when the model that serves does."""
        self.looked_at: str | None = None
        """The version that the folder led to when it was last looked at, or None if it led nowhere."""

    async def look(self, folder: Path) -> bool:
        """Serve the model in `folder`, following it if it is a link; returns whether that is what serves now.

        What was refused is tried again when its files or the key change; and at once if it was incomplete, or if
        nothing serves.
        """
        seen = await asyncio.to_thread(_look, folder, self._public_key)
        self.looked_at = seen.folder.name if seen.files else None
        if seen == self._serving:
            self.refuse(None)
            return True
        if self._bad is not None and self._bad[0] == seen:
            self.refuse(self._bad[1])
            return False
        return await self._try(seen)

    def refuse(self, refusal: Refusal | None) -> None:
        """Show what is wrong with the version in production, if anything; said once in the log."""
        if refusal == self.refusal:
            return
        if refusal is not None:
            structlog.get_logger().error("model_refused", version=refusal.version, reason=refusal.reason)
            self._batcher.refuse(refusal.reason)
        self._metrics.refused(None if refusal is None else refusal.version)
        self.refusal = refusal

    async def _try(self, seen: _Seen) -> bool:
        try:
            loaded = await asyncio.to_thread(
                load_model, seen.folder, self._public_key, patient_digest=self._patient_digest
            )
        except BundleError as error:
            self._metrics.not_loaded()
            refusal = Refusal(seen.folder.name, str(error))
            lasting = self._batcher.loaded is not None and not isinstance(error, BundleMissingError)
            self._bad = (seen, refusal) if lasting else None
            self.refuse(refusal)
            return False
        failpoint("model.loaded")
        self._serve(loaded)
        failpoint("model.swapped")
        self._serving, self._bad = seen, None
        self.refuse(None)
        return True

    def _serve(self, loaded: Loaded) -> None:
        facts, before = loaded.model.facts, self._batcher.loaded
        if before is not None and before.model.facts.digest == facts.digest:
            return  # the same bytes, laid out anew
        self._batcher.serve(loaded)
        self.since = datetime.now(UTC)
        structlog.get_logger().info(
            "model_serving",
            name=facts.name,
            version=facts.version,
            digest=facts.digest,
            platform=loaded.model.platform,
            instead_of=before and before.model.facts.version,
        )


def _look(folder: Path, public_key: Path) -> _Seen:
    folder = Path(os.path.realpath(folder))  # once: a promotion in between must not mix two versions
    try:
        paths = [public_key, *sorted(folder.iterdir())]
    except OSError:
        paths = []  # whoever loads it will say so
    return _Seen(folder, tuple(_state(path) for path in paths))


def _state(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return path.name, 0, 0, 0
    return path.name, found.st_ino, found.st_mtime_ns, found.st_size
