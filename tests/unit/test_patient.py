import math
from pathlib import Path
from typing import ClassVar, Literal

import orjson
import pytest
from pydantic import ValidationError

from shared.diseases.thyroid import DatosPaciente
from shared.patient import Diagnosis, Disease, Patient, PatientClassError, choice, flag, load_patient, measure

YES_NO = (Diagnosis("si", "Sí"), Diagnosis("no", "No"))


def declared(limits: tuple[float, float] = (0, 30), unit: str = "g/dL", revision: int = 1) -> type[Patient]:
    class Anemia(Patient):
        disease: ClassVar[Disease] = Disease("anemia", "Anemia", YES_NO, revision)
        hemoglobina: float | None = measure("Hemoglobina", unit=unit, limits=limits, reference=(12, 16))
        grupo: Literal["A", "B", "0"] | None = choice("Grupo", required=True)
        fuma: bool = flag("Fuma")

    return Anemia


def test_features_are_read_off_the_class() -> None:
    hemoglobina, grupo, fuma = declared().features
    assert (hemoglobina.kind, hemoglobina.unit, hemoglobina.limits, hemoglobina.reference) == (
        "number", "g/dL", (0, 30), (12, 16)
    )  # fmt: skip
    assert (grupo.kind, grupo.choices, grupo.required) == ("choice", ("A", "B", "0"), True)
    assert (fuma.kind, fuma.required, fuma.label) == ("flag", False, "Fuma")


def test_minus_zero_is_zero_for_the_model_and_for_the_record() -> None:
    """PostgreSQL's jsonb stores -0.0 as 0.0, and `training reproduce` then reported a changed row."""
    patient = declared()
    zero = patient.model_validate({"hemoglobina": 0.0, "grupo": "A"})
    for minus in (
        patient.model_validate_json('{"hemoglobina": -0.0, "grupo": "A"}'),
        patient.model_validate({"hemoglobina": -0.0, "grupo": "A"}),
    ):
        assert math.copysign(1, minus.encode()[0]) == 1
        assert orjson.dumps(minus.__dict__) == orjson.dumps(zero.__dict__)


def test_a_choice_is_encoded_by_its_place() -> None:
    row = declared().model_validate({"grupo": "0", "hemoglobina": 13.5, "fuma": True}).encode()
    assert row == [13.5, 2, 1]


def test_the_digest_follows_what_a_model_depends_on_and_nothing_else() -> None:
    assert declared().digest == declared().digest
    others = {declared(limits=(0, 31)).digest, declared(unit="g/L").digest, declared(revision=2).digest}
    assert len(others | {declared().digest}) == 4


class Whole(Patient):
    disease: ClassVar[Disease] = Disease("whole", "Whole", YES_NO)
    edad: int | None = measure("Edad", unit="años", limits=(0, 120), required=True)
    partos: int = 0
    fuma: bool = flag("Fuma")


@pytest.mark.parametrize("written", ["47", "47.0", "4.7e1", "470e-1"])
def test_a_whole_number_is_accepted_in_every_json_spelling(written: str) -> None:
    patient = Whole.model_validate_json(f'{{"edad": {written}, "partos": 2.0}}')
    assert (repr(patient.edad), repr(patient.partos)) == ("47", "2")
    assert Whole.model_validate({"edad": float(written)}).encode() == [47, 0, 0]


@pytest.mark.parametrize("written", ["47.5", '"47"', '"47.0"', "true", "NaN", "1e999", "1e300", "-1.0"])
def test_other_values_of_an_integer_are_rejected(written: str) -> None:
    with pytest.raises(ValidationError):
        Whole.model_validate_json(f'{{"edad": {written}}}')


@pytest.mark.parametrize("written", ["1", "1.0", "0.0"])
def test_a_number_is_no_flag(written: str) -> None:
    with pytest.raises(ValidationError):
        Whole.model_validate_json(f'{{"edad": 47, "fuma": {written}}}')


def test_a_class_that_declares_no_more_has_no_remarks_and_cannot_be_trained() -> None:
    patient = declared()
    assert patient.model_validate({"grupo": "0"}).remarks() == []
    with pytest.raises(PatientClassError, match=r"^Anemia has no from_row: it cannot be trained$"):
        patient.from_row({})


def test_diseases_may_share_the_features_of_a_class_without_a_disease() -> None:
    class Adult(Patient):
        edad: int | None = measure("Edad", unit="años", limits=(18, 120))

    class Anemia(Adult):
        disease: ClassVar[Disease] = Disease("anemia", "Anemia", YES_NO)

    assert (Adult.digest, Anemia.columns) == ("", ("edad",))
    assert Anemia.digest


def test_a_type_that_cannot_be_encoded_is_rejected_when_declared() -> None:
    with pytest.raises(PatientClassError, match="nombre"):

        class Wrong(Patient):
            disease: ClassVar[Disease] = Disease("x", "X", YES_NO)
            nombre: str


