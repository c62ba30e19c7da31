"""Rendering of the model card: one self-contained HTML page per version, for doctors and data scientists.

Its headings are the items of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378). It has no script, no URL that a browser
would fetch, and one `<style>`, so that it can be served under a Content-Security-Policy that allows nothing else.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.artifacts.bundle import Manifest
from training.card import charts
from training.evaluation.subgroups import UNKNOWN
from training.stage_files import Build, Interval, Metrics

_TEMPLATE = Path(__file__).with_suffix(".html")
_SHADES = (0.005, 0.1, 0.3, 0.6)
"""Least shares of its row from which a cell of the confusion matrix gets the next darker shade."""
_NUMBER = r"(?:(?<![\d.])-)?[\d.]+(?:e[-+]?\d+)?"
"""An end of a band, without the hyphen between two ends."""
_NARROW = "\N{NARROW NO-BREAK SPACE}"


_SHARES_OF_CASES = ("accuracy", "recall.", "precision.", "coverage", "conclusive")
"""Figures that are a number of cases, divided by the number of all cases that they are computed from."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure as the card shows it. Without an interval there are few cases: `counted` is then "2 de 3", or None."""

    value: float
    interval: Interval | None
    counted: str | None


def render(build: Build, manifest: Manifest) -> bytes:
    """Return the card of the version that `manifest` describes, which was made from `build`, as UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": share,
        "number": number,
        "whole": whole,
        "band": band,
        "shade": shade,
    }
    template = environment.get_template(_TEMPLATE.name)
    return template.render(**_facts(build, manifest)).encode()


def share(value: float) -> str:
    """Return a share as a percentage, in Spanish."""
    return number(100 * value, 1) + f"{_NARROW}%"


def number(value: float, digits: int = 3) -> str:
    """Return a number with `digits` after the decimal comma, with a typographic minus sign; zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace(".", ",").replace("-", "\N{MINUS SIGN}")


def whole(value: float) -> str:
    """Return a count with its thousands separated."""
    return f"{value:,.0f}".replace(",", _NARROW)


def band(group: str, kind: str) -> str:
    """Return the Spanish name of a `group` of `training.evaluation.subgroups`, of a feature of this `kind`."""
    if group == UNKNOWN:
        return "no consta"
    if kind == "choice":
        return group
    ends = [end.replace(".", ",").replace("-", "\N{MINUS SIGN}") for end in re.findall(_NUMBER, group)]
    if group.startswith("<"):
        return f"menos de {ends[0]}"
    return f"{ends[0]} o más" if group.startswith(">=") else f"de {ends[0]} a menos de {ends[1]}"


def shade(count: int, total: int) -> str:
    """Return the CSS class of a cell of the confusion matrix, by its share of its row."""
    return f"s{sum(count > 0 and count / total >= least for least in _SHADES)}"


def _facts(build: Build, manifest: Manifest) -> dict[str, Any]:
    preparation, metrics = build.preparation, build.metrics
    rule = metrics.rule
    return {
        **{field.name: getattr(build, field.name) for field in fields(build)},
        "manifest": manifest,
        "disease": preparation.disease,
        "about": preparation.disease.about,
        "labels": {diagnosis.code: diagnosis.label for diagnosis in preparation.disease.diagnoses},
        "features": {feature.name: feature for feature in preparation.features},
        "commonest": _commonest(build),
        "scale": _scale(metrics),
        "bar": charts.interval_bar,
        "calibration": charts.calibration(metrics.calibration, least=build.parameters.subgroups.least_cases),
        "estimate": lambda name: _estimate(metrics.figures, metrics.intervals, name, metrics.cases_of),
        "rule_estimate": lambda name: rule and _estimate(rule.figures, rule.intervals, name),
        "gain_estimate": lambda name: rule and _estimate(rule.gain, rule.gain_intervals, name),
        "group_estimate": lambda group, name: _estimate(group.figures, group.intervals, name),
    }


def _estimate(
    figures: Mapping[str, float],
    intervals: Mapping[str, Interval],
    name: str,
    cases_of: Callable[[str], int] | None = None,
) -> Estimate | None:
    """Return a figure with its interval, or None if it was left out; `cases_of` returns its number of cases."""
    if name not in figures:
        return None
    value, counted = figures[name], None
    if cases_of is not None and name.startswith(_SHARES_OF_CASES):
        counted = f"{whole(round(value * cases_of(name)))} de {whole(cases_of(name))}"
    return Estimate(value, intervals.get(name), counted)


def _scale(metrics: Metrics) -> float:
    """Return the lower end of the scale of the interval bars: the tenth below the lowest interval."""
    kinds = ("accuracy", "balanced_accuracy", "recall.", "coverage")
    groups = [metrics.intervals, *(group.intervals for group in metrics.subgroups)]
    ends = [ends[0] for intervals in groups for name, ends in intervals.items() if name.startswith(kinds)]
    lowest = min(ends, default=1.0)
    return min(math.floor(10 * lowest) / 10, 0.9)


def _commonest(build: Build) -> dict[str, Any]:
    """Return the figures of a constant answer: the commonest class of the training cases."""
    code = max(build.training.prevalence, key=build.training.prevalence.__getitem__)
    counts = build.population.reported.class_cases
    return {
        "code": code,
        "accuracy": counts[code] / sum(counts.values()),
        "balanced_accuracy": (counts[code] > 0) / sum(count > 0 for count in counts.values()),
    }
