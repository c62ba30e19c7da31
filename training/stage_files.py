"""Files that a stage of the pipeline writes and later stages read: paths, contents and readers.

Importing this module loads none of the libraries that compute the contents.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from shared.artifacts.baseline import Baseline
from shared.artifacts.bundle import LARGEST_FILE, Golden, Parity
from shared.files import read_regular
from shared.patient import Disease, Feature
from training.config import Parameters, read_parameters
from training.errors import DataError

FOLDER = Path("var/pipeline")
LARGEST_RESULT = 64 * 1024 * 1024
"""Bytes of the result of a stage."""
CASES = FOLDER / "cases.csv"
MODEL = FOLDER / "model.pkl"
ONNX = FOLDER / "model.onnx"
PLOTS = FOLDER / "pictures"

Interval = tuple[float, float]
"""The ends of a 95 % interval."""
Confusion = dict[str, dict[str, int]]
"""Numbers of cases by true class and, inside, by predicted class."""

_RULE_WORDS = {">=": "at least", "<=": "at most"}


class Record(BaseModel):
    """Values that never change; types are not converted, and every key is known."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class StageResult(Record):
    """Result of a stage, in a file of its own."""

    path: ClassVar[Path]

    @classmethod
    def read(cls) -> Self:
        """Read the file.

        Raises:
            FileNotFoundError: the stage has not run here.
            ValidationError: another release wrote it.

        """
        return cls.model_validate_json(read_regular(cls.path, LARGEST_RESULT))

    def write(self) -> None:
        """Write the file."""
        self.path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


class Preparation(StageResult):
    """Result of `prepare`: the disease, the columns and the number of cases. Later stages read no patient class."""

    path = FOLDER / "preparation.json"

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


class CheckResult(Record):
    """Result of one data check: the figure, its description `what`, and the limit that it must keep."""

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


class Checks(StageResult):
    """Result of `check`. Training starts only if every check passed."""

    path = FOLDER / "checks.json"

    data_hash: str
    cases: int
    findings: list[CheckResult]


class Candidate(Record):
    """One power of the class weights, with its out-of-fold figures inside the training period."""

    class_weight_power: float
    temperature: float
    plausible_at: float
    score: float
    figures: dict[str, float]
    answers: dict[str, float]


class Training(StageResult):
    """Result of `train`: the candidates, the chosen one, and facts about the training cases that serving needs."""

    path = FOLDER / "training.json"

    cases: int
    reported_cases: int
    chosen: Candidate
    candidates: list[Candidate]
    prevalence: dict[str, float]
    low_prevalence: list[str]
    training_ranges: dict[str, tuple[float, float]]
    never_missing: list[str]
    reference: Baseline


class CalibrationBin(Record):
    """Answers with a similar probability of the top label: mean `confidence`, accuracy `right`, number of `cases`."""

    confidence: float
    right: float
    cases: int


class Subgroup(Record):
    """Figures of one group of patients. A band of a measured `feature` includes its lower end.

    `figures` is empty if the group has too few cases; `class_cases` has every class.
    """

    feature: str
    group: str
    cases: int
    class_cases: dict[str, int]
    figures: dict[str, float]
    intervals: dict[str, Interval]


class Rule(Record):
    """Figures of the disease's simple rule, and the model's `gain` over it on the same resampled cases.

    `answers` are the classes that the rule gives at least once.
    """

    answers: list[str]
    figures: dict[str, float]
    intervals: dict[str, Interval]
    gain: dict[str, float]
    gain_intervals: dict[str, Interval]


class Period(Record):
    """Description of a set of cases: first and last day (None without dates), cases per class, and features.

    Per feature: the share of cases without it; in the other cases, unless they are very few, the quartiles of a
    measurement, or the share of each option (`no` and `yes` of a flag).
    """

    cases: int
    first: str | None
    last: str | None
    class_cases: dict[str, int]
    missing: dict[str, float]
    quartiles: dict[str, tuple[float, float, float]]
    shares: dict[str, dict[str, float]]


class Population(StageResult):
    """Descriptions of the training cases and of the reported cases."""

    path = FOLDER / "population.json"

    training: Period
    reported: Period


class Metrics(StageResult):
    """Result of `evaluate`: the figures of the reported cases, with 95 % intervals.

    `figures` has those of `evaluation.metrics` and `model.conformal`. `confusion` counts cases by true class and,
    inside, by predicted class. A figure of few cases (`cases_of`) has no interval.
    """

    path = FOLDER / "metrics.json"

    cases: int
    figures: dict[str, float]
    intervals: dict[str, Interval]
    confusion: Confusion
    calibration: list[CalibrationBin]
    subgroups: list[Subgroup]
    rule: Rule | None

    def cases_of(self, figure: str) -> int:
        """Return the number of cases that `figure` is computed from: of a class, of its answers, or all."""
        if figure == "conclusive_accuracy":
            return round(self.figures["conclusive"] * self.cases)
        return cases_of(figure, self.confusion)


def cases_of(figure: str, confusion: Confusion) -> int:
    """Return the number of cases that `figure` is computed from, by the `confusion` of the same answers.

    A precision is one of all cases with that answer, another figure of a class one of all cases of the class.
    """
    kind, _, code = figure.partition(".")
    if kind == "precision":
        return sum(row[code] for row in confusion.values())
    return sum(sum(row.values()) for true, row in confusion.items() if code in {"", true})


class Proof(StageResult):
    """Comparison of `model.onnx` with `model.pkl`, and the golden rows that a loaded model is checked with."""

    path = FOLDER / "proof.json"

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
        ParametersError: `params.yaml` is wrong, or has names that the disease does not have.

    """
    try:
        build = Build(
            parameters=read_parameters(),
            preparation=Preparation.read(),
            checks=Checks.read(),
            training=Training.read(),
            population=Population.read(),
            metrics=Metrics.read(),
            proof=Proof.read(),
            pickled=read_regular(MODEL, LARGEST_FILE),
            onnx=read_regular(ONNX, LARGEST_FILE),
        )
    except FileNotFoundError as error:
        message = f"{error.filename}: not there; run the stages before this one (`make train` runs them all)"
        raise DataError(message) from None
    build.parameters.check_names(build.preparation.classes, build.preparation.features)
    return build
