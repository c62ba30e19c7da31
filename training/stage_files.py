"""Files that a stage of the pipeline writes and later stages read: paths, contents and readers.

Importing this module loads none of the libraries that compute the contents.
"""

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
PLOTS = FOLDER / "pictures"

Interval = tuple[float, float]
"""The ends of a 95 % interval."""

_RULE_WORDS = {">=": "at least", "<=": "at most"}


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


class CheckResult(BaseModel):
    """Result of one data check: the figure, its description `what`, and the limit that it must keep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    what: str
    figure: float
    rule: Literal[">=", "<="]
    limit: float
    passed: bool

    @classmethod
    def at_least(cls, check: str, figure: float, limit: float, description: str) -> Self:
        """Pass if `figure` reaches `limit`."""
        passed = figure >= limit
        return cls(check=check, what=description, figure=round(figure, 6), rule=">=", limit=limit, passed=passed)

    @classmethod
    def at_most(cls, check: str, figure: float, limit: float, description: str) -> Self:
        """Pass if `figure` does not exceed `limit`."""
        passed = figure <= limit
        return cls(check=check, what=description, figure=round(figure, 6), rule="<=", limit=limit, passed=passed)

    @property
    def summary(self) -> str:
        """Check, figure and limit in one line."""
        return f"{self.check}: {self.what}: {self.figure:.4g}, {_RULE_WORDS[self.rule]} {self.limit:g}"


class Checks(BaseModel):
    """Result of `check`. Training starts only if every check passed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_hash: str
    cases: int
    findings: list[CheckResult]


class Candidate(BaseModel):
    """One power of the class weights, with its out-of-fold figures inside the training period."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    class_weight_power: float
    temperature: float
    plausible_at: float
    score: float
    figures: dict[str, float]
    answers: dict[str, float]


class Training(BaseModel):
    """Result of `train`: the candidates, the chosen one, and facts about the training cases that serving needs."""

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
    """Answers with a similar probability of the top label: mean `confidence`, accuracy `right`, number of `cases`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    confidence: float
    right: float
    cases: int


class Subgroup(BaseModel):
    """Figures of one group of patients. A band of a measured `feature` includes its lower end.

    `figures` is empty if the group has too few cases; `class_cases` has every class.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    feature: str
    group: str
    cases: int
    class_cases: dict[str, int]
    figures: dict[str, float]
    intervals: dict[str, Interval]


class Rule(BaseModel):
    """Figures of the disease's simple rule, and the model's `gain` over it on the same resampled cases.

    `answers` are the classes that the rule gives at least once.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    answers: list[str]
    figures: dict[str, float]
    intervals: dict[str, Interval]
    gain: dict[str, float]
    gain_intervals: dict[str, Interval]


class Period(BaseModel):
    """Description of a set of cases: first and last day (None without dates), cases per class, and features.

    Per feature: the share of cases without it; in the other cases, the quartiles of a measurement, or the share of each
    option (`no` and `yes` of a flag).
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
    """Descriptions of the training cases and of the reported cases."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    training: Period
    reported: Period


class Metrics(BaseModel):
    """Result of `evaluate`: the figures of the reported cases, with 95 % intervals.

    `figures` has those of `evaluation.metrics` and `model.conformal`. `confusion` counts cases by true class and,
    inside, by predicted class.
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
    """Comparison of `model.onnx` with `model.pkl`, and the golden rows that a loaded model is checked with."""

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
    """Read the result of `check`."""
    return Checks.model_validate_json(CHECKS.read_text(encoding="utf-8"))


def read_training() -> Training:
    """Read the result of `train`."""
    return Training.model_validate(json.loads(TRAINING.read_text(encoding="utf-8")), strict=False)


def read_metrics() -> Metrics:
    """Read the figures that `evaluate` computed."""
    return Metrics.model_validate_json(METRICS.read_text(encoding="utf-8"), strict=False)


def read_population() -> Population:
    """Read the descriptions of the cases."""
    return Population.model_validate_json(POPULATION.read_text(encoding="utf-8"))


def read_proof() -> Proof:
    """Read the comparison of ONNX with the pickle."""
    return Proof.model_validate_json(PROOF.read_text(encoding="utf-8"))
