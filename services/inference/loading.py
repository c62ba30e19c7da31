"""From a folder to a model that may serve: verified, built, and asked its golden rows first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from services.inference.model import Loaded
from shared.bundle import ONNX, PICKLE, Bundle, BundleError, open_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.batching import Batcher
    from services.inference.metrics import Metrics
    from services.inference.model import Model, Rows

_LOOP_SECONDS = 0.001
"""How long a model call may hold up the event loop. A thread takes that time off the loop but costs the process more:
70 microseconds a call that carries one row, 3 a row in calls of 16 (a row itself takes 25)."""


class UnusableModelError(BundleError):
    """The bundle is sound, but what it holds does not load here, or does not answer as it did in training."""


@dataclass(frozen=True, slots=True)
class Loader:
    """Brings the model in `folder` into the batcher, however long that takes."""

    folder: Path
    public_key: Path
    patient_digest: str
    batcher: Batcher
    metrics: Metrics

    async def keep_trying(self, seconds: float) -> None:
        """Try every `seconds` until a model serves."""
        while self.batcher.loaded is None:
            await asyncio.sleep(seconds)
            await self.attempt()

    async def attempt(self) -> None:
        """Try once; what is wrong becomes the batcher's reason, and is logged when it changes."""
        try:
            loaded = await asyncio.to_thread(
                load_model, self.folder, self.public_key, patient_digest=self.patient_digest
            )
        except BundleError as error:
            self._refused(str(error))
        else:
            self._serving(loaded)

    def _refused(self, reason: str) -> None:
        self.metrics.not_loaded()
        if reason != self.batcher.unavailable():
            structlog.get_logger().error("model_refused", reason=reason)
        self.batcher.refuse(reason)

    def _serving(self, loaded: Loaded) -> None:
        self.batcher.serve(loaded)
        info = loaded.model.info
        structlog.get_logger().info(
            "model_serving", name=info.name, version=info.version, digest=info.digest, platform=loaded.model.platform
        )


def load_model(folder: Path, public_key: Path, *, patient_digest: str) -> Loaded:
    """Load the model in `folder`, following it if it is a link. Blocks for a second or two.

    Raises:
        BundleError: it must not serve; the message says why and what to do.

    """
    folder = folder.resolve()  # once: a promotion in between must not mix two versions
    bundle = open_bundle(folder, public_key, patient_digest=patient_digest)
    model = _built(bundle, folder)
    rows = np.array(bundle.manifest.golden.rows, dtype=np.float32)  # None becomes NaN
    _check_golden(model, rows, bundle, folder)
    return Loaded(model, _quick_rows(model, rows))


def _built(bundle: Bundle, folder: Path) -> Model:
    # Imported here: memory. Serving ONNX needs no scikit-learn, serving a pickle no onnxruntime.
    try:
        if bundle.manifest.serves == "onnx":
            from services.inference.onnx_model import OnnxModel  # noqa: PLC0415

            return OnnxModel(bundle.files[ONNX], bundle.info)
        from services.inference.pickle_model import PickleModel  # noqa: PLC0415

        return PickleModel(bundle.files[PICKLE], bundle.info)
    except Exception as error:
        message = f"{folder}: {bundle.manifest.serves} does not load ({type(error).__name__}); train it again here"
        raise UnusableModelError(message) from error


def _check_golden(model: Model, rows: Rows, bundle: Bundle, folder: Path) -> None:
    tolerance = bundle.manifest.parity.tolerance
    expected = np.array(bundle.manifest.golden.probabilities)
    try:
        found = model.probabilities(rows)
    except Exception as error:
        message = f"{folder}: the model fails on its golden rows ({type(error).__name__}); train it again here"
        raise UnusableModelError(message) from error
    if (
        found.shape != (len(rows), len(bundle.manifest.classes))
        or found.shape != expected.shape
        or not (np.abs(found - expected) <= tolerance).all()
        or (found.argmax(axis=1) != expected.argmax(axis=1)).any()
    ):
        message = f"{folder}: the model does not answer its golden rows as in training; refused. Train it again here"
        raise UnusableModelError(message)


def _quick_rows(model: Model, rows: Rows) -> int:
    """Find how many rows the model answers in `_LOOP_SECONDS`, from its best times on one row and on all `rows`."""
    if _best_seconds(model, rows[:1]) > _LOOP_SECONDS:
        return 0
    return int(_LOOP_SECONDS * len(rows) / _best_seconds(model, rows))


def _best_seconds(model: Model, rows: Rows) -> float:
    def once() -> float:
        started = time.perf_counter()
        model.probabilities(rows)
        return time.perf_counter() - started

    return min(once() for _ in range(5))
