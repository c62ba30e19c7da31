"""`python -m training promote VERSION --to staging|production --reason "…" [--force]`: let a version serve.

Into production it gets through its gates only. `--force` takes it past those that it fails, and the history says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.artifacts.bundle import PRODUCTION, STAGING
from training.arguments import add_reason
from training.errors import GatesFailedError, PromotionError
from training.registry.gate_run import run_gates
from training.registry.promotion import Change, carry_out, fetched, follow, look

if TYPE_CHECKING:
    import argparse

    from training.context import TrainingContext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("version", help="its number in the registry")
    parser.add_argument("--to", choices=(STAGING, PRODUCTION), required=True)
    add_reason(parser)
    parser.add_argument("--force", action="store_true", help="past the gates that it fails; the history says so")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Run the command; returns its summary."""
    return promote(arguments.version, arguments.to, arguments.reason, context, force=arguments.force)


def promote(version: str, alias: str, reason: str, context: TrainingContext, *, force: bool = False) -> str:
    """Move `alias` to `version`; returns what happened.

    Raises:
        GatesFailedError: it does not pass its gates, and was not forced past them.
        PromotionError: it is not there or cannot serve, or the alias was moved by somebody else.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk does not let us.

    """
    registry, model_store = context.registry, context.model_store
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
