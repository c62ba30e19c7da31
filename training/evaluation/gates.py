"""Gates: bounds that a model must keep before it serves. Each returns a verdict; the verdicts form a report.

Absolute gates check figures of the reported cases, parity and latency against `gates` in params.yaml. Relative gates
fail if a figure is worse than that of the model in production, by more than chance, on the same cases.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from shared.artifacts.bundle import Parity
from training.config import Gates
from training.model.latency import Latency
from training.stage_files import Checks, Interval, Record, Subgroup


class Verdict(Record):
    """Result of one gate: the figure (None if the reported cases do not give it) and the bound that it must keep.

    In a comparison the figure is the difference from production, and it fails only if its whole interval is beyond the
    bound.
    """

    gate: str
    figure: float | None
    rule: Literal[">=", "<="]
    bound: float
    passed: bool
    interval: Interval | None = None
    remark: str = ""


class GateReport(Record):
    """The verdicts on one version, the cases they were computed on, and the version it was compared with."""

    version: str
    data_hash: str
    cases: int
    production: str | None
    verdicts: list[Verdict]
    remarks: list[str]

    @property
    def failed(self) -> list[str]:
        """The gates that failed."""
        return [verdict.gate for verdict in self.verdicts if not verdict.passed]

    def text(self) -> str:
        """Return the report as text, one line for each gate and remark."""
        against = f"; compared with version {self.production} in production" if self.production else ""
        head = f"version {self.version} on {self.cases:,} cases of data {self.data_hash[:12]}{against}"
        return "\n".join([head, *table(self.verdicts), *self.remarks])


def check_figures(figures: Mapping[str, float], parity: Parity, gates: Gates) -> list[Verdict]:
    """Check the figures of the reported cases. A missing figure fails."""
    verdicts = [
        *(_at_least(gate, figures.get(gate), floor) for gate, floor in _floors(gates).items()),
        at_most(
            "expected_calibration_error", figures.get("expected_calibration_error"), gates.expected_calibration_error
        ),
    ]
    if gates.onnx_parity:
        flips = f"{parity.label_flips} answers differ" if parity.label_flips else ""
        verdict = at_most("onnx_parity", parity.max_abs_difference, parity.tolerance)
        verdicts.append(verdict.model_copy(update={"passed": parity.passed, "remark": flips}))
    return verdicts


def check_latency(latency: Latency, gates: Gates) -> list[Verdict]:
    """Check the latency of the model."""
    return [
        at_most("latency.one_row_p99_ms", latency.one_row_p99_ms, gates.latency.one_row_p99_ms),
        at_most("latency.row_in_batch_us", latency.row_in_batch_us, gates.latency.row_in_batch_us),
    ]


def check_data_checks(checks: Checks, data_hash: str) -> Verdict:
    """Check that all data checks passed, on the data with `data_hash`; the remark names those that failed."""
    failed = [result.check for result in checks.findings if not result.passed]
    if checks.data_hash != data_hash:
        failed = ["made on other data"]
    return at_most("data_checks", float(len(failed)), 0).model_copy(update={"remark": ", ".join(failed)})


def check_subgroups(groups: Iterable[Subgroup], gates: Gates) -> list[Verdict]:
    """Check each group with enough cases against the floors for groups."""
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


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the verdicts as text, one line each."""
    width = max(len(verdict.gate) for verdict in verdicts)
    return [
        f"{'passed' if verdict.passed else 'FAILED'}  {verdict.gate:<{width}}  {_figure_and_bound(verdict)}"
        + (f"  ({verdict.remark})" if verdict.remark else "")
        for verdict in verdicts
    ]


def at_most(gate: str, figure: float | None, ceiling: float) -> Verdict:
    """Return the verdict on a figure that must not exceed `ceiling`."""
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


def _figure_and_bound(verdict: Verdict) -> str:
    if verdict.interval is not None and verdict.figure is not None:
        return f"{verdict.figure:>+9.4f}"
    figure = "no cases" if verdict.figure is None else f"{verdict.figure:.4g}"
    return f"{figure:>9} {verdict.rule} {verdict.bound:g}"
