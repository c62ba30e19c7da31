"""Population: a description of the training cases and of the reported cases."""

from collections.abc import Sequence

import numpy as np

from shared.patient import Feature
from training.data.cases import Cases, Floats
from training.stage_files import Period, Population, Preparation

_QUARTERS = (25, 50, 75)


def describe(training: Cases, reported: Cases, preparation: Preparation, *, least: int) -> Population:
    """Describe both sets of cases. A feature with fewer than `least` values in a set has no distribution there."""
    classes, features = preparation.classes, preparation.features
    return Population(
        training=_period(training, classes, features, least), reported=_period(reported, classes, features, least)
    )


def _period(cases: Cases, classes: Sequence[str], features: Sequence[Feature], least: int) -> Period:
    counts = np.bincount(cases.labels, minlength=len(classes)).tolist()
    missing, quartiles, shares = {}, {}, {}
    for feature, column in zip(features, cases.rows.T, strict=True):
        present = column[~np.isnan(column)].astype(np.float64)
        missing[feature.name] = round(1 - len(present) / len(column), 6)
        if len(present) < max(least, 1):
            continue
        if feature.kind in {"flag", "choice"}:
            shares[feature.name] = _shares(present, feature.choices or ("no", "yes"))
        else:
            low, middle, high = (round(float(end), 4) for end in np.percentile(present, _QUARTERS))
            quartiles[feature.name] = (low, middle, high)
    return Period(
        cases=len(cases),
        first=None if cases.days is None else str(cases.days.min()),
        last=None if cases.days is None else str(cases.days.max()),
        class_cases=dict(zip(classes, counts, strict=True)),
        missing=missing,
        quartiles=quartiles,
        shares=shares,
    )


def _shares(values: Floats, options: Sequence[str]) -> dict[str, float]:
    return {option: round(float((values == index).mean()), 6) for index, option in enumerate(options)}
