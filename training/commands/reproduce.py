"""`python -m training reproduce ID`: compute a recorded answer again and compare it bit for bit.

The row is read from `DATABASE_URL`. The version that answered is read from the model store, or else from the registry,
and its signature and digests are verified. The same inputs are encoded and computed with the same model format, ONNX or
pickle, in one thread (with several threads ONNX adds the trees in another order, and the last bits differ). The origin
of the answer is printed: data, commit, parameters, libraries. No value of the patient is printed.
"""

import argparse
import asyncio
import tempfile
import textwrap
import uuid
from pathlib import Path

import numpy as np
import orjson
from sqlalchemy.engine import URL

from shared.artifacts.bundle import Bundle, Manifest
from shared.artifacts.errors import BundleError
from shared.contracts.events import write_prediction
from shared.contracts.scoring import ModelFacts, Score
from shared.database_url import shown
from shared.patient import Patient
from training.context import TrainingContext
from training.errors import DataError, NotReproducedError, RegistryError
from training.monitoring.predictions_db import Prediction, open_predictions, parse_patient
from training.registry.provenance import code_commit, library_versions
from training.stage_runner import log_line

_WIDTH = 110
"""Longest line of the parameters, in characters; on one line they have over a thousand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("id", metavar="ID", type=uuid.UUID, help="the id of the prediction, as in the answer")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Read the prediction, compute it again and compare; return a summary.

    Raises:
        DataError: there is no such prediction, or it is of another patient class.
        RegistryError: the version that answered cannot be opened.
        NotReproducedError: the answer differs.

    """
    identifier = str(arguments.id)
    patient = context.patient
    database_url = context.settings.database()
    prediction = asyncio.run(_read(database_url, identifier))
    if prediction is None:
        message = f"{identifier}: no such prediction is recorded in {shown(database_url)} (DATABASE_URL)"
        raise DataError(message)
    if prediction.patient_digest != patient.digest:
        message = (
            f"{identifier}: the prediction is of patient class {prediction.patient_digest[:12]}, but PREDECIR_PACIENTE "
            f"is {patient.digest[:12]}; name that class, or check out the commit that served it"
        )
        raise DataError(message)
    bundle = open_version(prediction, context)
    for line in describe_origin(prediction, bundle.manifest):
        log_line("reproduce", line)
    return recompute(prediction, bundle, parse_patient(patient, prediction.inputs))


def open_version(prediction: Prediction, context: TrainingContext) -> Bundle:
    """Open the version that answered: from the model store, or else from the registry.

    Raises:
        RegistryError: neither has it, or both have another model under its number.

    """
    version = prediction.version
    bundle = context.model_store.opened(version)
    if bundle is None or bundle.digest != prediction.digest:
        bundle = _from_registry(version, context)
    if bundle.digest != prediction.digest:
        message = (
            f"version {version} here is not the one that answered: its digest is {bundle.digest[:12]}, "
            f"that of the prediction {prediction.digest[:12]}"
        )
        raise RegistryError(message)
    return bundle


def describe_origin(prediction: Prediction, manifest: Manifest) -> list[str]:
    """Return lines about the origin of an answer; where this process differs, its own value follows in brackets."""
    current = library_versions()
    parameters = ", ".join(f"{name}={value}" for name, value in sorted(manifest.parameters.items()))
    libraries = [
        f"{name} {version}{_if_different(version, current.get(name))}" for name, version in manifest.libraries.items()
    ]
    trained_code, current_code = _code(manifest.git_commit, manifest.git_dirty), _code(*code_commit())
    return [
        f"prediction {prediction.id}, answered {prediction.time} by gateway {prediction.gateway}",
        f"model {manifest.name} version {manifest.version}, digest {prediction.digest}, serves as {manifest.serves}",
        f"trained {manifest.created:%Y-%m-%d %H:%M} UTC on data {manifest.data_hash}, run {manifest.run_id}",
        f"commit {trained_code} (now {current_code})",
        *textwrap.wrap(f"parameters {parameters}", _WIDTH, subsequent_indent=" " * 11, break_on_hyphens=False),
        f"libraries {', '.join(libraries)}",
    ]


def recompute(prediction: Prediction, bundle: Bundle, patient: Patient) -> str:
    """Compute the answer for `patient` again; return a summary.

    Raises:
        NotReproducedError: it differs from the recorded one, or the row was changed after it was recorded.

    """
    from training.model.predictor import load_predictor  # noqa: PLC0415 - scikit-learn: seconds, only after cheap checks

    row = np.array([patient.encode()], dtype=np.float32)
    classes = bundle.manifest.classes
    computed = dict(zip(classes, load_predictor(bundle)(row)[0].tolist(), strict=True))
    recorded: dict[str, float] = orjson.loads(prediction.probabilities)
    if recorded.keys() != computed.keys():
        message = "different: the recorded classes are not those of the model"
        raise NotReproducedError(message)
    errors = {code: abs(recorded[code] - computed[code]) for code in classes if recorded[code] != computed[code]}
    if errors:
        message = (
            f"different: {len(errors)} of {len(classes)} probabilities, by {max(errors.values()):.3g} at most; "
            "a difference in the last bit comes from other libraries or another processor, a larger one from a row "
            "that was changed"
        )
        raise NotReproducedError(message)
    if row_hash(prediction, bundle.facts, patient) != prediction.hash:
        message = "the probabilities are the same, but the row was changed after it was recorded: its hash differs"
        raise NotReproducedError(message)
    return f"the same, bit for bit: all {len(classes)} probabilities; the row's hash is right"


def row_hash(prediction: Prediction, model: ModelFacts, patient: Patient) -> str:
    """Return the hash of the row's present content: that of the event with this content and the inputs of `patient`."""
    probabilities = orjson.loads(prediction.probabilities)
    event = write_prediction(
        event_id=prediction.id,
        source=prediction.gateway,
        time=prediction.time,
        inputs=patient.__dict__,
        output=prediction.output,
        score=Score([probabilities[code] for code in model.classes], model),
        reference=prediction.reference,
        plausible=None if prediction.plausible is None else orjson.loads(prediction.plausible),
    )
    return str(orjson.loads(event)["datahash"])


def _from_registry(version: str, context: TrainingContext) -> Bundle:
    model_store = context.model_store
    missing = f"version {version} is not in {model_store.folder}"
    if not context.registry_exists:
        message = f"{missing}, and there is no registry here; set MLFLOW_TRACKING_URI if it is on a server"
        raise RegistryError(message)
    with tempfile.TemporaryDirectory() as folder:
        try:
            bundle = context.model_registry.download_bundle(version, Path(folder))
        except RegistryError as error:
            message = f"{missing}, and cannot be read from the {error}"
            raise RegistryError(message) from None
        try:
            return model_store.check(bundle, version)
        except BundleError as error:
            message = f"{missing}, and the one in the registry {model_store.rejection(error, bundle)}"
            raise RegistryError(message) from error


async def _read(url: URL, identifier: str) -> Prediction | None:
    async with open_predictions(url) as database:
        return await database.prediction(identifier)


def _code(commit: str, dirty: bool | None) -> str:  # noqa: FBT001 - as in the manifest
    """Name the commit, and whether files differed from it."""
    return commit + {True: " with uncommitted changes", False: "", None: ", changes not known"}[dirty]


def _if_different(version: str, current: str | None) -> str:
    return "" if version == current else f" (now {current or 'absent'})"
