"""Gate runs: check a version against its gates and store the report with the version's run in the registry."""

import datetime as dt
from typing import TYPE_CHECKING

from shared.artifacts.bundle import Bundle
from shared.artifacts.store import ModelStore
from training.errors import PromotionError
from training.evaluation.gates import GateReport
from training.registry.promotion import available
from training.stage_runner import log_line

if TYPE_CHECKING:
    from training.registry.mlflow_registry import ModelRegistry


def run_gates(
    candidate: Bundle, production: str | None, model_registry: "ModelRegistry", model_store: ModelStore
) -> GateReport:
    """Run the gates on `candidate` and compare it with version `production`; print the report and store it.

    Raises:
        DataError: the pipeline has not run in this folder.
        RegistryError: the registry cannot be used.

    """
    from training.evaluation.gate_runner import GateRunner  # noqa: PLC0415 - scikit-learn: seconds, only after cheap checks

    served, unusable = None, None
    if production is not None:
        try:
            served = available(production, model_registry, model_store)
        except PromotionError as error:
            unusable = str(error)
    report = GateRunner.from_pipeline().run(candidate, served, unusable=unusable)
    text = report.text()
    for line in text.splitlines():
        log_line("gates", line)
    name = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}"
    json = report.model_dump_json(indent=1)
    model_registry.store_gate_report(candidate.manifest.version, name, text=text + "\n", json=json)
    return report
