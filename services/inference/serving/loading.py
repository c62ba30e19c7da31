"""From a folder to a model that may serve: verified, built, and asked its golden rows first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from services.inference.serving.model import Loaded
from shared.artifacts.bundle import CARD, ONNX, PICKLE, Bundle, BundleError, open_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from services.inference.serving.model import Model, Rows

_LOOP_SECONDS = 0.001
"""How long a model call may hold up the event loop. A thread takes that time off the loop but costs the process more:
70 microseconds a call that carries one row, 3 a row in calls of 16 (a row itself takes 25)."""


class UnusableModelError(BundleError):
    """The bundle is sound, but what it holds does not load here, or does not answer as it did in training."""


def load_model(folder: Path, public_key: Path, *, patient_digest: str) -> Loaded:
    """Load the model in `folder`. Blocks for a second or two.

    Raises:
        BundleError: it must not serve; the message says why and what to do.

    """
    bundle = open_bundle(folder, public_key, patient_digest=patient_digest)
    model = _built(bundle, folder)
    return Loaded(model, _quick_rows(model, _golden_rows(model, bundle, folder)), bundle.files.get(CARD))


def _built(bundle: Bundle, folder: Path) -> Model:
    # Imported here: memory. Serving ONNX needs no scikit-learn, serving a pickle no onnxruntime.
    try:
        if bundle.manifest.serves == "onnx":
            from services.inference.serving.onnx_model import OnnxModel  # noqa: PLC0415

            return OnnxModel(bundle.files[ONNX], bundle.facts)
        from services.inference.serving.pickle_model import PickleModel  # noqa: PLC0415

        return PickleModel(bundle.files[PICKLE], bundle.facts)
    except Exception as error:
        message = f"{folder}: {bundle.manifest.serves} does not load ({type(error).__name__}); train it again here"
        raise UnusableModelError(message) from error


def _golden_rows(model: Model, bundle: Bundle, folder: Path) -> Rows:
    """Ask `model` the golden rows, and give them if it answers as it did in training."""
    tolerance = bundle.manifest.parity.tolerance
    try:
        rows = np.array(bundle.manifest.golden.rows, dtype=np.float32)  # None becomes NaN
        expected = np.array(bundle.manifest.golden.probabilities)
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
    return rows


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
