"""Gate runs: check a version against its gates and store the report with the version's run in the registry."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from training.errors import PromotionError
from training.registry.promotion import available
from training.stage_runner import log_line

if TYPE_CHECKING:
    from shared.artifacts.bundle import Bundle
    from shared.artifacts.store import ModelStore
    from training.evaluation.gates import Report
    from training.registry.mlflow_registry import Registry


def run_gates(bundle: Bundle, production: str | None, registry: Registry, model_store: ModelStore) -> Report:
    """Run the gates on `bundle`, with version `production` as the comparison. Prints the report and stores it.

    Raises:
        DataError: the pipeline has not run in this folder.
        RegistryError: the registry cannot be used.

    """
    from training.evaluation.gate_runner import GateRunner  # noqa: PLC0415 - scikit-learn: seconds, only after cheap checks

    present, refusal = None, None
    if production is not None:
        try:
            present = available(production, registry, model_store)
        except PromotionError as error:
            refusal = str(error)
    report = GateRunner.from_pipeline().report(bundle, present, refusal=refusal)
    text = report.text()
    for line in text.splitlines():
        log_line("gates", line)
    now = dt.datetime.now(dt.UTC)
    registry.keep_report(
        bundle.manifest.version, f"{now:%Y%m%dT%H%M%S.%fZ}", text=text + "\n", json=report.model_dump_json(indent=1)
    )
    return report
