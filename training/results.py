"""What `train` and `evaluate` hand on: the model in its two forms, and what is known of it.

Kept apart from the stages that make them: reading them costs none of the libraries that made them.
"""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from shared.bundle import Golden, Parity
from training.cases import FOLDER

MODEL = FOLDER / "model.pkl"
TRAINING = FOLDER / "training.json"
ONNX = FOLDER / "model.onnx"
METRICS = FOLDER / "metrics.json"
PROOF = FOLDER / "proof.json"
PICTURES = FOLDER / "pictures"

Interval = tuple[float, float]
"""The ends of a 95 % interval."""


class Candidate(BaseModel):
    """One way to weigh the classes, validated out of fold inside the training period."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    class_weight_power: float
    temperature: float
    plausible_at: float
    score: float
    figures: dict[str, float]


class Training(BaseModel):
    """What `train` did: what it chose among, and what others must know of the training period."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    cases: int
    reported_cases: int
    chosen: Candidate
    candidates: list[Candidate]
    prevalence: dict[str, float]
    low_prevalence: list[str]
    training_ranges: dict[str, tuple[float, float]]
    never_missing: list[str]


class Metrics(BaseModel):
    """What the reported cases say: every figure of `training.measures` and `training.conformal`, with 95 % interval."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    cases: int
    figures: dict[str, float]
    intervals: dict[str, Interval]


class Proof(BaseModel):
    """That `model.onnx` answers as `model.pkl`, and the rows by which whoever loads them can tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parity: Parity
    golden: Golden


def read_training() -> Training:
    """Read what `train` said."""
    return Training.model_validate(json.loads(TRAINING.read_text(encoding="utf-8")), strict=False)


def read_metrics() -> Metrics:
    """Read what `evaluate` found."""
    return Metrics.model_validate_json(METRICS.read_text(encoding="utf-8"), strict=False)


def read_proof() -> Proof:
    """Read how the two forms of the model compare."""
    return Proof.model_validate_json(PROOF.read_text(encoding="utf-8"))
