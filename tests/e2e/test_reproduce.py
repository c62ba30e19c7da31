"""Reproducing an answer that the local profile recorded, and every reason why it may fail."""

import json
import math
import shutil
import sqlite3
from argparse import Namespace
from pathlib import Path
from uuid import UUID

import pytest

from tests.support import plain_http
from tests.support.bundles import PacienteDePrueba, make_bundle
from tests.support.database import query
from tests.support.processes import running
from tests.support.waiting import until_now
from training.commands import reproduce
from training.context import TrainingContext
from training.errors import DatabaseError, DataError, NotReproducedError, RegistryError, TrainingError

PATIENT = "tests.support.bundles:PacienteDePrueba"
ASKED = {"edad": 83, "sexo": "F", "glucosa": 177.25, "fumador": True}


@pytest.fixture(scope="module", params=["onnx", "pickle"])
def answered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose database has one answer, by the model in either format."""
    folder = tmp_path_factory.mktemp("answered")
    make_bundle(folder / "var", PacienteDePrueba, serves=request.param)
    with running("services.local", folder, {"PREDECIR_PACIENTE": PATIENT}) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        headers = {"Referencia-Paciente": "cama%2012"}
        answer = plain_http.post(f"{process.url}/predecir", json=ASKED, headers=headers)
        assert answer.status_code == 200, answer.text
        until_now(lambda: bool(query(folder, "SELECT id FROM predicciones")))
    return folder


@pytest.fixture
def folder(answered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to change, as the current folder."""
    copy = tmp_path / "copy"
    shutil.copytree(answered, copy, symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("PREDECIR_PACIENTE", PATIENT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it where it was used in this process
    return copy


def change(folder: Path, assignment: str) -> None:
    with sqlite3.connect(folder / "predicciones.db") as connection:
        connection.execute(f"UPDATE predicciones SET {assignment}")  # noqa: S608 - the test's own words


def reproduced(folder: Path, identifier: str | None = None) -> str:
    """Reproduce the answer `identifier`, or the only one that is recorded in `folder`."""
    [(recorded,)] = query(folder, "SELECT id FROM predicciones")
    return reproduce.main(Namespace(id=UUID(identifier or recorded)), TrainingContext())


def test_it_is_the_same_bit_for_bit_and_no_value_of_the_patient_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduced(folder) == "the same, bit for bit: all 2 probabilities; the row's hash is right"
    [(identifier, digest, *values)] = query(
        folder, "SELECT id, modelo_digest, inputs, probabilidad, referencia FROM predicciones"
    )
    shown = capsys.readouterr().out
    for expected in (
        identifier,
        digest,
        "data test",
        "commit test with uncommitted changes (now",
        "libraries ",
        "parameters",
    ):
        assert expected in shown
    assert [value for value in (*values, "177.25", "cama") if str(value) in shown] == []


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("inputs = json_set(inputs, '$.edad', 20)", r"^different: 2 of 2 probabilities, by 0\.\d+ at most"),
        (
            "inputs = json_set(inputs, '$.edad', -1)",
            "a row was changed after it was recorded; no patient can have its edad",
        ),
        ("probabilidades = '{}'", "^different: the recorded classes are not those of the model"),
        ("output = CASE output WHEN 'sano' THEN 'enfermo' ELSE 'sano' END", "its hash differs"),
        ("referencia = NULL", "its hash differs"),
        ("plausibles = NULL", "its hash differs"),
    ],
)
def test_a_changed_row_is_detected(folder: Path, assignment: str, expected: str) -> None:
    change(folder, assignment)
    with pytest.raises((NotReproducedError, DatabaseError), match=expected) as caught:
        reproduced(folder)
    assert "83" not in str(caught.value)


def test_the_last_bit_counts(folder: Path) -> None:
    [(text,)] = query(folder, "SELECT probabilidades FROM predicciones")
    probabilities = json.loads(text)
    probabilities["sano"] = math.nextafter(probabilities["sano"], 1)
    change(folder, f"probabilidades = '{json.dumps(probabilities)}'")
    with pytest.raises(NotReproducedError, match=r"^different: 1 of 2 probabilities") as caught:
        reproduced(folder)
    assert caught.value.exit_code == 1


def test_a_model_that_is_gone_is_one_line(folder: Path) -> None:
    shutil.rmtree(folder / "var/models/prueba/1")
    with pytest.raises(RegistryError, match="version 1 is not in var/models/prueba, and there is no registry here"):
        reproduced(folder)


def test_another_model_under_the_same_version_is_not_taken_for_it(folder: Path) -> None:
    change(folder, f"modelo_digest = '{'f' * 64}'")
    with pytest.raises(RegistryError, match="version 1 is not in"):
        reproduced(folder)


@pytest.mark.parametrize(
    ("patient", "identifier", "expected"),
    [
        (
            PATIENT,
            "0192f0c0-0000-7000-8000-000000000000",
            r"no such prediction is recorded in \./predicciones\.db \(DATABASE_URL\)",
        ),
        ("shared.diseases.thyroid:DatosPaciente", None, "name that class, or check out the commit that served it"),
    ],
)
def test_an_unknown_prediction_and_one_of_another_class_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, patient: str, identifier: str | None, expected: str
) -> None:
    monkeypatch.setenv("PREDECIR_PACIENTE", patient)
    if identifier:
        change(folder, f"id = '{identifier[:-1]}1'")
    with pytest.raises(DataError, match=expected):
        reproduced(folder, identifier)


def test_a_database_that_is_not_there_is_one_line(folder: Path) -> None:
    [(identifier,)] = query(folder, "SELECT id FROM predicciones")
    (folder / "predicciones.db").rename(folder / "elsewhere.db")
    with pytest.raises(
        TrainingError, match=r"DATABASE_URL: the predictions there cannot be read: predicciones\.db: No such file"
    ):
        reproduce.main(Namespace(id=UUID(identifier)), TrainingContext())
