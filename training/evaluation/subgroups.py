"""How the model does for each kind of patient: every option of a choice, and bands of what `params.yaml` names.

Each group has the figures of `FIGURES` and the recall of every class, with bootstrap intervals over its own cases.
Where there are fewer than `subgroups.least_cases` cases, in the group or of a class in it, there is no figure at all:
chance would be all that it shows. A calibration error grows as a group gets smaller, by chance alone; `overconfidence`
does not.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from training.stage_files import Subgroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from shared.patient import Feature
    from training.config import Subgroups
    from training.data.cases import Cases, Labels, Mask, Rows
    from training.stage_files import Interval

UNKNOWN = "unknown"
"""The group of cases that lack the feature."""
FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "expected_calibration_error",
    "overconfidence",
    "coverage",
    "conclusive",
)
"""What is reported of a group, besides `recall.C`."""


def subgroups(
    cases: Cases,
    classes: Sequence[str],
    features: Sequence[Feature],
    settings: Subgroups,
    measure: Callable[[Mask], tuple[Mapping[str, float], Mapping[str, Interval]]],
) -> list[Subgroup]:
    """Describe every group of `cases`; `measure` gives all figures of the cases it is given, and their intervals."""
    found = []
    for feature, group, inside in _groups(cases.rows, features, settings):
        labels = cases.labels[inside]
        shown = _shown(labels, classes, settings.least_cases)
        values, intervals = measure(inside) if shown else ({}, {})
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        found.append(
            Subgroup(
                feature=feature,
                group=group,
                cases=len(labels),
                class_cases=dict(zip(classes, counts, strict=True)),
                figures={name: values[name] for name in shown if name in values},
                intervals={name: intervals[name] for name in shown if name in intervals},
            )
        )
    return found


def _shown(labels: Labels, classes: Sequence[str], least: int) -> list[str]:
    if len(labels) < least:
        return []
    enough = np.bincount(labels, minlength=len(classes)) >= least
    return [*FIGURES, *(f"recall.{code}" for code, known in zip(classes, enough, strict=True) if known)]


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
