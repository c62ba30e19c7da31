"""`python -m training.rollback --reason "…"`: production goes back to the version before, at once and without gates.

That version has served: it passed them, or was forced past them, when it was promoted. Its signature and digests are
verified as ever.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import Shelf
from shared.patient import load_patient
from shared.settings import read_settings
from training.errors import PromotionError
from training.promote import given_reason
from training.registry.opening import open_registry
from training.registry.promotion import Change, carry_out, fetched, look
from training.settings import TrainingSettings
from training.stage import run

if TYPE_CHECKING:
    from training.registry.mlflow_registry import Registry


def main() -> str:
    """Run the command; returns its summary."""
    parser = argparse.ArgumentParser(
        prog="python -m training.rollback", description="Production goes one version back."
    )
    parser.add_argument("--reason", type=given_reason, required=True, help="kept in the history")
    asked = parser.parse_args()
    settings = read_settings(TrainingSettings)
    patient = load_patient(settings.predecir_paciente)
    registry = open_registry(settings, patient.disease.name)
    return rollback(asked.reason, registry, Shelf(settings.var, patient.disease.name, patient.digest))


def rollback(reason: str, registry: Registry, shelf: Shelf) -> str:
    """Move production to the version before; returns what happened.

    Raises:
        PromotionError: there is none, it cannot serve, or production was moved by somebody else.
        RegistryError: the registry cannot be used.
        ShelfError: the disk does not let us.

    """
    seen = look(registry, PRODUCTION)
    version = seen.history.before(PRODUCTION)
    if version is None:
        message = "the history knows no version before the one in production; promote another"
        raise PromotionError(message)
    fetched(version, registry, shelf)
    carry_out(Change("rollback", version, reason), seen, registry, shelf)
    return f"version {version}, {PRODUCTION} (was {seen.version})"


if __name__ == "__main__":
    sys.exit(run("rollback", main))
