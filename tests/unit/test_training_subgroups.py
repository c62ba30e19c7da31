from typing import ClassVar, Literal

import numpy as np
import pytest

from shared.patient import Diagnosis, Disease, Patient, choice, measure
from tests.support.training_cases import CLASSES, small_parameters
from training.data.cases import Cases, Floats
from training.evaluation.metrics import figures
from training.evaluation.report import report
from training.stage_files import Metrics, Preparation, Subgroup


class Member(Patient):
    """Alguien de un grupo."""

    disease: ClassVar[Disease] = Disease("grupos", "Grupos", tuple(Diagnosis(code, code) for code in CLASSES))

    edad: int | None = measure("Edad", unit="años", limits=(0, 120))
    sexo: Literal["F", "M"] | None = choice("Sexo")


AGES = [17, 18, 39, 40, None, 90]
SEXES = [0, 1, None]
PARAMETERS = small_parameters().model_copy(
    update={"subgroups": small_parameters().subgroups.model_copy(update={"bands": {"edad": [18.0, 40.0]}})}
)


def population(count: int = 180) -> tuple[Cases, Floats]:
    """Return equally many cases of each age and sex, and answers that are right where the sex is known."""
    rows = np.array([[AGES[n % 6], SEXES[n // 6 % 3]] for n in range(count)], dtype=np.float32)
    labels = np.where(np.arange(count) % 10 == 0, 2, np.arange(count) % 2).astype(np.int64)
    predicted = np.where(np.isnan(rows[:, 1]), 0, labels)
    return Cases(rows, labels, None), 0.7 * np.eye(3)[predicted] + 0.1


def reported(count: int = 180, *, rule: bool = False) -> Metrics:
    cases, probabilities = population(count)
    preparation = Preparation(
        name="grupos",
        patient_digest=Member.digest,
        data_hash="0" * 32,
        columns=list(Member.columns),
        measured=["edad"],
        classes=list(CLASSES),
        disease=Member.disease,
        features=list(Member.features),
        rows_read=count,
        discarded={},
        cases=dict.fromkeys(CLASSES, 0),
    )
    healthy = np.zeros(count, dtype=np.int64) if rule else None
    return report(probabilities, cases, preparation, 0.3, PARAMETERS, by_rule=healthy)


def group(metrics: Metrics, feature: str, name: str) -> Subgroup:
    [group] = [group for group in metrics.subgroups if (group.feature, group.group) == (feature, name)]
    return group


def test_every_case_is_in_one_band_and_one_option_or_known_to_be_unknown() -> None:
    count_values = {(one.feature, one.group): one.cases for one in reported().subgroups}
    assert count_values == {
        ("edad", "<18"): 30,
        ("edad", "18-40"): 60,  # a band includes its lower end
        ("edad", ">=40"): 60,
        ("edad", "unknown"): 30,
        ("sexo", "F"): 60,
        ("sexo", "M"): 60,
        ("sexo", "unknown"): 60,
    }


def test_a_groups_figures_are_those_of_its_own_cases() -> None:
    cases, probabilities = population()
    women, unknown = group(reported(), "sexo", "F"), group(reported(), "sexo", "unknown")
    inside = cases.rows[:, 1] == 0
    expected = figures(probabilities[inside], cases.labels[inside], CLASSES, 10)
    assert women.figures["accuracy"] == women.figures["recall.sano"] == 1
    assert women.figures["expected_calibration_error"] == expected["expected_calibration_error"]
    assert women.figures["overconfidence"] == pytest.approx(0.8 - 1)
    assert unknown.figures["accuracy"] == unknown.class_cases["sano"] / unknown.cases
    low, high = unknown.intervals["accuracy"]
    assert low < unknown.figures["accuracy"] < high
    assert set(women.intervals) == set(women.figures)


def test_few_cases_are_counted_without_figures() -> None:
    everyone = reported(54)
    young = group(everyone, "edad", "<18")
    assert (young.cases, young.figures, young.intervals) == (9, {}, {})
    women = group(everyone, "sexo", "F")
    assert women.class_cases["grave"] < 10
    assert "accuracy" in women.figures
    assert "recall.grave" not in women.figures


def test_the_report_counts_confusions_and_calibration() -> None:
    cases, _ = population()
    metrics = reported()
    assert metrics.confusion["sano"]["sano"] == (cases.labels == 0).sum()
    assert sum(sum(row.values()) for row in metrics.confusion.values()) == len(cases)
    assert [(one.confidence, one.cases) for one in metrics.calibration] == [(0.8, len(cases))]
    assert metrics.calibration[0].right == metrics.figures["accuracy"]


def test_a_rule_is_compared_with_the_model_on_the_same_cases() -> None:
    cases, _ = population()
    metrics = reported(rule=True)
    assert reported().rule is None
    assert metrics.rule is not None
    healthy = float((cases.labels == 0).mean())
    assert metrics.rule.answers == ["sano"]
    assert metrics.rule.figures["accuracy"] == pytest.approx(healthy, abs=1e-6)
    assert (metrics.rule.figures["recall.sano"], metrics.rule.figures["recall.grave"]) == (1, 0)
    assert metrics.rule.gain["accuracy"] == pytest.approx(metrics.figures["accuracy"] - healthy, abs=1e-6)
    low, high = metrics.rule.gain_intervals["accuracy"]
    assert 0 < low < metrics.rule.gain["accuracy"] < high
    wide = metrics.rule.intervals["accuracy"][1] - metrics.rule.intervals["accuracy"][0]
    assert high - low < wide + metrics.intervals["accuracy"][1] - metrics.intervals["accuracy"][0]  # paired, not apart
    assert "log_loss" not in metrics.rule.figures  # a rule gives no probabilities
