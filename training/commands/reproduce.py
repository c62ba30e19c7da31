"""`python -m training reproduce ID`: compute a recorded answer again and compare it bit for bit.

The row is read from `DATABASE_URL`. The version that answered is read from the model store, or else from the registry,
and its signature and digests are verified. The same inputs are encoded and computed as they were then: by the form that
served, in one thread (with several, ONNX adds up the trees in another order, and the last bits differ). The origin of
the answer is shown beside it: data, commit, parameters, libraries. No value of the patient is shown.
"""

from __future__ import annotations

import asyncio
import tempfile
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from shared.artifacts.errors import BundleError
from shared.contracts.events import write_prediction
from shared.contracts.scoring import Score
from training.errors import DataError, NotReproducedError, RegistryError
from training.monitoring.predictions_db import place, read_patient, recorded
from training.registry.provenance import code_commit, library_versions
from training.stage_runner import log_line

if TYPE_CHECKING:
    import argparse

    from shared.artifacts.bundle import Bundle, Manifest
    from shared.contracts.scoring import ModelFacts
    from shared.patient import Patient
    from training.context import TrainingContext
    from training.monitoring.predictions_db import Prediction

_WIDTH = 110
"""Characters of a line, at most, where there would be over a thousand."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("id", type=uuid.UUID, help="of the prediction, as the answer gave it")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Read, compute and compare; returns the summary.

    Raises:
        DataError: there is no such prediction, or it is one of another patient class.
        RegistryError: the version that answered is not to be had.
        NotReproducedError: the answer differs.

    """
    identifier = str(arguments.id)
    patient = context.patient
    database = context.settings.database_url.get_secret_value()
    found = asyncio.run(_read(database, identifier))
    if found is None:
        message = f"{identifier}: no such prediction is recorded in {place(database)} (DATABASE_URL)"
        raise DataError(message)
    if found.patient_digest != patient.digest:
        message = (
            f"{identifier}: asked of patient class {found.patient_digest[:12]}, but PREDECIR_PACIENTE is "
            f"{patient.digest[:12]}; name that class, or check out the code of then"
        )
        raise DataError(message)
    bundle = find(found, context)
    for line in provenance(found, bundle.manifest):
        log_line("reproduce", line)
    return compare(found, bundle, read_patient(patient, found.inputs))


def find(prediction: Prediction, context: TrainingContext) -> Bundle:
    """Open the version that answered: from the model store, or else from the registry.

    Raises:
        RegistryError: it is in neither, or what is there is another model.

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


def provenance(prediction: Prediction, manifest: Manifest) -> list[str]:
    """Say what the answer came from, and what of it is different here and now."""
    now = library_versions()
    parameters = ", ".join(f"{name}={value}" for name, value in sorted(manifest.parameters.items()))
    then = {name: f"{name} {version}{_now(version, now.get(name))}" for name, version in manifest.libraries.items()}
    then_code, now_code = _code(manifest.git_commit, manifest.git_dirty), _code(*code_commit())
    return [
        f"prediction {prediction.id}, answered {prediction.time} by gateway {prediction.gateway}",
        f"model {manifest.name} version {manifest.version}, digest {prediction.digest}, serves as {manifest.serves}",
        f"trained {manifest.created:%Y-%m-%d %H:%M} UTC on data {manifest.data_hash}, run {manifest.run_id}",
        f"commit {then_code} (now {now_code})",
        *textwrap.wrap(f"parameters {parameters}", _WIDTH, subsequent_indent=" " * 11, break_on_hyphens=False),
        f"libraries {', '.join(then.values())}",
    ]


def compare(prediction: Prediction, bundle: Bundle, asked: Patient) -> str:
    """Compute the answer for `asked` again.

    Raises:
        NotReproducedError: it differs from the recorded one, or the row was changed after it was recorded.

    """
    from training.model.predictor import served  # noqa: PLC0415 - scikit-learn: seconds, which a wrong id should not cost

    row = np.array([asked.encode()], dtype=np.float32)
    classes = bundle.manifest.classes
    computed = dict(zip(classes, served(bundle)(row)[0].tolist(), strict=True))
    given: dict[str, float] = orjson.loads(prediction.probabilities)
    if given.keys() != computed.keys():
        message = "different: the recorded classes are not those of the model"
        raise NotReproducedError(message)
    off = {code: abs(given[code] - computed[code]) for code in classes if given[code] != computed[code]}
    if off:
        message = (
            f"different: {len(off)} of {len(classes)} probabilities, by {max(off.values()):.3g} at most; "
            "a bit in the last place tells of other libraries or another processor, more of a row that was changed"
        )
        raise NotReproducedError(message)
    if row_hash(prediction, bundle.facts, asked) != prediction.hash:
        message = (
            "the probabilities are the same, but the row was changed after it was recorded: its hash does not hold"
        )
        raise NotReproducedError(message)
    return f"the same, bit for bit: all {len(classes)} probabilities; the row's hash holds"


def row_hash(prediction: Prediction, model: ModelFacts, asked: Patient) -> str:
    """Give the hash of what the row says now: that of the event with this content, for `asked`, the row's inputs."""
    given = orjson.loads(prediction.probabilities)
    event = write_prediction(
        event_id=prediction.id,
        source=prediction.gateway,
        time=prediction.time,
        inputs=asked.__dict__,
        output=prediction.output,
        score=Score([given[code] for code in model.classes], model),
        reference=prediction.reference,
        plausible=None if prediction.plausible is None else orjson.loads(prediction.plausible),
    )
    return str(orjson.loads(event)["datahash"])


def _from_registry(version: str, context: TrainingContext) -> Bundle:
    model_store = context.model_store
    gone = f"version {version} is not in {model_store.folder}"
    if not context.registry_exists:
        message = f"{gone}, and there is no registry here; MLFLOW_TRACKING_URI names one elsewhere"
        raise RegistryError(message)
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetched = context.registry.fetch_bundle(version, Path(folder))
        except RegistryError as error:
            message = f"{gone}, nor to be had from the {error}"
            raise RegistryError(message) from None
        try:
            return model_store.check(fetched, version)
        except BundleError as error:
            message = f"{gone}, and the one in the registry {model_store.rejection(error, fetched)}"
            raise RegistryError(message) from error


async def _read(url: str, identifier: str) -> Prediction | None:
    async with recorded(url) as database:
        return await database.prediction(identifier)


def _code(commit: str, dirty: bool | None) -> str:  # noqa: FBT001 - as the manifest has it
    """Name the code, and whether it was just that."""
    return commit + {True: " with uncommitted changes", False: "", None: ", changes not known"}[dirty]


def _now(then: str, now: str | None) -> str:
    return "" if then == now else f" (now {now or 'absent'})"
