"""Parameters: the strict model of `params.yaml`. Types are not converted, and no key has a default value."""

import datetime as dt
import re
from collections.abc import Collection, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from shared.files import read_regular
from shared.patient import Feature
from training.errors import ParametersError

FILE = Path("params.yaml")
LARGEST = 1024 * 1024
"""Bytes of a YAML file."""
PLACEHOLDER = "FILL_IN"
"""What `python -m training params` writes for a value that only the owner of the data can choose."""

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")

Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


def _in_quotes(value: object) -> object:
    """Reject all but a text of year, month and day: DVC has no type for a YAML date, and a number would be seconds."""
    if isinstance(value, dt.date):
        raise PydanticCustomError("date_unquoted", 'put the date in quotes, "{date}"', {"date": value.isoformat()})
    if not isinstance(value, str) or not _ISO_DATE.fullmatch(value):
        raise PydanticCustomError("date_wrong", 'must be year, month and day in quotes, as "2024-01-31"')
    return value


class TimeSplit(_Section):
    """Train on the cases before `date`, report on those of that day and later."""

    method: Literal["time"]
    date: Annotated[dt.date, Field(strict=False), BeforeValidator(_in_quotes)]


class RandomSplit(_Section):
    """Report on a random share of every class, for data without dates."""

    method: Literal["random"]
    test_share: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]


