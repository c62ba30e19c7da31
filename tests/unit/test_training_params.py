"""`python -m training params`: the file is complete, and training does not start before it is filled in."""

import argparse
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from shared.diseases.thyroid import DatosPaciente
from shared.patient import Diagnosis, Disease, Patient, flag
from tests.support.bundles import PacienteDePrueba
from training.commands import params
from training.commands.params import template_for
from training.config import FILE, PLACEHOLDER, Parameters, read_parameters
from training.context import TrainingContext
from training.errors import ParametersError
from training.settings import TrainingSettings


class YesOrNo(Patient):
    """Alguien cuyo diagnóstico se llama como un valor de YAML."""

    disease: ClassVar[Disease] = Disease("otra", "Otra", (Diagnosis("no", "No"), Diagnosis("si", "Sí")))

    fuma: bool = flag("Fuma")


PATIENTS = [DatosPaciente, PacienteDePrueba, YesOrNo]


def filled_in(text: str) -> str:
    return text.replace(f"least_cases: {PLACEHOLDER}", "least_cases: 300").replace(f": {PLACEHOLDER}", ": 0.8")


@pytest.mark.parametrize("patient", PATIENTS)
def test_it_is_complete_once_it_is_filled_in(tmp_path: Path, patient: type[Patient]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(filled_in(template_for(patient)))
    parameters = read_parameters(path)
    parameters.check_names(patient.disease.classes, patient.features)
    assert set(parameters.gates.recall) == set(patient.disease.classes)
    assert set(yaml.safe_load(path.read_text())) == set(Parameters.model_fields)


@pytest.mark.parametrize("patient", PATIENTS)
def test_every_placeholder_is_named_at_once(tmp_path: Path, patient: type[Patient]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(template_for(patient))
    with pytest.raises(ParametersError) as caught:
        read_parameters(path)
    named = str(caught.value)
    assert named.count("write a value in place of FILL_IN") == 7 + len(patient.disease.classes)
    assert [
        key for key in ("checks.least_cases", "gates.accuracy", "gates.subgroups.accuracy") if key not in named
    ] == []
    assert f"gates.recall.{patient.disease.classes[-1]}: write a value" in named


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TrainingSettings(predecir_paciente="tests.support.bundles:PacienteDePrueba")
    write = argparse.Namespace(write=True)
    assert params.main(write, TrainingContext(settings)).startswith(f"wrote {tmp_path}/params.yaml")
    FILE.write_text("mine")
    with pytest.raises(ParametersError, match="it is not overwritten"):
        params.main(write, TrainingContext(settings))
    assert FILE.read_text() == "mine"
