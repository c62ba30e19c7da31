"""Signed bundles for tests: a real, tiny model of any patient class, laid out under `var` as training leaves it.

The model is trained on random rows: its answers mean nothing, but they differ from row to row.
"""

import dataclasses
import datetime as dt
import functools
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from shared.artifacts.bundle import (
    CARD,
    MANIFEST,
    ONNX,
    PICKLE,
    PRODUCTION,
    Conformal,
    Golden,
    Manifest,
    Parity,
    file_digest,
    seal,
)
from shared.artifacts.signing import signing_key
from shared.diseases.thyroid import DatosPaciente
from shared.patient import Diagnosis, Disease, Patient, choice, flag, measure

TOLERANCE = 1e-5


class PacienteDePrueba(Patient):
    """Datos de un paciente con una enfermedad inventada."""

    disease: ClassVar[Disease] = Disease(
        name="prueba",
        title="Enfermedad de prueba",
        diagnoses=(Diagnosis("sano", "Sano"), Diagnosis("enfermo", "Enfermo")),
    )

    edad: int | None = measure("Edad", unit="años", limits=(0, 120), required=True)
    sexo: Literal["F", "M"] | None = choice("Sexo")
    glucosa: float | None = measure("Glucosa", unit="mg/dL", limits=(10, 1000), reference=(70, 100))
    fumador: bool = flag("Fumador")


class RevisedThyroid(DatosPaciente):
    """Datos de un paciente, con las mismas columnas y otro significado."""

    disease: ClassVar[Disease] = dataclasses.replace(DatosPaciente.disease, revision=DatosPaciente.disease.revision + 1)


def random_rows(patient: type[Patient], count: int, *, seed: int = 0) -> list[list[float]]:
    """Return `count` encoded rows within the limits of `patient`, one value in ten missing; exact in float32."""
    rng = np.random.default_rng(seed)
    spans = [
        f.limits or (0.0, float(max(len(f.choices) - 1, 1))) for f in patient.features
    ]  # a flag or a choice is an index
    low, high = np.array(spans).T
    rows = rng.uniform(low, high, size=(count, len(spans)))
    whole = [f.kind != "number" for f in patient.features]
    rows[:, whole] = rows[:, whole].round()
    rows[rng.random(rows.shape) < 0.1] = np.nan
    encoded: list[list[float]] = rows.astype(np.float32).tolist()
    return encoded


def make_bundle(  # noqa: PLR0913 - each is one thing that a test wants different
    var: Path,
    patient: type[Patient],
    *,
    version: str = "1",
    serves: Literal["onnx", "pickle"] = "onnx",
    seed: int = 0,
    pickled: bytes | None = None,
    golden_error: float = 0.0,
    card: bytes | None = None,
) -> Path:
    """Write `<var>/models/<disease>/<version>`, sign it with the pair in `<var>/keys`, and make it production.

    `golden_error` is added to what the golden rows should answer. With `pickled`, these bytes are the only model, and
    nothing is trained. Returns the folder of the version.
    """
    rows = random_rows(patient, 20, seed=seed + 1)
    if pickled is None:
        model, pickled, onnx = _trained(patient, seed)
        golden = model.predict_proba(np.array(rows, dtype=np.float32)) + golden_error
        files = {PICKLE: pickled, ONNX: onnx} if serves == "onnx" else {PICKLE: pickled}
    else:
        golden, files = np.zeros((len(rows), len(patient.disease.classes))), {PICKLE: pickled}
    if card is not None:
        files[CARD] = card
    folder = var / "models" / patient.disease.name / version
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = Manifest(
        name=patient.disease.name,
        version=version,
        run_id="test",
        created=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        patient_digest=patient.digest,
        columns=list(patient.columns),
        classes=list(patient.disease.classes),
        prevalence=dict.fromkeys(patient.disease.classes, 1 / len(patient.disease.classes)),
        low_prevalence=[patient.disease.classes[-1]],
        training_ranges={f.name: f.limits for f in patient.features if f.limits},
        never_missing=[],
        serves=serves,
        parity=Parity(rows=20, max_abs_difference=0, label_flips=0, tolerance=TOLERANCE, passed=serves == "onnx"),
        golden=Golden(
            rows=[[None if np.isnan(value) else value for value in row] for row in rows], probabilities=golden.tolist()
        ),
        conformal=Conformal(level=0.9, plausible_at=0.2),
        metrics={"accuracy": 0.5},
        files={name: file_digest(content) for name, content in files.items()},
        libraries={},
        parameters={},
        data_hash="test",
        git_commit="test",
        git_dirty=True,
    )
    seal(folder, manifest, signing_key(var / "keys"))
    point_production(folder)
    return folder


def copy_model(home: Path, model: Path) -> None:
    """Copy the version in the folder `model`, with the public keys that verify it, into `home`, a service's folder."""
    shutil.copytree(model.parents[2] / "keys", home / "var" / "keys")
    shutil.copytree(model.parent, home / "var" / "models" / model.parent.name, symlinks=True)


def reseal(folder: Path, **changes: object) -> None:
    """Change fields of the manifest of the version in `folder`, and sign it again."""
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    seal(folder, manifest.model_copy(update=changes), signing_key(folder.parents[2] / "keys"))


def point_production(folder: Path) -> None:
    """Make the version in `folder` the one that serves, as a promotion does: in one rename."""
    link = folder.parent / f".{folder.name}.link"
    link.symlink_to(folder.name)
    link.replace(folder.parent / PRODUCTION)


@functools.cache
def _trained(patient: type[Patient], seed: int) -> tuple[Any, bytes, bytes]:
    # Imported here: it takes seconds, and only tests that make a bundle need it.
    from skl2onnx import to_onnx  # noqa: PLC0415
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    rows = np.array(random_rows(patient, 300, seed=seed), dtype=np.float32)
    labels = np.nan_to_num(rows[:, 0]).argsort().argsort() * len(patient.disease.classes) // len(rows)
    model = HistGradientBoostingClassifier(max_iter=4, max_leaf_nodes=5, random_state=seed)
    model.fit(rows, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # skl2onnx passes protobuf a bool in place of an int
        onnx = to_onnx(model, rows[:1], options={"zipmap": False})
    return model, pickle.dumps(model), onnx.SerializeToString()
