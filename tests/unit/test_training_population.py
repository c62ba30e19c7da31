from typing import ClassVar, Literal

import numpy as np

from shared.patient import Diagnosis, Disease, Patient, choice, flag, measure
from training.data.cases import Cases
from training.data.population import describe
from training.stage_files import Preparation

NAN = float("nan")


class Participant(Patient):
    """Alguien de quien se sabe poco."""

    disease: ClassVar[Disease] = Disease("poco", "Poco", (Diagnosis("no", "No"), Diagnosis("si", "Sí")))

    peso: float | None = measure("Peso", unit="kg", limits=(1, 300))
    altura: float | None = measure("Altura", unit="cm", limits=(20, 250))
    sexo: Literal["F", "M"] | None = choice("Sexo")
    fuma: bool = flag("Fuma")


PREPARATION = Preparation(
    name="poco",
    patient_digest=Participant.digest,
    data_hash="0" * 32,
    columns=list(Participant.columns),
    measured=["peso", "altura"],
    classes=["no", "si"],
    disease=Participant.disease,
    features=list(Participant.features),
    rows_read=5,
    discarded={},
    cases={"no": 4, "si": 1},
)
ROWS = np.array(
    [[60, NAN, 0, 1], [70, NAN, 1, 0], [80, NAN, NAN, 0], [90, NAN, 0, 0], [NAN, NAN, 0, 1]], dtype=np.float32
)
DAYS = np.array(["2020-03-02", "2020-01-05", "2020-02-03", "2020-04-01", "2020-03-09"], dtype="datetime64[D]")
LATER = np.array([False, False, False, True, True])


def test_both_sets_are_described_by_their_own_cases() -> None:
    cases = Cases(ROWS, np.array([0, 1, 0, 0, 0]), DAYS)
    population = describe(cases.where(~LATER), cases.where(LATER), PREPARATION, least=1)
    training, reported = population.training, population.reported
    assert (training.cases, training.first, training.last) == (3, "2020-01-05", "2020-03-02")
    assert (training.class_cases, reported.class_cases) == ({"no": 2, "si": 1}, {"no": 2, "si": 0})
    assert training.missing == {"peso": 0, "altura": 1, "sexo": 0.333333, "fuma": 0}
    assert reported.missing["peso"] == 0.5
    assert training.quartiles == {"peso": (65, 70, 75)}
    assert reported.quartiles == {"peso": (90, 90, 90)}
    assert training.shares == {"sexo": {"F": 0.5, "M": 0.5}, "fuma": {"no": 0.666667, "yes": 0.333333}}


def test_cases_without_dates_have_no_period() -> None:
    cases = Cases(ROWS, np.array([0, 1, 0, 0, 0]), None)
    assert describe(cases, cases, PREPARATION, least=1).training.first is None


def test_a_feature_with_few_values_has_no_distribution() -> None:
    cases = Cases(ROWS, np.array([0, 1, 0, 0, 0]), None)
    period = describe(cases, cases, PREPARATION, least=5).training
    assert (period.quartiles, list(period.shares)) == ({}, ["fuma"])
    assert period.missing["peso"] == 0.2
