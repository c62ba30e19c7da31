"""Loading: build the model of a checked bundle, and compare its answers on the golden rows with those of training."""

import html
import timeit

import numpy as np

from services.inference.serving.model import LoadedModel, Model, Probabilities, Rows
from shared.artifacts.bundle import CARD, ONNX, PICKLE, Bundle
from shared.artifacts.errors import BundleError
from shared.contracts.scoring import ROUNDING

_LOOP_SECONDS = 0.001
"""How long a model call may block the event loop. A thread takes that time off the loop but costs the process more:
70 microseconds a call that carries one row, 3 a row in calls of 16 (a row itself takes 25)."""

_SUM_ROUNDING = 1e-3
"""How far the sum of a row may be from 1."""
_CARD_BEGIN = b"<main>"
_FORCED = (
    '\n<p class="lead" role="note"><strong>Versión forzada.</strong> Se puso en producción aunque no superó estas '
    "comprobaciones: <code>{}</code>. El historial de promociones dice quién lo hizo y por qué.</p>"
)


class UnusableModelError(BundleError):
    """The bundle is sound, but its model does not load here, or does not answer as it did in training."""


def load_model(bundle: Bundle, *, forced_past: str = "") -> LoadedModel:
    """Load the model of `bundle`. Blocks for a second or two.

    The card states which gates the version was `forced_past` into production, if any: it was written before that.

    Raises:
        UnusableModelError: it must not serve; the message has the reason and what to do.

    """
    model = _build(bundle)
    card = bundle.files.get(CARD)
    if card is not None and forced_past:
        card = card.replace(_CARD_BEGIN, _CARD_BEGIN + _FORCED.format(html.escape(forced_past)).encode(), 1)
    return LoadedModel(model, _quick_rows(model, _golden_rows(model, bundle)), card)


def _build(bundle: Bundle) -> Model:
    # Imported here: memory. Serving ONNX needs no scikit-learn, serving a pickle no onnxruntime.
    try:
        if bundle.manifest.serves == "onnx":
            from services.inference.serving.onnx_model import OnnxModel  # noqa: PLC0415

            return OnnxModel(bundle.files[ONNX], bundle.facts)
        from services.inference.serving.pickle_model import PickleModel  # noqa: PLC0415

        return PickleModel(bundle.files[PICKLE], bundle.facts)
    except Exception as error:  # a pickle or a runtime may raise anything; the version is rejected in one line
        raise UnusableModelError(
            f"{bundle.origin}: {bundle.manifest.serves} does not load ({type(error).__name__}); train it again here"
        ) from error


def _golden_rows(model: Model, bundle: Bundle) -> Rows:
    """Return the golden rows, once `model` has answered them as it did in training, with probabilities."""
    tolerance = bundle.manifest.parity.tolerance
    try:
        rows = np.array(bundle.manifest.golden.rows, dtype=np.float32)  # None becomes NaN
        expected = np.array(bundle.manifest.golden.probabilities)
        computed = model.probabilities(rows)
    except Exception as error:  # the same
        message = f"{bundle.origin}: the model fails on its golden rows ({type(error).__name__}); train it again here"
        raise UnusableModelError(message) from error
    if (
        computed.shape != (len(rows), len(bundle.manifest.classes))
        or computed.shape != expected.shape
        or not (np.abs(computed - expected) <= tolerance).all()
        or (computed.argmax(axis=1) != expected.argmax(axis=1)).any()
    ):
        raise UnusableModelError(
            f"{bundle.origin}: the model does not answer its golden rows as in training; refused. Train it again here"
        )
    if not _are_probabilities(computed):  # nor were they in training
        raise UnusableModelError(
            f"{bundle.origin}: the answers to the golden rows are no probabilities, which are from 0 to 1 and sum to 1;"
            " refused. Train a model that returns such"
        )
    return rows


def _are_probabilities(answers: Probabilities) -> bool:
    """Return whether all `answers` are from 0 to 1, and those of each row sum to 1; NaN is not."""
    inside = (answers >= -ROUNDING) & (answers <= 1 + ROUNDING)
    return bool(inside.all() and (np.abs(answers.sum(axis=-1) - 1) <= _SUM_ROUNDING).all())


def _quick_rows(model: Model, rows: Rows) -> int:
    """Return how many rows the model answers in `_LOOP_SECONDS`, from its best times on one row and on all `rows`."""
    if _best_seconds(model, rows[:1]) > _LOOP_SECONDS:
        return 0
    return int(_LOOP_SECONDS * len(rows) / _best_seconds(model, rows))


def _best_seconds(model: Model, rows: Rows) -> float:
    return min(timeit.repeat(lambda: model.probabilities(rows), number=1, repeat=5))
