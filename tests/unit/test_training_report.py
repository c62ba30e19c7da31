"""The evaluation report: which figures get an interval."""

import dataclasses

import numpy as np

from tests.support.builds import good_build, version_of
from tests.support.training_cases import CLASSES, small_parameters
from training.card.render import render
from training.data.cases import Cases
from training.evaluation.report import report
from training.stage_files import Metrics

COUNTS = (40, 30, 2)
"""Cases of each class; `small_parameters` gives no figure of fewer than 10."""


def reported(counts: tuple[int, ...] = COUNTS) -> Metrics:
    """Report on made-up answers: three cases get the last class, of which two are right; the rule answers it twice."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    answers = labels.copy()
    answers[0] = 2
    probabilities = np.full((len(labels), len(counts)), 0.05)
    probabilities[np.arange(len(labels)), answers] = 0.9
    cases = Cases(np.zeros((len(labels), 4), dtype=np.float32), labels, None)
    return report(probabilities, cases, good_build().preparation, 0.5, small_parameters(), by_rule=labels)


def test_a_figure_of_two_cases_has_no_interval() -> None:
    metrics, code = reported(), CLASSES[2]
    few = {f"{kind}.{code}" for kind in ("recall", "precision", "f1", "average_precision", "roc_auc", "coverage")}
    assert few <= set(metrics.figures)
    assert set(metrics.figures) - set(metrics.intervals) == few
    assert [metrics.cases_of(name) for name in (f"recall.{code}", f"precision.{code}", "accuracy")] == [2, 3, 72]
    rule = metrics.rule
    assert rule is not None
    assert set(rule.figures) - set(rule.intervals) == {f"recall.{code}", f"precision.{code}"}
    assert set(rule.gain) - set(rule.gain_intervals) == {f"recall.{code}", f"precision.{code}"}


def test_the_card_can_be_rendered_when_no_figure_has_an_interval() -> None:
    metrics = reported((3, 2, 2))
    assert metrics.intervals == {}
    build = dataclasses.replace(good_build(), metrics=metrics)
    words = render(build, version_of(build)).decode()
    assert "6 de 7" in words
    assert "muy pocos para un intervalo" in words
