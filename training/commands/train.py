"""`python -m training train`: choose and calibrate the model on folds, then fit it on all training cases."""

import argparse
import pickle
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier

from training.config import Parameters, read_parameters
from training.context import TrainingContext
from training.data import distribution
from training.data.cases import Cases, Floats, decimal, read_cases
from training.data.splitting import Fold, check_dates, check_enough, folds, reported
from training.evaluation.metrics import figures
from training.model import boosting, conformal
from training.stage_files import CASES, MODEL, Candidate, Preparation, Training
from training.stage_runner import log_line


def train(
    cases: Cases, classes: Sequence[str], parameters: Parameters
) -> tuple[HistGradientBoostingClassifier, list[Candidate], Candidate]:
    """Choose, calibrate and fit on the training `cases`; return the model, the candidates and the chosen one.

    Raises:
        DataError: there are too few cases for the folds.

    """
    check_dates(cases, parameters.model.recency_half_life_months)
    check_enough(cases, classes, parameters.choice.folds)
    parts = folds(cases, parameters.split, parameters.choice.folds, parameters.model.seed)
    candidates = []
    powers = parameters.choice.class_weight_powers
    for number, power in enumerate(powers, start=1):
        candidate = _validated(power, cases, classes, parts, parameters)
        on_folds = candidate.figures
        log_line(
            "train",
            f"candidate {number} of {len(powers)}, class weights to the power {power:g}: "
            f"accuracy {on_folds['accuracy']:.3f}, balanced {on_folds['balanced_accuracy']:.3f} on the folds",
        )
        candidates.append(candidate)
    chosen = max(candidates, key=lambda candidate: candidate.score)
    members = boosting.fit(cases, chosen.class_weight_power, parameters.model)
    return boosting.merge(members, chosen.temperature), candidates, chosen


def main(_: argparse.Namespace, __: TrainingContext) -> str:
    """Run the stage; return its summary."""
    parameters, preparation = read_parameters(), Preparation.read()
    cases = read_cases(CASES, preparation.classes)
    later = reported(cases, parameters.split)
    training = cases.where(~later)
    model, candidates, chosen = train(training, preparation.classes, parameters)
    shares = np.bincount(training.labels, minlength=len(preparation.classes)) / len(training)
    prevalence = {code: round(float(share), 6) for code, share in zip(preparation.classes, shares, strict=True)}
    report = Training(
        cases=len(training),
        reported_cases=int(later.sum()),
        chosen=chosen,
        candidates=candidates,
        prevalence=prevalence,
        low_prevalence=[code for code, share in prevalence.items() if share < parameters.low_prevalence],
        training_ranges=_ranges(training, preparation.columns, preparation.measured),
        never_missing=_never_missing(training, preparation.columns),
        reference=distribution.describe(training.rows, preparation.columns, chosen.answers),
    )
    MODEL.write_bytes(pickle.dumps(model, protocol=5))
    report.write()
    return (
        f"{len(training):,} cases; class weights to the power {chosen.class_weight_power:g}, "
        f"temperature {chosen.temperature:.2f}, plausible from {chosen.plausible_at:.3f}, "
        f"{MODEL.stat().st_size / 1e6:.1f} MB"
    )


def _validated(
    power: float, cases: Cases, classes: Sequence[str], parts: list[Fold], parameters: Parameters
) -> Candidate:
    scores, labels, latest = [], [], []
    for part in parts:
        members = boosting.fit(cases.where(part.fit), power, parameters.model)
        validation = cases.where(part.validate)
        scores.append(boosting.log_scores(members, validation.rows, len(classes)))
        labels.append(validation.labels)
        latest.append(np.full(len(validation), part.latest))
    all_scores, all_labels, recent = np.concatenate(scores), np.concatenate(labels), np.concatenate(latest)
    temperature = boosting.best_temperature(all_scores[recent], all_labels[recent])
    probabilities = boosting.in_float32(softmax(all_scores / temperature, axis=1))
    plausible_at = conformal.threshold(probabilities[recent], all_labels[recent], parameters.conformal.level)
    on_folds = figures(probabilities, all_labels, classes, parameters.evaluation.calibration_bins)
    score = round((on_folds["accuracy"] + on_folds["balanced_accuracy"]) / 2, 6)
    return Candidate(
        class_weight_power=power,
        temperature=temperature,
        plausible_at=plausible_at,
        score=score,
        figures=on_folds,
        answers=_answers(probabilities, classes),
    )


def _answers(probabilities: Floats, classes: Sequence[str]) -> dict[str, float]:
    """Return the share of each class among the answers."""
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(classes))
    return dict(zip(classes, distribution.shares(counts), strict=True))


def _ranges(training: Cases, columns: Sequence[str], measured: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the least and greatest training value of each measurement that has one."""
    ranges = {}
    for column in measured:
        values = training.rows[:, columns.index(column)]
        if len(values := values[~np.isnan(values)]):
            ranges[column] = (decimal(values.min()), decimal(values.max()))
    return ranges


def _never_missing(training: Cases, columns: Sequence[str]) -> list[str]:
    """Return the columns that have a value in every case: the model did not learn from their absence."""
    return [column for index, column in enumerate(columns) if not np.isnan(training.rows[:, index]).any()]
