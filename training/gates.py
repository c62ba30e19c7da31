"""What a model must reach before it serves: each gate one floor (or ceiling) and one verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.bundle import Parity
    from training.parameters import Gates


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate: the figure found (None if the reported cases cannot give it), and the bound it must keep."""

    gate: str
    figure: float | None
    rule: Literal[">=", "<="]
    bound: float
    passed: bool


def judge(figures: Mapping[str, float], parity: Parity, gates: Gates) -> list[Verdict]:
    """Hold the figures of the reported cases against `gates`. A figure that is missing does not pass."""
    verdicts = [
        _at_least("accuracy", figures, gates.accuracy),
        _at_least("balanced_accuracy", figures, gates.balanced_accuracy),
        *(_at_least(f"average_precision.{code}", figures, floor) for code, floor in gates.average_precision.items()),
        *(_at_least(f"recall.{code}", figures, floor) for code, floor in gates.recall.items()),
        _at_most("expected_calibration_error", figures, gates.expected_calibration_error),
    ]
    if gates.onnx_parity:
        verdicts.append(Verdict("onnx_parity", parity.max_abs_difference, "<=", parity.tolerance, passed=parity.passed))
    return verdicts


def failed(verdicts: Sequence[Verdict]) -> list[str]:
    """Name the gates that are not passed."""
    return [verdict.gate for verdict in verdicts if not verdict.passed]


def table(verdicts: Sequence[Verdict]) -> str:
    """Show the verdicts to a person, a line each."""
    width = max(len(verdict.gate) for verdict in verdicts)
    return "\n".join(
        f"{'passed' if verdict.passed else 'FAILED'}  {verdict.gate:<{width}}  "
        f"{'no cases' if verdict.figure is None else f'{verdict.figure:.4g}':>9} {verdict.rule} {verdict.bound:g}"
        for verdict in verdicts
    )


def _at_least(gate: str, figures: Mapping[str, float], floor: float) -> Verdict:
    figure = figures.get(gate)
    return Verdict(gate, figure, ">=", floor, passed=figure is not None and figure >= floor)


def _at_most(gate: str, figures: Mapping[str, float], ceiling: float) -> Verdict:
    figure = figures.get(gate)
    return Verdict(gate, figure, "<=", ceiling, passed=figure is not None and figure <= ceiling)