@pytest.mark.parametrize(
    ("limits", "reference", "said"),
    [
        ((30, 0), None, r"feature hemoglobina: limits=\(30, 0\): the first must be below the second"),
        ((5, 5), None, r"limits=\(5, 5\): the first must be below"),
        ((0, 30), (16, 12), r"reference=\(16, 12\): the first must be below"),
        ((0, 30), (-1, 12), r"reference=\(-1, 12\) is not within limits=\(0, 30\)"),
        ((0, 30), (12, 30.5), r"reference=\(12, 30.5\) is not within"),
    ],
)
def test_ranges_that_no_value_can_meet_are_rejected_when_declared(
    limits: tuple[float, float], reference: tuple[float, float] | None, said: str
) -> None:
    with pytest.raises(PatientClassError, match=said):

        class Wrong(Patient):
            disease: ClassVar[Disease] = Disease("x", "X", YES_NO)
            hemoglobina: float | None = measure("Hemoglobina", unit="g/dL", limits=limits, reference=reference)


def test_other_units_are_read_off_the_class_and_change_no_digest() -> None:
    class Anemia(Patient):
        disease: ClassVar[Disease] = Disease("anemia", "Anemia", YES_NO)
        hemoglobina: float | None = measure(
            "Hemoglobina", unit="g/dL", limits=(0, 30), reference=(12, 16), other_units={"g/L": 0.1}
        )
        grupo: Literal["A", "B", "0"] | None = choice("Grupo", required=True)
        fuma: bool = flag("Fuma")

    assert [dict(feature.other_units) for feature in Anemia.features] == [{"g/L": 0.1}, {}, {}]
    assert Anemia.digest == declared().digest


@pytest.mark.parametrize("factor", [0, 1, -2])
def test_a_factor_that_converts_nothing_is_rejected_when_declared(factor: float) -> None:
    with pytest.raises(
        PatientClassError, match=r"feature hemoglobina: other_units\['g/L'\]: the factor must be above 0"
    ):

        class Wrong(Patient):
            disease: ClassVar[Disease] = Disease("x", "X", YES_NO)
            hemoglobina: float | None = measure("Hemoglobina", unit="g/dL", limits=(0, 30), other_units={"g/L": factor})


def test_every_fault_of_a_class_is_named_at_once() -> None:
    with pytest.raises(PatientClassError) as caught:

        class Wrong(Patient):
            disease: ClassVar[Disease] = Disease("Mal", "X", (Diagnosis("sí", "Sí"),))
            nombre: str
            hemoglobina: float | None = measure("Hemoglobina", unit="g/dL", limits=(30, 0), other_units={"g/L": 1})
            vcm: float | None = measure("VCM", unit="fL", limits=(40, 160), reference=(30, 100))

    faults = str(caught.value).splitlines()
    assert [fault.partition(":")[0] for fault in faults] == [
        "Disease(name='Mal')",
        "Diagnosis('sí')",
        "Disease(name='Mal')",
        "feature nombre",
        "feature hemoglobina",
        "feature hemoglobina",
        "feature vcm",
    ]


def test_a_reference_may_reach_the_limits() -> None:
    class Right(Patient):
        disease: ClassVar[Disease] = Disease("x", "X", YES_NO)
        hemoglobina: float | None = measure("Hemoglobina", unit="g/dL", limits=(0, 30), reference=(0, 30))

    assert Right.features[0].reference == (0, 30)


@pytest.mark.parametrize(
    ("name", "codes", "said"),
    [
        ("Anemia", ["si", "no"], r"Disease\(name='Anemia'\): use lower-case letters"),
        ("../anemia", ["si", "no"], "use lower-case letters"),
        ("anemia", ["sí", "no"], r"Diagnosis\('sí'\): use lower-case letters without accents"),
        ("anemia", ["2a", "no"], "begin with a letter"),
        ("anemia", ["si", "no", "si"], r"Diagnosis\('si'\): this code is declared twice"),
        ("anemia", ["si"], "diagnoses lists 1; a model needs two or more"),
    ],
)
def test_invalid_names_and_codes_of_a_disease_are_rejected(name: str, codes: list[str], said: str) -> None:
    with pytest.raises(PatientClassError, match=said):

        class Wrong(Patient):
            disease: ClassVar[Disease] = Disease(name, "X", tuple(Diagnosis(code, code) for code in codes))


@pytest.mark.parametrize("path", ["nowhere:Class", "shared.patient:Nothing", "shared.patient", "pathlib:Path"])
def test_a_wrong_path_is_one_clear_error(path: str) -> None:
    with pytest.raises(PatientClassError, match="PREDECIR_PACIENTE"):
        load_patient(path)


def test_an_unknown_module_or_class_names_the_form_of_the_setting() -> None:
    for path in ("nowhere:Class", "shared.patient:Nothing"):
        with pytest.raises(PatientClassError, match=r"expected package\.module:Class"):
            load_patient(path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Paciente(Patient:", ", line 4: SyntaxError: "),
        ("import no_such_module", ", line 4: ModuleNotFoundError: No module named 'no_such_module'"),
        ("class Paciente(Patient):\n    edad = 3", "non-annotated attribute"),
        ("class Paciente(Patient):\n    edad: bytes", "feature edad: use float"),
        ("\nclass Paciente(Patient):\n    edad: bytes", ".py, line 5)"),
    ],
)
def test_a_module_that_does_not_import_is_one_line(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{hash(code) & 0xFFFF}"
    (tmp_path / f"{name}.py").write_text(f"from shared.patient import Patient\n\n\n{code}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PatientClassError) as caught:
        load_patient(f"{name}:Paciente")
    assert said in str(caught.value)
    assert str(caught.value).count(f"{name}.py, line ") == 1
    assert "expected package.module:Class" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_default_patient_is_found() -> None:
    assert load_patient("shared.diseases.thyroid:DatosPaciente") is DatosPaciente
