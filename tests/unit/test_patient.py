from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import pytest

from shared.diseases.thyroid import DatosPaciente
from shared.patient import Diagnosis, Disease, Patient, PatientClassError, choice, flag, load_patient, measure

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_choice_is_encoded_by_its_place() -> None:
    row = declared().model_validate({"grupo": "0", "hemoglobina": 13.5, "fuma": True}).encode()
    assert row == [13.5, 2, 1]


def test_the_digest_follows_what_a_model_depends_on_and_nothing_else() -> None:
    assert declared().digest == declared().digest
    others = {declared(limits=(0, 31)).digest, declared(unit="g/L").digest, declared(revision=2).digest}
    assert len(others | {declared().digest}) == 4


def test_a_type_that_cannot_be_encoded_is_refused_when_declared() -> None:
    with pytest.raises(PatientClassError, match="nombre"):

        class Wrong(Patient):
            disease: ClassVar[Disease] = Disease("x", "X", YES_NO)
            nombre: str


@pytest.mark.parametrize("path", ["nowhere:Class", "shared.patient:Nothing", "shared.patient", "pathlib:Path"])
def test_a_wrong_path_is_one_clear_error(path: str) -> None:
    with pytest.raises(PatientClassError, match="PREDECIR_PACIENTE"):
        load_patient(path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Paciente(Patient:", "SyntaxError"),
        ("class Paciente(Patient):\n    edad = 3", "non-annotated attribute"),
        ("class Paciente(Patient):\n    edad: bytes", "feature edad: use float"),
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
    assert len(str(caught.value).splitlines()) == 1


def test_the_default_patient_is_found() -> None:
    assert load_patient("shared.diseases.thyroid:DatosPaciente") is DatosPaciente
