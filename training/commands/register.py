"""`python -m training register`: register the model, seal its bundle and promote it as far as its gates allow.

The command can be repeated. A build that is registered gets no second version; the links follow the registry.
"""

import argparse
import datetime as dt
import pickle
import tempfile
from collections.abc import Sequence
from importlib.metadata import version as library_version
from pathlib import Path

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
from training.card.render import render
from training.context import TrainingContext
from training.errors import AlreadyMovedError, DataError, GatesFailedError, TrainingError
from training.registry.build_cache import cached_summary, store_summary
from training.registry.gate_run import run_gates
from training.registry.promotion import (
    AliasChange,
    AliasState,
    fetch_bundle,
    move_alias,
    read_alias,
    sync_links,
    unusable_reason,
)
from training.registry.provenance import code_commit, library_versions
from training.stage_files import PLOTS, Build, Checks, read_build
from training.stage_runner import log_line

_REQUIREMENTS = ("numpy", "scikit-learn")
_PATIENT_TAG = "patient_digest"
_REASON = "trained"
_REGISTRY_LOST = (
    "{folder} or the promotion log has versions up to {highest}, which this registry lacks: numbering continues after "
    "them. If the registry was lost, restore its backup (docs/operations/running.md)"
)
_STAGING_ATTEMPTS = 10
_DIRTY = {True: "yes", False: "no", None: "unknown"}


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Run the stage; return its summary."""
    build = read_build()
    if build.preparation.patient_digest != context.patient.digest:
        message = "var/pipeline was prepared for another patient class than PREDECIR_PACIENTE; run the pipeline again"
        raise DataError(message)
    if summary := cached_summary(build.id, context.settings, context.model_store):
        return f"nothing to do: {summary}"
    log_line("register", "opening the model registry")
    summary = register(build, context)
    store_summary(build.id, summary, context.settings, context.model_store)
    return summary


def register(build: Build, context: TrainingContext) -> str:
    """Register `build` and publish it in the model store; return a summary.

    Staging always takes the version. Production takes it if it passes its gates and is new, or if no version that can
    serve is in production. A version that an operator has promoted or rolled back since stays.

    Raises:
        GatesFailedError: the version is in staging only.
        PromotionError: another process moved production meanwhile.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk cannot be written.

    """
    model_registry, model_store = context.model_registry, context.model_store
    version = model_registry.version_of_build(build.id)
    known = version is not None and unusable_reason(version, model_registry, model_store) is None
    if version is None or not known:
        version = _create_version(build, context)
    try:
        _move_staging(version, context)
        state = read_alias(model_registry, PRODUCTION, target=version)
        missed = model_registry.missed_gates(version)
        if (
            missed is not None
            and state.version is not None
            and model_registry.run_tag(state.version, _PATIENT_TAG) == build.preparation.patient_digest
            and not _missed_latency_only(version, state, missed)
        ):
            place = _keep_production(version, state.version, missed)
        else:
            place = _move_production(version, state, context)
    except (TrainingError, ModelStoreError):
        try:
            sync_links(model_registry, model_store)
        except (TrainingError, ModelStoreError) as error:  # the first error is raised and decides the exit code
            log_line("links", str(error))
        raise
    sync_links(model_registry, model_store)
    return f"version {version}{' again' if known else ''}, {place}"


def _move_staging(version: str, context: TrainingContext) -> None:
    for attempts_left in reversed(range(_STAGING_ATTEMPTS)):
        state = read_alias(context.model_registry, STAGING)
        if state.version == version:
            return
        change = AliasChange("register", version, _REASON)
        try:
            move_alias(change, state, context.model_registry, context.model_store)
        except AlreadyMovedError:  # by another training; the last one stays
            if not attempts_left:
                raise
        else:
            return


def _move_production(version: str, state: AliasState, context: TrainingContext) -> str:
    model_registry, model_store = context.model_registry, context.model_store
    bundle = fetch_bundle(version, model_registry, model_store)
    report = run_gates(bundle, state.version, model_registry, model_store)
    if not report.failed and state.version != version:
        move_alias(AliasChange("register", version, _REASON, report), state, model_registry, model_store)
    model_registry.mark_gates(version, report.failed)
    _raise_if_missed(version, report.failed)
    return f"{PRODUCTION} and {STAGING}"


def _keep_production(version: str, production: str, missed: Sequence[str]) -> str:
    """Leave production as it was moved since `version` was registered; repeat the result of its gates."""
    if version == production:  # through its gates, or forced past them
        return f"{PRODUCTION} and {STAGING}"
    _raise_if_missed(version, missed)
    return f"{STAGING}; {PRODUCTION} stays at version {production} (python -m training promote moves it)"


def _missed_latency_only(version: str, state: AliasState, missed: Sequence[str]) -> bool:
    """Return whether latency, as on a busy machine, is all `version` missed, and production was not moved since."""
    last = state.log.last(PRODUCTION)
    entries = [stored.number for stored in state.log.entries if stored.entry and stored.entry.version == version]
    not_moved = last is None or last.stored.number < min(entries, default=0)
    return _latency_only(missed) and state.version != version and not_moved


def _latency_only(missed: Sequence[str]) -> bool:
    return bool(missed) and all(gate.startswith("latency.") for gate in missed)


def _raise_if_missed(version: str, missed: Sequence[str]) -> None:
    if missed:
        again = "; if this machine was busy, run `make train` again when it is not" if _latency_only(missed) else ""
        message = f"version {version} stays in staging; it does not pass: {', '.join(missed)}{again}"
        raise GatesFailedError(message)


def _create_version(build: Build, context: TrainingContext) -> str:
    """Register `build` as a new version and publish its bundle in the model store; return the version."""
    commit, dirty = code_commit()
    tags = {
        "data_hash": build.preparation.data_hash,
        "git_commit": commit,
        "git_dirty": _DIRTY[dirty],
        _PATIENT_TAG: build.preparation.patient_digest,
    }
    model_registry = context.model_registry
    in_use = max(context.model_store.highest_version(), model_registry.promotion_log().highest_version())
    with model_registry.start_run(tags) as run_id, tempfile.TemporaryDirectory() as temporary:
        model_registry.log_evaluation(_flat_parameters(build), _flat_metrics(build), PLOTS, Checks.path)
        version, skipped = model_registry.create_version(
            pickle.loads(build.pickled),  # noqa: S301 - written by the stage before
            build.preparation.columns,
            build.preparation.classes,
            [f"{name}=={library_version(name)}" for name in _REQUIREMENTS],
            above=in_use,
        )
        if skipped:
            log_line("register", _REGISTRY_LOST.format(folder=context.model_store.folder, highest=in_use))
        log_line("register", f"logged version {version} in run {run_id}")
        bundle = Path(temporary)
        manifest = describe_version(build, version, run_id, (commit, dirty))
        card = render(build, manifest)
        manifest = manifest.model_copy(update={"files": {**manifest.files, CARD: file_digest(card)}})
        contents = {PICKLE: build.pickled, ONNX: build.onnx, CARD: card}
        for name in manifest.files:
            (bundle / name).write_bytes(contents[name])
        seal(bundle, manifest, signing_key(context.settings.var / "keys"))
        model_registry.log_bundle(bundle)
        context.model_store.publish(context.model_store.check(bundle, version))
    model_registry.mark_build(version, build.id)
    return version


def describe_version(build: Build, version: str, run_id: str, code: tuple[str, bool | None]) -> Manifest:
    """Return the manifest of a version, without its card; `code` is the commit and whether files differ from it."""
    commit, dirty = code
    models = {PICKLE: build.pickled} | ({ONNX: build.onnx} if build.proof.parity.passed else {})
    return Manifest(
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
        files={name: file_digest(content) for name, content in models.items()},
        libraries=library_versions(),
        parameters=_flat_parameters(build),
        data_hash=build.preparation.data_hash,
        git_commit=commit,
        git_dirty=dirty,
    )


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
