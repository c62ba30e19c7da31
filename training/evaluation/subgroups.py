"""Figures per group of patients: every option of a choice, and the bands of measurements that `params.yaml` names.

Each group has the figures of `FIGURES` and the recall of every class, with bootstrap intervals over its own cases.
With fewer than `subgroups.least_cases` cases, in the group or of a class in it, the figure is left out: it would show
chance only. A calibration error grows by chance as a group gets smaller; `overconfidence` does not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from shared.patient import Feature
from training.config import Subgroups
from training.data.cases import Cases, Labels, Mask, Rows
from training.stage_files import Interval, Subgroup

UNKNOWN = "unknown"
"""The group of cases without the feature."""
FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "expected_calibration_error",
    "overconfidence",
    "coverage",
    "conclusive",
)
"""The figures of a group, besides `recall.C`."""


def subgroups(
    cases: Cases,
    classes: Sequence[str],
    features: Sequence[Feature],
    settings: Subgroups,
    estimate: Callable[[Mask], tuple[Mapping[str, float], Mapping[str, Interval]]],
) -> list[Subgroup]:
    """Describe every group of `cases`; `estimate` returns all figures of the cases in a mask, and their intervals."""
    described = []
    for feature, group, inside in _groups(cases.rows, features, settings):
        labels = cases.labels[inside]
        names = _figure_names(labels, classes, settings.least_cases)
        values, intervals = estimate(inside) if names else ({}, {})
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        described.append(
            Subgroup(
                feature=feature,
                group=group,
                cases=len(labels),
                class_cases=dict(zip(classes, counts, strict=True)),
                figures={name: values[name] for name in names if name in values},
                intervals={name: intervals[name] for name in names if name in intervals},
            )
        )
    return described


def _figure_names(labels: Labels, classes: Sequence[str], least: int) -> list[str]:
    if len(labels) < least:
        return []
    enough = np.bincount(labels, minlength=len(classes)) >= least
    return [*FIGURES, *(f"recall.{code}" for code, is_enough in zip(classes, enough, strict=True) if is_enough)]


def _groups(rows: Rows, features: Sequence[Feature], settings: Subgroups) -> Iterator[tuple[str, str, Mask]]:
    for column, feature in enumerate(features):
        values = rows[:, column]
        if feature.kind == "choice":
            yield from ((feature.name, option, values == index) for index, option in enumerate(feature.choices))
        elif feature.name in settings.bands:
            ends = [-np.inf, *settings.bands[feature.name], np.inf]
            for low, high in pairwise(ends):
                yield feature.name, _band(low, high), (values >= low) & (values < high)
        else:
            continue
        if np.isnan(values).any():
            yield feature.name, UNKNOWN, np.isnan(values)


def _band(low: float, high: float) -> str:
    if np.isinf(low):
        return f"<{high:g}"
    return f">={low:g}" if np.isinf(high) else f"{low:g}-{high:g}"
