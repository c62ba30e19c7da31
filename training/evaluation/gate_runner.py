"""A version before its gates: its own model, asked the reported cases of `var/pipeline`, beside production's model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from training.config import Parameters, TimeSplit, read_parameters
from training.data.cases import Cases, read_cases
from training.data.splitting import reported
from training.errors import DataError
from training.evaluation.comparison import compared_figures, differences
from training.evaluation.gates import (
    Report,
    Verdict,
    judge,
    judge_data,
    judge_differences,
    judge_latency,
    judge_subgroups,
)
from training.evaluation.metrics import figures
from training.evaluation.subgroups import subgroups
from training.model.latency import measured
from training.model.predictor import served
from training.stage_files import CASES, Preparation, read_checks, read_preparation

if TYPE_CHECKING:
    from shared.artifacts.bundle import Bundle, Manifest
    from training.data.cases import Floats, Mask
    from training.stage_files import Checks, Subgroup


@dataclass(frozen=True, slots=True)
class GateRunner:
    """The reported cases, and by which parameters they are judged."""

    parameters: Parameters
    preparation: Preparation
    checks: Checks
    cases: Cases

    @classmethod
    def from_pipeline(cls) -> GateRunner:
        """Take the cases of the pipeline in the current folder.

        Raises:
            DataError: it has not run here.

        """
        parameters = read_parameters()
        try:
            preparation = read_preparation()
            checks, cases = read_checks(), read_cases(CASES, preparation.classes)
        except FileNotFoundError as error:
            message = f"{error.filename}: not there; `make train` in this disease's folder makes the cases to judge on"
            raise DataError(message) from None
        except ValidationError:
            message = f"{CASES.parent}: written by another release; `make train` makes the cases to judge on anew"
            raise DataError(message) from None
        return cls(parameters, preparation, checks, cases.where(reported(cases, parameters.split)))

    def report(self, candidate: Bundle, production: Bundle | None, *, refusal: str | None = None) -> Report:
        """Judge `candidate`, alone and against `production`, if that is another; `refusal`: why it cannot be asked."""
        manifest = candidate.manifest
        answer = served(candidate)
        probabilities = answer(self.cases.rows)
        found = self._figures(probabilities, np.ones(len(self.cases), dtype=np.bool_))
        verdicts = [
            self._provenance(manifest),
            judge_data(self.checks, self.preparation.data_hash),
            *judge(found, manifest.parity, self.parameters.gates),
            *judge_subgroups(self._groups(probabilities), self.parameters.gates),
            *judge_latency(measured(answer, self.cases.rows), self.parameters.gates),
        ]
        remarks = [f"not compared with production: {refusal}"] if refusal else []
        if production is not None and production.digest != candidate.digest:
            compared = self._against(production, probabilities, manifest)
            if isinstance(compared, str):
                remarks.append(f"not compared with version {production.manifest.version}: {compared}")
            else:
                verdicts += compared
        return Report(
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

    def _groups(self, probabilities: Floats) -> list[Subgroup]:
        return subgroups(
            self.cases,
            self.preparation.classes,
            self.preparation.features,
            self.parameters.subgroups,
            lambda inside: (self._figures(probabilities, inside), {}),
        )

    def _provenance(self, manifest: Manifest) -> Verdict:
        """Ask that it was made from these data, divided like this: else it may have learnt the reported cases."""
        same = manifest.data_hash == self.preparation.data_hash and self._divided_alike(manifest)
        remark = "" if same else f"made from data {manifest.data_hash[:12]} or another split: it may know these cases"
        return Verdict(gate="same_data", figure=float(same), rule=">=", bound=1, passed=same, remark=remark)

    def _divided_alike(self, manifest: Manifest) -> bool:
        ours = {f"split.{key}": value for key, value in self.parameters.split.model_dump(mode="json").items()}
        return ours == {key: value for key, value in manifest.parameters.items() if key.startswith("split.")}

    def _against(self, production: Bundle, probabilities: Floats, candidate: Manifest) -> list[Verdict] | str:
        """Compare on the cases that neither model learnt from, or say why that cannot be done."""
        theirs = production.manifest
        unseen = self._unseen_by(theirs)
        if unseen is None:
            return "it was made from other data or another split, and may know these cases"
        cases = self.cases.where(unseen)
        if len(cases) == 0:
            return "it learnt from all of these cases"
        names = compared_figures(candidate.low_prevalence)
        settings = self.parameters.evaluation
        return judge_differences(
            differences(
                probabilities[unseen], served(production)(cases.rows), cases.labels, theirs.classes, names, settings
            )
        )

    def _unseen_by(self, manifest: Manifest) -> Mask | None:
        if manifest.data_hash == self.preparation.data_hash and self._divided_alike(manifest):
            return np.ones(len(self.cases), dtype=np.bool_)
        if isinstance(self.parameters.split, TimeSplit) and manifest.parameters.get("split.method") == "time":
            days = self.cases.days
            return None if days is None else days >= np.datetime64(manifest.parameters["split.date"])
        return None
