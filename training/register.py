"""`python -m training.register`: judge the model, register it, seal its bundle, and publish it for serving.

Everything can be repeated: a build that is registered already is promoted again, as a new one would be, without
another version; links that it does not take follow the registry.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING

from shared.bundle import ONNX, PICKLE, PRODUCTION, STAGING, Conformal, Manifest, file_digest, seal, signing_key
from shared.patient import load_patient
from shared.settings import read_settings
from shared.shelf import Shelf
from training import results
from training.cases import Preparation, read_preparation
from training.errors import DataError, GatesFailedError
from training.gates import Verdict, failed, judge, table
from training.parameters import Parameters, read_parameters
from training.settings import TrainingSettings
from training.stage import run, say

if TYPE_CHECKING:
    from training.registry import Registry

_LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "skl2onnx")
_REQUIREMENTS = ("numpy", "scikit-learn")


@dataclass(frozen=True, slots=True)
class Build:
    """What the stages before have made."""

    parameters: Parameters
    preparation: Preparation
    training: results.Training
    metrics: results.Metrics
    proof: results.Proof
    pickled: bytes
    onnx: bytes

    @property
    def id(self) -> str:
        """Tell this build from any other: a digest of all that goes into its version."""
        digest = hashlib.sha256(self.pickled + self.onnx)
        for part in (self.parameters, self.preparation, self.training, self.metrics, self.proof):
            digest.update(part.model_dump_json().encode())
        return digest.hexdigest()

    @property
    def verdicts(self) -> list[Verdict]:
        """The figures, held against the gates."""
        return judge(self.metrics.figures, self.proof.parity, self.parameters.gates)


def main() -> str:
    """Run the stage; returns its summary."""
    settings = read_settings(TrainingSettings)
    patient = load_patient(settings.predecir_paciente)
    build = _read_build()
    if build.preparation.patient_digest != patient.digest:
        message = "var/pipeline was prepared for another patient class than PREDECIR_PACIENTE; run the pipeline again"
        raise DataError(message)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from training.registry import Registry  # noqa: PLC0415 - seconds, and it reads the two variables above

    settings.var.mkdir(parents=True, exist_ok=True)
    registry = Registry(patient.disease.name, uri=settings.mlflow_tracking_uri, var=settings.var)
    shelf = Shelf(settings.var, patient.disease.name, patient.digest)
    return register(build, registry, shelf, settings.var)


def register(build: Build, registry: Registry, shelf: Shelf, var: Path) -> str:
    """Bring `build` into the registry and onto the shelf; returns what happened.

    Raises:
        GatesFailedError: it is in staging only.
        RegistryError: the registry cannot be used.
        ShelfError: the disk does not let us.

    """
    for line in table(build.verdicts).splitlines():
        say("register", line)
    missed = failed(build.verdicts)
    version = registry.version_of(build.id)
    known = version is not None and _refusal(version, registry, shelf) is None
    if version is None or not known:
        version = _register_anew(build, registry, shelf, var)
    taken = [STAGING] if missed else [PRODUCTION, STAGING]
    registry.complete(version, build.id, taken)
    _link(registry, shelf)
    if missed:
        message = f"version {version} stays in staging; it does not pass: {', '.join(missed)}"
        raise GatesFailedError(message)
    return f"version {version}{' again' if known else ''}, {' and '.join(taken)}"


def _read_build() -> Build:
    try:
        build = Build(
            parameters=read_parameters(),
            preparation=read_preparation(),
            training=results.read_training(),
            metrics=results.read_metrics(),
            proof=results.read_proof(),
            pickled=results.MODEL.read_bytes(),
            onnx=results.ONNX.read_bytes(),
        )
    except FileNotFoundError as error:
        message = f"{error.filename}: not there; run the stages before this one (`make train` runs them all)"
        raise DataError(message) from None
    build.parameters.check_classes(build.preparation.classes)
    return build


def _refusal(version: str, registry: Registry, shelf: Shelf) -> str | None:
    """Say why `version` cannot serve here, or None if it can; it is fetched from the registry if the shelf lacks it."""
    if shelf.opened(version) is not None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        bundle = registry.fetch_bundle(version, Path(folder))
        refusal = shelf.refusal(bundle, version)
        if refusal is None:
            shelf.publish(bundle, version)
    return refusal


def _link(registry: Registry, shelf: Shelf) -> None:
    """Let the links follow the aliases, except those whose version could not serve: their links stay as they are."""
    for alias, version in sorted(registry.aliases().items()):
        if refusal := _refusal(version, registry, shelf):
            say("register", f"the link {alias} stays as it is: version {version} {refusal}")
        else:
            shelf.point(alias, version)


def _register_anew(build: Build, registry: Registry, shelf: Shelf, var: Path) -> str:
    commit, dirty = _commit()
    tags = {
        "data_hash": build.preparation.data_hash,
        "git_commit": commit,
        "git_dirty": dirty,
        "patient_digest": build.preparation.patient_digest,
    }
    with registry.run(tags) as run_id, tempfile.TemporaryDirectory() as temporary:
        registry.log(_flat_parameters(build), _flat_metrics(build), results.PICTURES, table(build.verdicts) + "\n")
        version = registry.create_version(
            pickle.loads(build.pickled),  # noqa: S301 - written by the stage before
            build.preparation.columns,
            build.preparation.classes,
            [f"{name}=={library_version(name)}" for name in _REQUIREMENTS],
        )
        bundle = Path(temporary)
        _seal(bundle, build, version, run_id, commit, var)
        registry.log_bundle(bundle)
        shelf.publish(bundle, version)
    return version


def _seal(folder: Path, build: Build, version: str, run_id: str, commit: str, var: Path) -> None:  # noqa: PLR0913, PLR0917
    files = {PICKLE: build.pickled} | ({ONNX: build.onnx} if build.proof.parity.passed else {})
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = Manifest(
        name=build.preparation.name,
        version=version,
        run_id=run_id,
        created=dt.datetime.now(dt.UTC),
        patient_digest=build.preparation.patient_digest,
        columns=build.preparation.columns,
        classes=build.preparation.classes,
        prevalence=build.training.prevalence,
        low_prevalence=build.training.low_prevalence,
        training_ranges=build.training.training_ranges,
        never_missing=build.training.never_missing,
        reference=build.training.reference,
        serves="onnx" if build.proof.parity.passed else "pickle",
        parity=build.proof.parity,
        golden=build.proof.golden,
        conformal=Conformal(level=build.parameters.conformal.level, plausible_at=build.training.chosen.plausible_at),
        metrics=build.metrics.figures,
        files={name: file_digest(content) for name, content in files.items()},
        libraries={"python": platform.python_version()} | {name: library_version(name) for name in _LIBRARIES},
        parameters=_flat_parameters(build),
        data_hash=build.preparation.data_hash,
        git_commit=commit,
    )
    seal(folder, manifest, signing_key(var / "keys"))


def _flat_parameters(build: Build) -> dict[str, object]:
    flat: dict[str, object] = {
        "chosen.class_weight_power": build.training.chosen.class_weight_power,
        "chosen.plausible_at": build.training.chosen.plausible_at,
        "chosen.temperature": build.training.chosen.temperature,
        "cases.training": build.training.cases,
        "cases.reported": build.training.reported_cases,
    }
    for section, content in build.parameters.model_dump(mode="json").items():
        if isinstance(content, dict):
            flat |= {f"{section}.{key}": value for key, value in content.items()}
        else:
            flat[section] = content
    return flat


def _flat_metrics(build: Build) -> dict[str, float]:
    ends = {
        f"{name}.{end}": value
        for name, interval in build.metrics.intervals.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }
    return {**build.metrics.figures, **ends, "onnx_parity.max_abs_difference": build.proof.parity.max_abs_difference}


def _commit() -> tuple[str, str]:
    """Give the commit of this code, and whether files differ from it; both "unknown" outside git."""
    git, root = shutil.which("git"), Path(__file__).parents[1]
    if git is None:
        return "unknown", "unknown"
    head = subprocess.run([git, "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    status = subprocess.run([git, "-C", root, "status", "--porcelain"], capture_output=True, text=True, check=False)  # noqa: S603
    if head.returncode or status.returncode:
        return "unknown", "unknown"
    return head.stdout.strip(), "yes" if status.stdout.strip() else "no"


if __name__ == "__main__":
    sys.exit(run("register", main))
