"""`python -m training promote VERSION --to staging|production --reason "…" [--force]`: let a version serve.

Into production it gets through its gates only. `--force` takes it past those that it fails, and the history says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.artifacts.bundle import PRODUCTION, STAGING
from shared.artifacts.store import ModelStore
from shared.patient import load_patient
from shared.settings import read_settings
from training.arguments import add_reason
from training.errors import GatesFailedError, PromotionError
from training.registry.gate_run import run_gates
from training.registry.open import open_registry
from training.registry.promotion import Change, carry_out, fetched, follow, look
from training.settings import TrainingSettings

if TYPE_CHECKING:
    import argparse

    from training.registry.mlflow_registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("version", help="its number in the registry")
    parser.add_argument("--to", choices=(STAGING, PRODUCTION), required=True)
    add_reason(parser)
    parser.add_argument("--force", action="store_true", help="past the gates that it fails; the history says so")


def main(arguments: argparse.Namespace) -> str:
    """Run the command; returns its summary."""
    settings = read_settings(TrainingSettings)
    patient = load_patient(settings.predecir_paciente)
    registry = open_registry(settings, patient.disease.name)
    model_store = ModelStore(settings.var, patient.disease.name, patient.digest)
    return promote(arguments.version, arguments.to, arguments.reason, registry, model_store, force=arguments.force)


def promote(  # noqa: PLR0913 - one per word of the command
    version: str, alias: str, reason: str, registry: Registry, model_store: ModelStore, *, force: bool = False
) -> str:
    """Move `alias` to `version`; returns what happened.

    Raises:
        GatesFailedError: it does not pass its gates, and was not forced past them.
        PromotionError: it is not there or cannot serve, or the alias was moved by somebody else.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk does not let us.

    """
    if not registry.has(version):
        known = [int(one) for one in registry.versions()]
        there = f"there are {len(known)}, {min(known)} to {max(known)}" if known else "there is none yet (`make train`)"
        message = f"there is no version {version} of {model_store.folder.name}; {there}; nothing was changed"
        raise PromotionError(message)
    seen = look(registry, alias, wanted=version)
    last = seen.history.last(alias)
    if seen.version == version and last is not None and last.entry.version == version:
        follow(registry, model_store)
        return f"version {version} is in {alias} already"
    bundle = fetched(version, registry, model_store)
    report = run_gates(bundle, seen.version, registry, model_store) if alias == PRODUCTION else None
    missed = report.failed if report else []
    if missed and not force:
        message = f"version {version} is not promoted; it does not pass: {', '.join(missed)}; --force goes past them"
        raise GatesFailedError(message)
    carry_out(Change("promote", version, reason, report, tuple(missed)), seen, registry, model_store)
    forced = f"; FORCED past {', '.join(missed)}" if missed else ""
    return f"version {version}, {alias} (was {seen.version or 'empty'}){forced}"
