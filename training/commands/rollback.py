"""`python -m training rollback --reason TEXT`: move production back to the previous version, without running gates.

That version was in production before: it passed its gates, or was forced past them, when it was promoted. Its signature
and digests are verified again. A version that was deleted in MLflow is passed over.
"""

import argparse

from shared.artifacts.bundle import PRODUCTION
from training.arguments import add_reason
from training.context import TrainingContext
from training.errors import PromotionError
from training.registry.promotion import AliasChange, fetch_bundle, move_alias, read_alias


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_reason(parser)


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Move production to the previous version; return a summary.

    Raises:
        PromotionError: there is none, it cannot serve, or another process moved production.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk cannot be written.

    """
    model_registry, model_store = context.model_registry, context.model_store
    state = read_alias(model_registry, PRODUCTION)
    version = state.log.rollback_target(PRODUCTION, model_registry.versions())
    if version is None:
        message = "the promotion log has no version before the one in production that still exists; promote another"
        raise PromotionError(message)
    fetch_bundle(version, model_registry, model_store)
    move_alias(AliasChange("rollback", version, arguments.reason), state, model_registry, model_store)
    return f"version {version}, {PRODUCTION} (was {state})"
