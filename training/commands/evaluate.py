"""`python -m training evaluate`: compute the figures of the reported cases, and compare ONNX with the pickle."""

import argparse
import pickle

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from shared.artifacts.bundle import LARGEST_FILE, Golden
from shared.files import read_regular
from training.config import read_parameters
from training.context import TrainingContext
from training.data.cases import Floats, Rows, decimal, read_cases, read_rule
from training.data.population import describe
from training.data.splitting import reported
from training.evaluation.plots import draw_all
from training.evaluation.report import report
from training.model.boosting import in_float32, predict
from training.model.onnx import boundary_rows, convert, golden_rows, parity
from training.stage_files import CASES, MODEL, ONNX, PLOTS, Preparation, Proof, Training
from training.stage_runner import log_line


def prove(model: HistGradientBoostingClassifier, onnx: bytes, rows: Rows, tolerance: float, *, seed: int) -> Proof:
    """Compare `onnx` with `model` on `rows`, on rows around every threshold, and on the golden rows."""
    golden = golden_rows(rows, seed)
    everything = np.concatenate([rows, boundary_rows(model, rows, seed), golden])
    return Proof(
        parity=parity(model, onnx, everything, tolerance),
        golden=Golden(
            rows=[[None if np.isnan(value) else float(value) for value in row] for row in golden],
            probabilities=[[decimal(p) for p in row] for row in predict(model, golden).astype(np.float32)],
        ),
    )


def main(_: argparse.Namespace, __: TrainingContext) -> str:
    """Run the stage; return its summary."""
    parameters, preparation = read_parameters(), Preparation.read()
    parameters.check_names(preparation.classes, preparation.features)
    cases = read_cases(CASES, preparation.classes)
    later = reported(cases, parameters.split)
    test, training = cases.where(later), cases.where(~later)
    model: HistGradientBoostingClassifier = pickle.loads(read_regular(MODEL, LARGEST_FILE))  # noqa: S301 - written by the stage before
    probabilities: Floats = in_float32(predict(model, test.rows))
    settings, classes = parameters.evaluation, preparation.classes
    rule, plausible_at = read_rule(CASES, classes), Training.read().chosen.plausible_at
    by_rule = None if rule is None else rule[later]
    metrics = report(probabilities, test, preparation, plausible_at, parameters, by_rule=by_rule)
    log_line("evaluate", "comparing ONNX with the pickle")
    onnx = convert(model)
    proof = prove(model, onnx, training.rows, parameters.parity.tolerance, seed=settings.seed)
    draw_all(PLOTS, probabilities, test.labels, classes, settings.calibration_bins)
    ONNX.write_bytes(onnx)
    describe(training, test, preparation, least=parameters.subgroups.least_cases).write()
    metrics.write()
    proof.write()
    results, equal = metrics.figures, "equals" if proof.parity.passed else "DIFFERS FROM"
    return (
        f"{len(test):,} cases kept from training: accuracy {results['accuracy']:.3f}, "
        f"balanced {results['balanced_accuracy']:.3f}, coverage {results['coverage']:.3f}; "
        f"ONNX {equal} the pickle on {proof.parity.rows:,} rows"
    )
