"""Made-up cases that train in a second: the first two columns separate three classes, with a little noise."""

import numpy as np

from training.config import (
    Choice,
    ConformalRule,
    DataLimits,
    Evaluation,
    Gates,
    LatencyGate,
    Leakage,
    ModelParameters,
    Parameters,
    ParityRule,
    RandomSplit,
    SubgroupGate,
    Subgroups,
    TimeSplit,
)
from training.data.cases import Cases

CLASSES = ("sano", "enfermo", "grave")


def made_up_cases(count: int = 400, *, classes: int = 3, dated: bool = True, seed: int = 0) -> Cases:
    """`count` cases of `classes` classes, a day apart; later classes are rarer."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.55, count) - 1, classes - 1).astype(np.int64)
    rows = rng.normal(size=(count, 4)).astype(np.float32)
    rows[:, 0] += 3 * labels
    rows[:, 1] -= 2 * (labels == 1)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    days = np.datetime64("2020-01-01") + np.arange(count) if dated else None
    return Cases(rows, labels, days)


def small_parameters(*, split: str = "time") -> Parameters:
    """Parameters that train in a second."""
    by_time = TimeSplit.model_validate({"method": "time", "date": "2020-10-01"})
    return Parameters(
        split=by_time if split == "time" else RandomSplit(method="random", test_share=0.25, seed=0),
        checks=DataLimits(
            least_cases=50,
            missing=0.2,
            missing_by_column={},
            class_share=0.05,
            class_cases=10,
            repeated=0.0,
            shared=0.0,
            leakage=Leakage(all_classes=0.95, one_class=0.99),
        ),
        model=ModelParameters(
            max_iter=8,
            learning_rate=0.3,
            max_leaf_nodes=6,
            min_samples_leaf=3,
            l2_regularization=0.0,
            max_features=0.7,
            members=2,
            recency_half_life_months=12 if split == "time" else None,
            seed=0,
        ),
        choice=Choice(folds=2, class_weight_powers=[0.0, 0.5]),
        conformal=ConformalRule(level=0.9),
        low_prevalence=0.2,
        evaluation=Evaluation(calibration_bins=10, bootstrap_resamples=100, seed=0),
        subgroups=Subgroups(least_cases=10, bands={"a": [0.0, 2.0]}),
        parity=ParityRule(tolerance=1e-5),
        gates=Gates(
            accuracy=0.7,
            balanced_accuracy=0.6,
            average_precision={"enfermo": 0.3},
            recall={"grave": 0.1},
            expected_calibration_error=0.2,
            onnx_parity=True,
            latency=LatencyGate(one_row_p99_ms=1000.0, row_in_batch_us=100_000.0),
            subgroups=SubgroupGate(least_cases=20, accuracy=0.4, balanced_accuracy=0.3),
        ),
    )
