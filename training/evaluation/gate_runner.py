"""Gate runner: runs a version's gates on the reported cases of `var/pipeline`, which its own model answers."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import ValidationError

from shared.artifacts.bundle import Bundle, Manifest
from training.config import Parameters, TimeSplit, read_parameters
from training.data.cases import Cases, Floats, Mask, read_cases
from training.data.splitting import reported
from training.errors import DataError
from training.evaluation.comparison import compare
from training.evaluation.gates import (
    GateReport,
    Verdict,
    check_data_checks,
    check_figures,
    check_latency,
    check_subgroups,
)
from training.evaluation.metrics import figures
from training.evaluation.subgroups import subgroups
from training.model.latency import measure_latency
from training.model.predictor import load_predictor
from training.stage_files import CASES, Checks, Preparation, Subgroup


@dataclass(frozen=True, slots=True)
class GateRunner:
    """The reported cases, with the parameters and the data checks that the gates use."""

    parameters: Parameters
    preparation: Preparation
    checks: Checks
    cases: Cases

    @classmethod
    def from_pipeline(cls) -> Self:
        """Read the files of the pipeline in the current folder.

        Raises:
            DataError: it has not run here.

        """
        parameters = read_parameters()
        try:
            preparation = Preparation.read()
            checks, cases = Checks.read(), read_cases(CASES, preparation.classes)
        except FileNotFoundError as error:
            message = f"{error.filename}: not there; `make train` in this disease's folder writes these cases"
            raise DataError(message) from None
        except ValidationError:
            message = f"{CASES.parent}: written by another release; `make train` writes them again"
            raise DataError(message) from None
        return cls(parameters, preparation, checks, cases.where(reported(cases, parameters.split)))

    def run(self, candidate: Bundle, production: Bundle | None, *, unusable: str | None = None) -> GateReport:
        """Run the gates on `candidate` and compare it with `production`, unless both are the same bundle.

        `unusable` is the reason why the version in production cannot be opened, for the report.
        """
        manifest = candidate.manifest
        predict = load_predictor(candidate)
        probabilities = predict(self.cases.rows)
        values = self._figures(probabilities, np.ones(len(self.cases), dtype=np.bool_))
        verdicts = [
            self._check_provenance(manifest),
            check_data_checks(self.checks, self.preparation.data_hash),
            *check_figures(values, manifest.parity, self.parameters.gates),
            *check_subgroups(self._subgroups(probabilities), self.parameters.gates),
            *check_latency(measure_latency(predict, self.cases.rows), self.parameters.gates),
        ]
        remarks = [f"not compared with production: {unusable}"] if unusable else []
        if production is not None and production.digest != candidate.digest:
            comparison = self._compare(production, probabilities, manifest)
            if isinstance(comparison, str):
                remarks.append(f"not compared with version {production.manifest.version}: {comparison}")
            else:
                verdicts += comparison
        return GateReport(
            version=manifest.version,
            data_hash=self.preparation.data_hash,
            cases=len(self.cases),
            production=production.manifest.version if production is not None else None,
            verdicts=verdicts,
            remarks=remarks,
        )

    def _figures(self, probabilities: Floats, chosen: Mask) -> dict[str, float]:
        bins, classes = self.parameters.evaluation.calibration_bins, self.preparation.classes
        return figures(probabilities[chosen], self.cases.labels[chosen], classes, bins)

    def _subgroups(self, probabilities: Floats) -> list[Subgroup]:
        return subgroups(
            self.cases,
            self.preparation.classes,
            self.preparation.features,
            self.parameters.subgroups,
            lambda inside: (self._figures(probabilities, inside), {}),
        )

    def _check_provenance(self, manifest: Manifest) -> Verdict:
        """Check that the model was trained on these data and this split: else reported cases may be training cases."""
        same = manifest.data_hash == self.preparation.data_hash and self._has_same_split(manifest)
        remark = "" if same else f"trained on data {manifest.data_hash[:12]} or another split: it may know these cases"
        return Verdict(gate="same_data", figure=float(same), rule=">=", bound=1, passed=same, remark=remark)

    def _has_same_split(self, manifest: Manifest) -> bool:
        split = {f"split.{key}": value for key, value in self.parameters.split.model_dump(mode="json").items()}
        return split == {key: value for key, value in manifest.parameters.items() if key.startswith("split.")}

    def _compare(self, production: Bundle, probabilities: Floats, candidate: Manifest) -> list[Verdict] | str:
        """Compare on the cases that neither model was trained on; return a reason if there are none."""
        manifest = production.manifest
        unseen = self._unseen_by(manifest)
        if unseen is None:
            return "it was trained on other data or another split, and may know these cases"
        cases = self.cases.where(unseen)
        if len(cases) == 0:
            return "it was trained on all of these cases"
        return compare(
            probabilities[unseen],
            load_predictor(production)(cases.rows),
            cases.labels,
            manifest.classes,
            candidate.low_prevalence,
            self.parameters.evaluation,
        )

    def _unseen_by(self, manifest: Manifest) -> Mask | None:
        """Mark the cases that the model of `manifest` was not trained on; None if that cannot be known."""
        if manifest.data_hash == self.preparation.data_hash and self._has_same_split(manifest):
            return np.ones(len(self.cases), dtype=np.bool_)
        if isinstance(self.parameters.split, TimeSplit) and manifest.parameters.get("split.method") == "time":
            days = self.cases.days
            return None if days is None else days >= np.datetime64(manifest.parameters["split.date"])
        return None
