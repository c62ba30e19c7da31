"""Scoring: the facts of a model version, and the protocols by which the gateway gets scores and the model card."""

from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

ROUNDING = 1e-6
"""How far a probability may be beyond 0 and 1: models compute in single precision."""
Names = Annotated[tuple[str, ...], Field(fail_fast=True)]
"""Names that are rejected at the first wrong one: an error for each takes a hundred times the bytes of a message."""


class ModelUnavailableError(Exception):
    """No model can answer now. The message is the reason in one line, for operators, without patient values."""


class TrainedFacts(BaseModel):
    """The facts of a model that training finds out. `columns` and `classes` give the order of numbers.

    `low_prevalence` lists the classes that are rare in the training cases. Columns in `never_missing` had a value in
    every training case.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    patient_digest: str
    columns: Names
    classes: Names
    prevalence: dict[str, float]
    low_prevalence: Names
    training_ranges: dict[str, tuple[float, float]]
    never_missing: Names


class _Digest(BaseModel):
    digest: str  # in a base class: it stays the first attribute in JSON


class ModelParameters(TrainedFacts, _Digest):
    """The facts that the Open Inference Protocol carries as `parameters`.

    `digest` is the SHA-256 of the manifest. A class is plausible if its probability is at least `plausible_at`; None
    for a model without such a threshold.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    plausible_at: float | None = None


class ModelFacts(ModelParameters):
    """All facts of one model version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Score:
    """The answer for one row: a probability per class, in the order of `model.classes`, and the model's facts."""

    probabilities: list[float]
    model: ModelFacts


class Scorer(Protocol):
    """A source of scores: the model in this process, or an inference service over HTTP."""

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row (see `Patient.encode`). Rows of concurrent callers share one model call.

        Raises:
            ModelUnavailableError: no model is loaded, or it could not answer within its deadline.

        """

    def unavailable(self) -> str | None:
        """Return why no score is available now, or None."""


class Cards(Protocol):
    """A source of the serving model's card: this process, or an inference service over HTTP."""

    async def card(self) -> bytes | None:
        """Return the card as HTML in UTF-8, or None if the serving version has none.

        Raises:
            ModelUnavailableError: no model is loaded, or the inference service could not be reached.

        """
