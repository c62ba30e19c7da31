import math
from typing import Any

import pytest
from pydantic import ValidationError

from shared.diseases.thyroid import DatosPaciente

RAW = {
    "age": "47", "sex": "F", "on_thyroxine": "f", "query_on_thyroxine": "f", "on_antithyroid_medication": "f",
    "sick": "f", "pregnant": "f", "thyroid_surgery": "f", "I131_treatment": "f", "query_hypothyroid": "f",
    "query_hyperthyroid": "t", "lithium": "f", "goitre": "f", "tumor": "f", "hypopituitary": "f", "psych": "f",
    "TSH": "0.05", "T3": "4.1", "TT4": "210", "T4U": "0.9", "FTI": "", "TBG": "", "diagnosis": "A",
    "record_id": "860702012",
}  # fmt: skip


def patient(**values: Any) -> DatosPaciente:  # noqa: ANN401
    return DatosPaciente.model_validate({"edad": 47, "sexo": "F", "tsh": 1.0} | values)


def column(row: list[float], name: str) -> float:
    return row[DatosPaciente.columns.index(name)]


def test_a_row_is_encoded_in_column_order_with_nan_for_what_is_missing() -> None:
    row = patient(sexo="M", tsh=0.05, bocio=True).encode()
    assert len(row) == 21
    assert (column(row, "edad"), column(row, "sexo"), column(row, "tsh"), column(row, "bocio")) == (47, 1, 0.05, 1)
    assert math.isnan(column(row, "t3"))
    assert column(row, "litio") == 0
    assert math.isnan(column(patient(sexo=None).encode(), "sexo"))


def test_the_index_is_derived_only_if_it_is_missing_and_its_parts_are_not() -> None:
    assert column(patient(t4_total=100.0, captacion_t4=0.8).encode(), "indice_t4_libre") == 125
    given = patient(t4_total=100.0, captacion_t4=0.8, indice_t4_libre=90.0)
    assert column(given.encode(), "indice_t4_libre") == 90
    assert math.isnan(column(patient(t4_total=100.0).encode(), "indice_t4_libre"))


def test_remarks_on_a_contradictory_index_and_a_late_pregnancy() -> None:
    def codes(**values: Any) -> list[str]:  # noqa: ANN401
        return [remark.code for remark in patient(**values).remarks()]

    assert codes(t4_total=100.0, captacion_t4=1.0, indice_t4_libre=106.0) == ["indice_contradictorio"]
    assert codes(t4_total=100.0, captacion_t4=1.0, indice_t4_libre=104.0) == []
    assert codes(embarazo=True, edad=56) == ["embarazo_y_edad"]
    assert codes(embarazo=True, edad=55) == []


@pytest.mark.parametrize(
    ("values", "rule"),
    [({"tsh": None}, "sin_laboratorio"), ({"embarazo": True, "sexo": "M"}, "embarazo_y_sexo")],
)
def test_cross_field_rules_reject(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError) as caught:
        patient(**values)
    assert caught.value.errors()[0]["ctx"]["regla"] == rule


@pytest.mark.parametrize(
    ("comment", "diagnosis"),
    [
        ("-", "sin_alteracion"),
        ("GI", "hipotiroidismo"),
        ("D|R", "resultados_discordantes"),
        ("OI", "seguimiento_tratamiento"),
    ],
)
def test_the_laboratory_comment_gives_the_diagnosis(comment: str, diagnosis: str) -> None:
    assert DatosPaciente.from_row(RAW | {"diagnosis": comment}).diagnosis == diagnosis


def test_an_age_of_the_table_may_have_a_zero_behind_the_point() -> None:
    assert (
        DatosPaciente.from_row(RAW | {"age": "47.0"}).patient.encode() == DatosPaciente.from_row(RAW).patient.encode()
    )
    assert DatosPaciente.from_row(RAW | {"age": "455.0"}).patient.encode()[0] != 455
    with pytest.raises(ValidationError, match="edad"):
        DatosPaciente.from_row(RAW | {"age": "47.5"})


def test_a_raw_row_becomes_a_case() -> None:
    case = DatosPaciente.from_row(RAW)
    assert isinstance(case.patient, DatosPaciente)
    assert (case.patient.tsh, case.patient.t3, case.patient.indice_t4_libre) == (0.05, 4.1, None)
    assert case.patient.sospecha_hipertiroidismo
    assert case.date is not None
    assert case.date.isoformat() == "1986-07-02"


def test_an_absurd_age_is_unknown_and_the_other_values_stay() -> None:
    case = DatosPaciente.from_row(RAW | {"age": "65526"})
    assert isinstance(case.patient, DatosPaciente)
    assert case.patient.edad is None
    assert case.patient.tsh == 0.05


def test_an_unknown_letter_is_an_error_and_not_a_class() -> None:
    with pytest.raises(ValueError, match="unknown diagnosis letter"):
        DatosPaciente.from_row(RAW | {"diagnosis": "Z"})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tsh": 6.0}, "sin_alteracion"),
        ({"tsh": 6.1, "t3": 4.0}, "hipotiroidismo"),
        ({"tsh": 0.1}, "sin_alteracion"),  # low by itself tells too little
        ({"tsh": 0.1, "t3": 3.2}, "hipertiroidismo"),
        ({"tsh": 0.1, "t4_total": 160.0, "captacion_t4": 0.9}, "hipertiroidismo"),  # by the derived index
        ({"tsh": 0.2, "t3": 9.0}, "sin_alteracion"),
        ({"tsh": None, "t3": 9.0}, "sin_alteracion"),
    ],
)
def test_the_simple_rule_begins_with_tsh(values: dict[str, Any], said: str) -> None:
    assert patient(**values).by_rule() == said
