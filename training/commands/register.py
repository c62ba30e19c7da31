"""`python -m training register`: register the model, seal its bundle, and promote it as far as its gates let.

Everything can be repeated: a build that is registered already gets no other version; the links follow the registry.
"""

from __future__ import annotations

import datetime as dt
import pickle
import tempfile
from importlib.metadata import version as library_version
from pathlib import Path
from typing import TYPE_CHECKING

from shared.artifacts.bundle import (
    CARD,
    ONNX,
    PICKLE,
    PRODUCTION,
    STAGING,
    Conformal,
    Manifest,
    file_digest,
    seal,
)
from shared.artifacts.signing import signing_key
from shared.artifacts.store import ModelStoreError
from training.card.render import Version, render
from training.errors import AlreadyMovedError, DataError, GatesFailedError, TrainingError
from training.registry.build_cache import remember, unchanged
from training.registry.gate_run import run_gates
from training.registry.promotion import Change, View, carry_out, fetched, follow, look, usable
from training.registry.provenance import code_commit, library_versions
from training.stage_files import CHECKS, PICTURES, read_build
from training.stage_runner import log_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from training.context import TrainingContext
    from training.registry.mlflow_registry import Registry
    from training.stage_files import Build

_REQUIREMENTS = ("numpy", "scikit-learn")
_PATIENT = "patient_digest"
_REASON = "trained"
_ATTEMPTS = 10
_DIRTY = {True: "yes", False: "no", None: "unknown"}


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Run the stage; returns its summary."""
    build = read_build()
    if build.preparation.patient_digest != context.patient.digest:
        message = "var/pipeline was prepared for another patient class than PREDECIR_PACIENTE; run the pipeline again"
        raise DataError(message)
    if said := unchanged(build.id, context.settings, context.model_store):
        return f"nothing to do: {said}"
    said = register(build, context)
    remember(build.id, said, context.settings, context.model_store)
    return said


def register(build: Build, context: TrainingContext) -> str:
    """Bring `build` into the registry and onto the model store; returns what happened.

    Staging takes it in any case. Production takes it if it passes its gates and is new, or if nothing that could serve
    is there: what an operator has promoted or rolled back since stays.

    Raises:
        GatesFailedError: it is in staging only.
        PromotionError: production was moved by somebody else meanwhile.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk does not let us.

    """
    registry, model_store = context.registry, context.model_store
    version = registry.version_of(build.id)
    known = version is not None and usable(version, registry, model_store) is None
    if version is None or not known:
        version = _register_anew(build, context)
    try:
        _to_staging(version, context)
        seen = look(registry, PRODUCTION, wanted=version)
        settled = known and seen.version is not None and _for_this_class(seen.version, registry, build)
        if settled and seen.version is not None and not _was_only_slow(version, seen, registry):
            outcome = _stays(version, seen.version, registry)
        else:
            outcome = _to_production(version, build, seen, context)
    except (TrainingError, ModelStoreError):
        try:
            follow(registry, model_store)
        except (TrainingError, ModelStoreError) as error:  # the first one is raised, and decides the exit code
            log_line("links", str(error))
        raise
    follow(registry, model_store)
    return f"version {version}{' again' if known else ''}, {outcome}"


def _to_staging(version: str, context: TrainingContext) -> None:
    registry, model_store = context.registry, context.model_store
    for left in reversed(range(_ATTEMPTS)):
        seen = look(registry, STAGING)
        if seen.version == version:
            return
        try:
            carry_out(Change("register", version, _REASON), seen, registry, model_store)
        except AlreadyMovedError:  # by another training; the last one stays
            if not left:
                raise
        else:
            return


def _to_production(version: str, build: Build, seen: View, context: TrainingContext) -> str:
    registry, model_store = context.registry, context.model_store
    report = run_gates(fetched(version, registry, model_store), seen.version, registry, model_store)
    if not report.failed and seen.version != version:
        carry_out(Change("register", version, _REASON, report), seen, registry, model_store)
    registry.complete(version, build.id, report.failed)
    _refuse(version, report.failed)
    return f"{PRODUCTION} and {STAGING}"


def _stays(version: str, production: str, registry: Registry) -> str:
    """Leave production to whoever moved it since `version` was registered; says how that had gone."""
    if version == production:  # by its gates, or past them by force
        return f"{PRODUCTION} and {STAGING}"
    _refuse(version, registry.missed(version))
    return f"{STAGING}; {PRODUCTION} stays at version {production} (python -m training promote moves it)"


def _was_only_slow(version: str, seen: View, registry: Registry) -> bool:
    """Whether `version` missed nothing but latency, as on a busy machine, and production was not moved since."""
    missed, last = registry.missed(version), seen.history.last(PRODUCTION)
    came = min((one.number for one in seen.history.kept if one.entry and one.entry.version == version), default=0)
    only_slow = bool(missed) and all(gate.startswith("latency.") for gate in missed)
    return only_slow and seen.version != version and (last is None or last.kept.number < came)


def _refuse(version: str, missed: Sequence[str]) -> None:
    if missed:
        message = f"version {version} stays in staging; it does not pass: {', '.join(missed)}"
        raise GatesFailedError(message)


def _for_this_class(version: str, registry: Registry, build: Build) -> bool:
    return registry.run_tag(version, _PATIENT) == build.preparation.patient_digest


def _register_anew(build: Build, context: TrainingContext) -> str:
    registry = context.registry
    code = code_commit()
    tags = {
        "data_hash": build.preparation.data_hash,
        "git_commit": code[0],
        "git_dirty": _DIRTY[code[1]],
        _PATIENT: build.preparation.patient_digest,
    }
    with registry.run(tags) as run_id, tempfile.TemporaryDirectory() as temporary:
        registry.log(_flat_parameters(build), _flat_metrics(build), PICTURES, CHECKS)
        version = registry.create_version(
            pickle.loads(build.pickled),  # noqa: S301 - written by the stage before
            build.preparation.columns,
            build.preparation.classes,
            [f"{name}=={library_version(name)}" for name in _REQUIREMENTS],
        )
        bundle = Path(temporary)
        _seal(bundle, build, version, run_id, code, context.settings.var)
        registry.log_bundle(bundle)
        registry.log_card(bundle / CARD)
        context.model_store.publish(context.model_store.check(bundle, version))
    return version


def _seal(folder: Path, build: Build, version: str, run_id: str, code: tuple[str, bool | None], var: Path) -> None:  # noqa: PLR0913, PLR0917
    created = dt.datetime.now(dt.UTC)
    libraries = library_versions()
    files = {PICKLE: build.pickled} | ({ONNX: build.onnx} if build.proof.parity.passed else {})
    files[CARD] = render(build, Version(version, run_id, created, *code, libraries, dict(files)))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = Manifest(
        name=build.preparation.name,
        version=version,
        run_id=run_id,
        created=created,
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
        libraries=libraries,
        parameters=_flat_parameters(build),
        data_hash=build.preparation.data_hash,
        git_commit=code[0],
        git_dirty=code[1],
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
