"""From a folder to a model that may serve: verified, built, and asked its golden rows first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from shared.bundle import ONNX, PICKLE, Bundle, BundleError, open_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.batching import Batcher
    from services.inference.metrics import Metrics
    from services.inference.model import Model


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
        while self.batcher.model is None:
            await asyncio.sleep(seconds)
            await self.attempt()

    async def attempt(self) -> None:
        """Try once; what is wrong becomes the batcher's reason, and is logged when it changes."""
        try:
            model = await asyncio.to_thread(
                load_model, self.folder, self.public_key, patient_digest=self.patient_digest
            )
        except BundleError as error:
            self._refused(str(error))
        else:
            self._serving(model)

    def _refused(self, reason: str) -> None:
        self.metrics.not_loaded()
        if reason != self.batcher.unavailable():
            structlog.get_logger().error("model_refused", reason=reason)
        self.batcher.refuse(reason)

    def _serving(self, model: Model) -> None:
        self.batcher.serve(model)
        info = model.info
        structlog.get_logger().info(
            "model_serving", name=info.name, version=info.version, digest=info.digest, platform=model.platform
        )


def load_model(folder: Path, public_key: Path, *, patient_digest: str) -> Model:
    """Load the model in `folder`, following it if it is a link. Blocks for a second or two.

    Raises:
        BundleError: it must not serve; the message says why and what to do.

    """
    folder = folder.resolve()  # once: a promotion in between must not mix two versions
    bundle = open_bundle(folder, public_key, patient_digest=patient_digest)
    model = _built(bundle, folder)
    _check_golden(model, bundle, folder)
    return model


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


def _check_golden(model: Model, bundle: Bundle, folder: Path) -> None:
    golden, tolerance = bundle.manifest.golden, bundle.manifest.parity.tolerance
    rows = np.array(golden.rows, dtype=np.float32)  # None becomes NaN
    expected = np.array(golden.probabilities)
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
