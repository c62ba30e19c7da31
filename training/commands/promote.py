"""`python -m training promote VERSION --to staging|production --reason TEXT [--force]`: move an alias to a version.

Production requires that the version passes its gates. `--force` promotes it although it fails some; the promotion log
names them.
"""

import argparse

from shared.artifacts.bundle import PRODUCTION, STAGING
from training.arguments import add_reason
from training.context import TrainingContext
from training.errors import GatesFailedError, PromotionError
from training.registry.gate_run import run_gates
from training.registry.promotion import AliasChange, fetch_bundle, move_alias, read_alias, sync_links


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("version", metavar="VERSION", help="its number in the registry")
    parser.add_argument("--to", choices=(STAGING, PRODUCTION), required=True, help="the alias to move")
    add_reason(parser)
    parser.add_argument("--force", action="store_true", help="promote in spite of failed gates")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Move the alias `to` to the version; return a summary.

    Raises:
        GatesFailedError: the version fails a gate, and there is no `force`.
        PromotionError: the version does not exist or cannot serve, or another process moved the alias.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk cannot be written.

    """
    version, alias = arguments.version, arguments.to
    model_registry, model_store = context.model_registry, context.model_store
    if version not in (known := model_registry.versions()):
        deleted = " (it was deleted in MLflow)" if model_registry.promotion_log().names(version) else ""
        message = (
            f"there is no version {version} of {model_registry.name}{deleted}; {_range(known)}; nothing was changed"
        )
        raise PromotionError(message)
    state = read_alias(model_registry, alias, target=version)
    last = state.log.last(alias)
    if state.version == version and last is not None and last.entry.version == version:
        sync_links(model_registry, model_store)
        return f"version {version} is in {alias} already"
    bundle = fetch_bundle(version, model_registry, model_store)
    report = run_gates(bundle, state.version, model_registry, model_store) if alias == PRODUCTION else None
    missed = report.failed if report else []
    if missed and not arguments.force:
        message = f"version {version} is not promoted; it does not pass: {', '.join(missed)}; --force overrides"
        raise GatesFailedError(message)
    move_alias(AliasChange("promote", version, arguments.reason, report), state, model_registry, model_store)
    forced = f"; FORCED past {', '.join(missed)}" if missed else ""
    return f"version {version}, {alias} (was {state}){forced}"


def _range(known: list[str]) -> str:
    if not known:
        return "there is none yet (`make train`)"
    return f"there are {len(known)}, {known[0]} to {known[-1]}" if len(known) > 1 else f"there is only {known[0]}"
