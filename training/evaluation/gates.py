"""What a model must reach before it serves: each gate a bound and a verdict, together a report.

Absolute gates hold figures of the reported cases, parity and latency against `gates` in params.yaml. Relative ones ask
that nothing is worse than the model in production has it, by more than chance, on the same cases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from training.evaluation.metrics import LOWER_IS_BETTER
from training.stage_files import Interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from shared.artifacts.bundle import Parity
    from training.config import Gates
    from training.evaluation.comparison import Difference
    from training.model.latency import Latency
    from training.stage_files import Checks, Subgroup


class Verdict(BaseModel):
    """One gate: the figure found (None if the reported cases cannot give it), and the bound it must keep.

    In a comparison the figure is the difference from production, and the end of its interval on the better side is what
    must keep to the bound.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    gate: str
    figure: float | None
    rule: Literal[">=", "<="]
    bound: float
    passed: bool
    interval: Interval | None = None
    remark: str = ""


class Report(BaseModel):
    """The verdicts on one version: on which cases they rest, and with which production it was compared."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    version: str
    data_hash: str
    cases: int
    production: str | None
    verdicts: list[Verdict]
    remarks: list[str]

    @property
    def failed(self) -> list[str]:
        """Name the gates that are not passed."""
        return [verdict.gate for verdict in self.verdicts if not verdict.passed]

    def text(self) -> str:
        """Show it to a person, a line for each gate and remark."""
        against = f"; against version {self.production}, in production" if self.production else ""
        head = f"version {self.version} on {self.cases:,} cases of data {self.data_hash[:12]}{against}"
        return "\n".join([head, *table(self.verdicts), *self.remarks])


def judge(figures: Mapping[str, float], parity: Parity, gates: Gates) -> list[Verdict]:
    """Hold the figures of the reported cases against `gates`. A figure that is missing does not pass."""
    verdicts = [
        *(_at_least(gate, figures.get(gate), floor) for gate, floor in _floors(gates).items()),
        at_most(
            "expected_calibration_error", figures.get("expected_calibration_error"), gates.expected_calibration_error
        ),
    ]
    if gates.onnx_parity:
        flips = f"{parity.label_flips} answers change" if parity.label_flips else ""
        verdict = at_most("onnx_parity", parity.max_abs_difference, parity.tolerance)
        verdicts.append(verdict.model_copy(update={"passed": parity.passed, "remark": flips}))
    return verdicts


def judge_latency(latency: Latency, gates: Gates) -> list[Verdict]:
    """Hold the times that the model takes against their ceilings."""
    return [
        at_most("latency.one_row_p99_ms", latency.one_row_p99_ms, gates.latency.one_row_p99_ms),
        at_most("latency.row_in_batch_us", latency.row_in_batch_us, gates.latency.row_in_batch_us),
    ]


def judge_data(checks: Checks, data_hash: str) -> Verdict:
    """Pass data that all checks passed; names those that did not."""
    wrong = [finding.check for finding in checks.findings if not finding.passed]
    if checks.data_hash != data_hash:
        wrong = ["made on other data"]
    return at_most("data_checks", float(len(wrong)), 0).model_copy(update={"remark": ", ".join(wrong)})


def judge_subgroups(groups: Iterable[Subgroup], gates: Gates) -> list[Verdict]:
    """Hold each group that is large enough against the floors for groups."""
    rule = gates.subgroups
    verdicts = []
    for group in groups:
        if group.cases >= rule.least_cases:
            name = f"subgroups.{group.feature}.{group.group}"
            verdicts += [
                _at_least(f"{name}.{figure}", group.figures.get(figure), floor)
                for figure, floor in (("accuracy", rule.accuracy), ("balanced_accuracy", rule.balanced_accuracy))
            ]
    return verdicts


def judge_differences(differences: Iterable[Difference]) -> list[Verdict]:
    """Pass what is not worse than production: only a difference beyond chance counts."""
    return [
        Verdict(
            gate=f"production.{found.figure}",
            figure=found.value,
            rule="<=" if found.figure in LOWER_IS_BETTER else ">=",
            bound=0,
            passed=found.outcome != "worse",
            interval=found.interval,
            remark=f"{found.outcome}, 95 % interval {found.interval[0]:+.4f} to {found.interval[1]:+.4f}",
        )
        for found in differences
    ]


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Show the verdicts to a person, a line each."""
    width = max(len(verdict.gate) for verdict in verdicts)
    return [
        f"{'passed' if verdict.passed else 'FAILED'}  {verdict.gate:<{width}}  {_shown(verdict)}"
        + (f"  ({verdict.remark})" if verdict.remark else "")
        for verdict in verdicts
    ]


def at_most(gate: str, figure: float | None, ceiling: float) -> Verdict:
    """Judge a figure that must not exceed `ceiling`."""
    return Verdict(gate=gate, figure=figure, rule="<=", bound=ceiling, passed=figure is not None and figure <= ceiling)


def _floors(gates: Gates) -> dict[str, float]:
    return {
        "accuracy": gates.accuracy,
        "balanced_accuracy": gates.balanced_accuracy,
        **{f"average_precision.{code}": floor for code, floor in gates.average_precision.items()},
        **{f"recall.{code}": floor for code, floor in gates.recall.items()},
    }


def _at_least(gate: str, figure: float | None, floor: float) -> Verdict:
    return Verdict(gate=gate, figure=figure, rule=">=", bound=floor, passed=figure is not None and figure >= floor)


def _shown(verdict: Verdict) -> str:
    if verdict.interval is not None and verdict.figure is not None:
        return f"{verdict.figure:>+9.4f}"
    figure = "no cases" if verdict.figure is None else f"{verdict.figure:.4g}"
    return f"{figure:>9} {verdict.rule} {verdict.bound:g}"
