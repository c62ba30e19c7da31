"""Checks of what an inference service answers. The service may be another one than ours, with a model of ours.

Each failure names the part that is missing or wrong; docs/reference/inference.md lists what a service must offer.
"""

import math
import re
from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.contracts.open_inference import INPUT, OUTPUT, InferOutput, InferResponse, ModelMetadata, TensorMetadata
from shared.contracts.scoring import ROUNDING, ModelFacts, ModelUnavailableError
from shared.patient import Patient

_MOST_NAMES = 12
_LONGEST_NAME = 80
_VERSION, _DIGEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"), re.compile("[0-9a-f]{64}")
SEE = "see docs/reference/inference.md"

Message = TypeVar("Message", bound=BaseModel)


class WrongAnswerError(ModelUnavailableError):
    """An answer that no gateway of this release can use."""


def read_answer(content: bytes) -> InferResponse:
    """Parse the answer to an infer request.

    Raises:
        WrongAnswerError: a part is missing or wrong.

    """
    return _read(InferResponse, content, "an answer of inference")


def read_metadata(content: bytes) -> ModelMetadata:
    """Parse the metadata of a model.

    Raises:
        WrongAnswerError: a part is missing or wrong.

    """
    return _read(ModelMetadata, content, "the metadata of inference")


def _read(kind: type[Message], content: bytes, part: str) -> Message:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        missing, wrong = list[str](), list[str]()
        for details in error.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(map(str, details["loc"]))[:_LONGEST_NAME] or "a JSON object"
            (missing if details["type"] == "missing" or not details["loc"] else wrong).append(name)
    faults = [f"{verb} {_listed(names)}" for verb, names in (("without", missing), ("with a wrong", wrong)) if names]
    raise WrongAnswerError(f"{part}: {' and '.join(faults)}; {SEE}")


def check_version(version: str) -> None:
    """Check the name of a version, which becomes part of events, metrics and the addresses of further requests.

    Raises:
        WrongAnswerError: it is longer than 64 characters, or has others than letters, digits and `._+-`.

    """
    if not _VERSION.fullmatch(version):
        raise WrongAnswerError(f"an answer of inference: with a wrong model_version; {SEE}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES] + ["…"] * (len(names) > _MOST_NAMES))


def facts_of(metadata: ModelMetadata, patient: type[Patient]) -> ModelFacts:
    """Return the facts in `metadata`, of a model that the gateway of `patient` can use.

    Raises:
        WrongAnswerError: the model cannot be used.

    """
    if not metadata.versions:
        raise WrongAnswerError(f"the metadata of inference: without a version in versions; {SEE}")
    facts = metadata.facts
    check_version(facts.version)
    if facts.name != patient.disease.name:
        raise WrongAnswerError("inference serves a model of another name")
    if facts.patient_digest != patient.digest:
        raise WrongAnswerError("inference serves a model of another patient class")
    columns, classes = set(patient.columns), set(facts.classes)
    fits = {
        "columns": facts.columns == patient.columns,
        "classes": classes <= set(patient.disease.classes) and len(classes) == len(facts.classes),
        "prevalence": classes <= facts.prevalence.keys(),
        "training_ranges": facts.training_ranges.keys() <= columns,
        "never_missing": columns.issuperset(facts.never_missing),
    }
    if names := [f"parameters.{name}" for name, fit in fits.items() if not fit]:
        raise WrongAnswerError(f"the metadata of inference: {_listed(names)} do not fit the patient class; {SEE}")
    right = {
        "digest": _DIGEST.fullmatch(facts.digest) is not None,
        "prevalence": _are_shares(facts.prevalence.values()),
        "training_ranges": all(-math.inf < low <= high < math.inf for low, high in facts.training_ranges.values()),
        "plausible_at": facts.plausible_at is None or _are_shares([facts.plausible_at]),
    }
    if names := [f"parameters.{name}" for name, is_right in right.items() if not is_right]:
        raise WrongAnswerError(f"the metadata of inference: with a wrong {_listed(names)}; {SEE}")
    return facts


def _are_shares(numbers: Iterable[float]) -> bool:
    """Return whether all `numbers` are between 0 and 1, or beyond by rounding; NaN is not."""
    return all(-ROUNDING <= number <= 1 + ROUNDING for number in numbers)


def check_tensors(metadata: ModelMetadata, facts: ModelFacts) -> None:
    """Check that the metadata have the tensors of the protocol.

    Raises:
        WrongAnswerError: one is missing, or has another shape.

    """
    _check_tensor(metadata.inputs, f"inputs.{INPUT}", len(facts.columns))
    _check_tensor(metadata.outputs, f"outputs.{OUTPUT}", len(facts.classes))


def _check_tensor(tensors: list[TensorMetadata], path: str, width: int) -> None:
    name = path.partition(".")[2]
    shape = next((tensor.shape for tensor in tensors if tensor.name == name), None)
    if shape is None:
        raise WrongAnswerError(f"the metadata of inference: without {path}; {SEE}")
    if shape != [-1, width]:
        raise WrongAnswerError(f"the metadata of inference: {path} has another shape than [-1, {width}]; {SEE}")


def numbers_of(output: InferOutput, rows: int, classes: int) -> list[float]:
    """Return the probabilities of an output, `rows` x `classes`.

    Raises:
        WrongAnswerError: the output has another name or shape, or no numbers, or others than probabilities.

    """
    try:
        numbers = output.numbers
    except ValueError:
        raise WrongAnswerError(f"an answer of inference: without numbers in {OUTPUT}; {SEE}") from None
    if output.name != OUTPUT:
        raise WrongAnswerError(f"an answer of inference: without the output {OUTPUT}; {SEE}")
    if output.shape != [rows, classes] or len(numbers) != rows * classes:
        raise WrongAnswerError("inference answered with another shape than requested")
    if not _are_shares(numbers):
        raise WrongAnswerError(f"an answer of inference: {OUTPUT} has a number that is not between 0 and 1; {SEE}")
    return numbers
