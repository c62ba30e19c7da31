"""`python -m training rollback --reason "…"`: production goes back to the version before, at once and without gates.

That version has served: it passed them, or was forced past them, when it was promoted. Its signature and digests are
verified as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.artifacts.bundle import PRODUCTION
from training.arguments import add_reason
from training.errors import PromotionError
from training.registry.promotion import Change, carry_out, fetched, look

if TYPE_CHECKING:
    import argparse

    from training.context import TrainingContext


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_reason(parser)


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Run the command; returns its summary."""
    return rollback(arguments.reason, context)


def rollback(reason: str, context: TrainingContext) -> str:
    """Move production to the version before; returns what happened.

    Raises:
        PromotionError: there is none, it cannot serve, or production was moved by somebody else.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk does not let us.

    """
    registry, model_store = context.registry, context.model_store
    seen = look(registry, PRODUCTION)
    version = seen.history.before(PRODUCTION)
    if version is None:
        message = "the history knows no version before the one in production; promote another"
        raise PromotionError(message)
    fetched(version, registry, model_store)
    carry_out(Change("rollback", version, reason), seen, registry, model_store)
    return f"version {version}, {PRODUCTION} (was {seen.version})"