class ModelParameters(_Section):
    """Gradient-boosted trees. Names are those of scikit-learn's HistGradientBoostingClassifier, where it has one."""

    max_iter: Annotated[int, Field(ge=1, le=2000)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    max_leaf_nodes: Annotated[int, Field(ge=2, le=255)]
    min_samples_leaf: Annotated[int, Field(ge=1)]
    l2_regularization: Annotated[float, Field(ge=0)]
    max_features: Annotated[float, Field(gt=0, le=1)]
    members: Annotated[int, Field(ge=1, le=20)]
    recency_half_life_months: Annotated[float, Field(gt=0)] | None
    seed: Annotated[int, Field(ge=0)]


class Choice(_Section):
    """Choice of the class weights inside the training period, by forward or random folds."""

    folds: Annotated[int, Field(ge=2, le=20)]
    class_weight_powers: Annotated[list[Share], Field(min_length=1, max_length=20)]


class ConformalRule(_Section):
    """Share of cases whose plausible classes include the true one, among the cases that set the threshold."""

    level: Annotated[float, Field(ge=0.5, lt=1)]


class Evaluation(_Section):
    """Computation of the reported figures."""

    calibration_bins: Annotated[int, Field(ge=2, le=100)]
    bootstrap_resamples: Annotated[int, Field(ge=50, le=10_000)]
    seed: Annotated[int, Field(ge=0)]


class Subgroups(_Section):
    """Groups of patients that are reported on, besides the options of every choice, and their least number of cases."""

    least_cases: Annotated[int, Field(ge=2)]
    bands: dict[str, Annotated[list[float], Field(min_length=1)]]

    @field_validator("bands")
    @classmethod
    def _rising(cls, bands: dict[str, list[float]]) -> dict[str, list[float]]:
        if any(low >= high for ends in bands.values() for low, high in pairwise(ends)):
            raise PydanticCustomError("bands_not_rising", "each end must be above the one before")
        return bands


class ParityRule(_Section):
    """Largest difference of a probability at which `model.onnx` may serve instead of `model.pkl`."""

    tolerance: Annotated[float, Field(gt=0, le=0.01)]


class Leakage(_Section):
    """Largest balanced accuracy of one column alone: for all classes, and for one class against the rest."""

    all_classes: Share
    one_class: Share


class DataLimits(_Section):
    """Limits of the data checks; `missing_by_column` overrides `missing`."""

    least_cases: Annotated[int, Field(ge=1)]
    missing: Share
    missing_by_column: dict[str, Share]
    class_share: Share
    class_cases: Annotated[int, Field(ge=1)]
    repeated: Share
    shared: Share
    leakage: Leakage


class LatencyGate(_Section):
    """Largest latency in the format that serves: one row alone (99th percentile), and per row of a batch of 64."""

    one_row_p99_ms: Annotated[float, Field(gt=0)]
    row_in_batch_us: Annotated[float, Field(gt=0)]


class SubgroupGate(_Section):
    """Floors for every group of `subgroups` with `least_cases` reported cases or more."""

    least_cases: Annotated[int, Field(ge=1)]
    accuracy: Share
    balanced_accuracy: Share


class Gates(_Section):
    """Bounds that a model must keep on the reported cases to go into production."""

    accuracy: Share
    balanced_accuracy: Share
    average_precision: dict[str, Share]
    recall: dict[str, Share]
    expected_calibration_error: Share
    onnx_parity: bool
    latency: LatencyGate
    subgroups: SubgroupGate


class Trigger(_Section):
    """Limits of recent predictions beyond which `training trigger` starts the pipeline."""

    days: Annotated[int, Field(ge=1, le=3650)]
    period_days: Annotated[float, Field(gt=0, le=3650)]
    least: Annotated[int, Field(ge=1)]
    psi: Annotated[float, Field(gt=0)]
    missing: Share
    accuracy: Share


class Parameters(_Section):
    """All of `params.yaml`."""

    split: Annotated[TimeSplit | RandomSplit, Field(discriminator="method")]
    checks: DataLimits
    model: ModelParameters
    choice: Choice
    conformal: ConformalRule
    low_prevalence: Share
    evaluation: Evaluation
    subgroups: Subgroups
    parity: ParityRule
    gates: Gates
    trigger: Annotated[Trigger | None, Field(exclude=True)] = None  # no model depends on it, so it is not registered

    def check_names(self, classes: Collection[str], features: Iterable[Feature]) -> None:
        """Check that every name in a gate, band or limit is a class, measurement or column of the disease.

        Raises:
            ParametersError: names all unknown ones, a line for each kind.

        """
        kinds = {feature.name: feature.kind for feature in features}
        measured = [name for name, kind in kinds.items() if kind in {"number", "integer"}]
        gates, bands = {*self.gates.average_precision, *self.gates.recall}, set(self.subgroups.bands)
        limits = set(self.checks.missing_by_column)
        faults = []
        if unknown := sorted(gates - set(classes)):
            faults.append(f"{FILE}: gates: no such class: {', '.join(unknown)}; the classes are {', '.join(classes)}")
        if unknown := sorted(bands - set(measured)):
            known = ", ".join(measured)
            faults.append(f"{FILE}: subgroups.bands: no such measurement: {', '.join(unknown)}; known: {known}")
        if unknown := sorted(limits - set(kinds)):
            faults.append(f"{FILE}: checks.missing_by_column: no such column: {', '.join(unknown)}")
        if faults:
            raise ParametersError("\n".join(faults))


def read_parameters(path: Path = FILE) -> Parameters:
    """Read and validate `path`.

    Raises:
        ParametersError: one line that names every wrong key.

    """
    try:
        content = read_yaml(path)
    except OSError as error:
        remedy = "run the command in its folder, or write a new one with `make params`"
        message = f"{path}: cannot be read ({error.strerror}); {remedy}"
        raise ParametersError(message) from None
    try:
        return Parameters.model_validate(content)
    except ValidationError as error:
        wrong = "; ".join(
            f"{_key(e['loc'])}: {_FILL_IN if e['input'] == PLACEHOLDER else _RULES.get(e['type'], e['msg'])}"
            for e in error.errors(include_url=False)
        )
        message = f"{path}: {wrong}"
        raise ParametersError(message) from None


def read_yaml(path: Path) -> object:
    """Read `path` with DVC's reader, so that both read the same values: YAML 1.2, where 010 is 10 and `no` a text.

    Raises:
        OSError: it cannot be read.
        ParametersError: it is not YAML, or has a key twice.

    """
    try:
        return YAML(typ="safe").load(read_regular(path, LARGEST).decode())
    except UnicodeDecodeError:
        message = f"{path}: not text in UTF-8"
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        fault = "a key is there twice" if isinstance(error, DuplicateKeyError) else "not YAML"
        message = f"{path}: {fault} (line {line})"
    except (YAMLError, ValueError, LookupError):  # the last two: a tag whose value is of another type, `!!bool x`
        message = f"{path}: not YAML"
    except RecursionError:
        message = f"{path}: nested too deeply"
    raise ParametersError(message)


_FILL_IN = f"write a value in place of {PLACEHOLDER}"
_RULES = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "float_type": "must be a number",
    "union_tag_invalid": "method must be time or random",
    "union_tag_not_found": "method is missing: time or random",
}


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location if part not in {"time", "random"}) or "the whole file"
