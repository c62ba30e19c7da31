"""What the gateway needs to know of the model that answered, and how it is asked: the seam between the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class ModelUnavailableError(Exception):
    """No model can answer now; the message says why, for operators, in one line and without patient values."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model version. `digest` is the SHA-256 of its manifest; `columns` and `classes` give the order of numbers.

    Columns `never_missing` had a value in every training case. A class is plausible if its probability is at least
    `plausible_at`; None for a model that has no such threshold.
    """

    name: str
    version: str
    digest: str
    patient_digest: str
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    prevalence: Mapping[str, float]
    low_prevalence: frozenset[str]
    training_ranges: Mapping[str, tuple[float, float]]
    never_missing: frozenset[str] = frozenset()
    plausible_at: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The answer for one row: a probability per class, in the order of `model.classes`, and the model that gave it."""

    probabilities: list[float]
    model: ModelInfo


class Scorer(Protocol):
    """Whoever can score a patient: the model in this process, or an inference service over HTTP."""

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row (see `Patient.encode`). Rows of concurrent callers share one model call.

        Raises:
            ModelUnavailableError: no model is loaded, or it could not answer within its deadline.

        """

    def unavailable(self) -> str | None:
        """Why no score can be given right now, or None."""


class Cards(Protocol):
    """Whoever has the card of the model that serves: this process, or an inference service over HTTP."""

    async def card(self) -> bytes | None:
        """Give the card as HTML in UTF-8, or None if the version that serves now has none.

        Raises:
            ModelUnavailableError: no model is loaded, or whoever has it could not be reached.

        """
