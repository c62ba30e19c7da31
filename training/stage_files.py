"""Files that a stage of the pipeline writes and later stages read: paths, contents and readers.

Importing this module loads none of the libraries that compute the contents.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from shared.artifacts.baseline import Baseline
from shared.artifacts.bundle import Golden, Parity
from shared.patient import Disease, Feature
from training.config import Parameters, read_parameters
from training.errors import DataError

FOLDER = Path("var/pipeline")
CASES = FOLDER / "cases.csv"
PREPARATION = FOLDER / "preparation.json"
CHECKS = FOLDER / "checks.json"
MODEL = FOLDER / "model.pkl"
TRAINING = FOLDER / "training.json"
ONNX = FOLDER / "model.onnx"
METRICS = FOLDER / "metrics.json"
PROOF = FOLDER / "proof.json"
POPULATION = FOLDER / "population.json"
PICTURES = FOLDER / "pictures"

Interval = tuple[float, float]
"""The ends of a 95 % interval."""

_SPOKEN = {">=": "at least", "<=": "at most"}


class Preparation(BaseModel):
    """Result of `prepare`: the disease, the columns and the number of cases. Later stages read no patient class."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str
    patient_digest: str
    data_hash: str
    columns: list[str]
    measured: list[str]
    classes: list[str]
    disease: Disease
    features: list[Feature]
    rows_read: int
    discarded: dict[str, int]
    cases: dict[str, int]


class Finding(BaseModel):
    """One check of the data: the figure found, and the limit it must keep. `what` says what the figure is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    what: str
    figure: float
    rule: Literal[">=", "<="]
    limit: float
    passed: bool

    @classmethod
    def at_least(cls, check: str, figure: float, limit: float, what: str) -> Self:
        """Pass if `figure` reaches `limit`."""
        return cls(check=check, what=what, figure=round(figure, 6), rule=">=", limit=limit, passed=figure >= limit)

    @classmethod
    def at_most(cls, check: str, figure: float, limit: float, what: str) -> Self:
        """Pass if `figure` does not exceed `limit`."""
        return cls(check=check, what=what, figure=round(figure, 6), rule="<=", limit=limit, passed=figure <= limit)

    @property
    def told(self) -> str:
        """The finding as half a sentence."""
        return f"{self.check}: {self.what}: {self.figure:.4g}, {_SPOKEN[self.rule]} {self.limit:g}"


class Checks(BaseModel):
    """What `check` found in the data; training starts only if everything passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_hash: str
    cases: int
    findings: list[Finding]


class Candidate(BaseModel):
    """One way to weigh the classes, validated out of fold inside the training period."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    class_weight_power: float
    temperature: float
    plausible_at: float
    score: float
    figures: dict[str, float]
    answers: dict[str, float]


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
    reference: Baseline


class CalibrationBin(BaseModel):
    """The answers with a similar probability of the top label: its mean, and how many of how many were right."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    confidence: float
    right: float
    cases: int


class Subgroup(BaseModel):
    """How the model does for one kind of patient: a band of a measured `feature` holds its lower end.

    Without figures, the cases are too few to say; `class_cases` has every class.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    feature: str
    group: str
    cases: int
    class_cases: dict[str, int]
    figures: dict[str, float]
    intervals: dict[str, Interval]


class Rule(BaseModel):
    """How good the disease's simple rule is, and by how much the model is better: the same cases, resampled together.

    `answers` are the classes that the rule ever gives.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    answers: list[str]
    figures: dict[str, float]
    intervals: dict[str, Interval]
    gain: dict[str, float]
    gain_intervals: dict[str, Interval]


class Period(BaseModel):
    """A set of cases: from which day to which (None without dates), of which class, and what is known of each feature.

    By feature: the share of cases that lack it; of those that have it, the quartiles of a measurement, or the share of
    each option (`no` and `yes` of a flag).
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    cases: int
    first: str | None
    last: str | None
    class_cases: dict[str, int]
    missing: dict[str, float]
    quartiles: dict[str, tuple[float, float, float]]
    shares: dict[str, dict[str, float]]


class Population(BaseModel):
    """Whom the model was trained on, and whom it is reported on."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    training: Period
    reported: Period


class Metrics(BaseModel):
    """What the reported cases say: every figure of the measures and of the conformal sets, with 95 % interval.

    `confusion` counts cases by true and, inside, predicted class.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    cases: int
    figures: dict[str, float]
    intervals: dict[str, Interval]
    confusion: dict[str, dict[str, int]]
    calibration: list[CalibrationBin]
    subgroups: list[Subgroup]
    rule: Rule | None


class Proof(BaseModel):
    """That `model.onnx` answers as `model.pkl`, and the rows by which whoever loads them can tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parity: Parity
    golden: Golden


@dataclass(frozen=True, slots=True)
class Build:
    """Results of all stages before `register`: `pickled` and `onnx` are the model's bytes in its two formats."""

    parameters: Parameters
    preparation: Preparation
    checks: Checks
    training: Training
    population: Population
    metrics: Metrics
    proof: Proof
    pickled: bytes
    onnx: bytes

    @property
    def id(self) -> str:
        """SHA-256 (hex) over everything that a version is made from."""
        digest = hashlib.sha256(self.pickled + self.onnx)
        for part in (
            self.parameters,
            self.preparation,
            self.checks,
            self.training,
            self.population,
            self.metrics,
            self.proof,
        ):
            digest.update(part.model_dump_json().encode())
        return digest.hexdigest()


def read_build() -> Build:
    """Read `params.yaml` and the results of all stages.

    Raises:
        DataError: a stage has not run here.
        ParametersError: `params.yaml` is wrong, or has gates for classes that the disease does not have.

    """
    try:
        build = Build(
            parameters=read_parameters(),
            preparation=read_preparation(),
            checks=read_checks(),
            training=read_training(),
            population=read_population(),
            metrics=read_metrics(),
            proof=read_proof(),
            pickled=MODEL.read_bytes(),
            onnx=ONNX.read_bytes(),
        )
    except FileNotFoundError as error:
        message = f"{error.filename}: not there; run the stages before this one (`make train` runs them all)"
        raise DataError(message) from None
    build.parameters.check_classes(build.preparation.classes)
    return build


def read_preparation() -> Preparation:
    """Read the result of `prepare`."""
    return Preparation.model_validate_json(PREPARATION.read_text(encoding="utf-8"))


def read_checks() -> Checks:
    """Read what `check` found."""
    return Checks.model_validate_json(CHECKS.read_text(encoding="utf-8"))


def read_training() -> Training:
    """Read what `train` said."""
    return Training.model_validate(json.loads(TRAINING.read_text(encoding="utf-8")), strict=False)


def read_metrics() -> Metrics:
    """Read what `evaluate` found."""
    return Metrics.model_validate_json(METRICS.read_text(encoding="utf-8"), strict=False)


def read_population() -> Population:
    """Read whom the model was trained and reported on."""
    return Population.model_validate_json(POPULATION.read_text(encoding="utf-8"))


def read_proof() -> Proof:
    """Read how the two forms of the model compare."""
    return Proof.model_validate_json(PROOF.read_text(encoding="utf-8"))
