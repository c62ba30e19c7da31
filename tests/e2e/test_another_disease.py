"""A disease from outside the repository, with no change to it: trained, served, and its answer recorded."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from shared.bundle import open_bundle
from tests.database import query
from tests.processes import ROOT, running
from tests.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATIENT = "esguince:Lesionado"

CLASS = '''
from typing import ClassVar, Literal

from shared.patient import Case, Diagnosis, DiscardedRowError, Disease, Patient, choice, flag, measure


class Lesionado(Patient):
    """Datos de un tobillo lesionado."""

    disease: ClassVar[Disease] = Disease(
        name="tobillo",
        title="Lesión de tobillo",
        diagnoses=(Diagnosis("esguince", "Esguince"), Diagnosis("fractura", "Fractura")),
    )

    edad: int | None = measure("Edad", unit="años", limits=(0, 120), required=True)
    lado: Literal["izquierdo", "derecho"] | None = choice("Lado")
    dolor: float | None = measure("Dolor", unit="EVA", limits=(0, 10), reference=(0, 7))
    apoya: bool = flag("Puede apoyar el pie")

    @classmethod
    def from_row(cls, row):
        if row["imaged"] == "no":
            raise DiscardedRowError("no image was taken")
        patient = cls(
            edad=int(row["age"]),
            lado={"L": "izquierdo", "R": "derecho", "": None}[row["side"]],
            dolor=float(row["pain"]) if row["pain"] else None,
            apoya=row["walks"] == "1",
        )
        return Case(patient, "fractura" if row["fracture"] == "1" else "esguince")
'''

PARAMETERS = """
split: {method: random, test_share: 0.25, seed: 1}
model:
  max_iter: 20
  learning_rate: 0.1
  max_leaf_nodes: 8
  min_samples_leaf: 5
  l2_regularization: 1.0
  max_features: 1.0
  members: 1
  recency_half_life_months: null
  seed: 0
choice: {folds: 3, class_weight_powers: [0.0, 0.5]}
low_prevalence: 0.03
evaluation: {calibration_bins: 10, bootstrap_resamples: 100, seed: 0}
parity: {tolerance: 1.0e-5}
gates:
  accuracy: 0.8
  balanced_accuracy: 0.7
  average_precision: {fractura: 0.6}
  recall: {}
  expected_calibration_error: 0.2
  onnx_parity: true
"""


def table(rows: int = 420) -> str:
    """Make ankles up: who hurts and cannot walk has mostly broken it."""
    rng = random.Random(5)  # noqa: S311 - made-up patients, not keys
    lines = ["age,side,pain,walks,imaged,fracture"]
    for number in range(rows):
        broken = rng.random() < 0.3
        pain = "" if rng.random() < 0.1 else f"{min(10.0, max(0.0, rng.gauss(8 if broken else 4, 1.2))):.1f}"
        walks = rng.random() < (0.1 if broken else 0.9)
        imaged = "no" if number % 20 == 0 else "yes"
        lines.append(f"{rng.randint(5, 90)},{rng.choice(['L', 'R', ''])},{pain},{walks:d},{imaged},{broken:d}")
    return "\n".join(lines) + "\n"


def lay_down(folder: Path) -> Path:
    """Write what the owner of a disease brings: a class, a table and parameters."""
    (folder / "data").mkdir(parents=True)
    (folder / "esguince.py").write_text(CLASS)
    (folder / "params.yaml").write_text(PARAMETERS)
    (folder / "data/raw.csv").write_text(table())
    return folder


def command(folder: Path) -> list[str]:
    """What a user types, with this Python instead of an environment that make would set up."""
    ready = [f"--old-file={ROOT / '.venv' / name}" for name in (".run", ".uv")]
    chosen = [f"PREDECIR_PACIENTE={PATIENT}", f"PREDECIR_PARAMS={folder / 'params.yaml'}", f"PY={sys.executable}"]
    return ["make", "-C", str(ROOT), *ready, "train", *chosen]


def train(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder), capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Give the folder after a first training, and what that printed."""
    folder = lay_down(tmp_path_factory.mktemp("diseases") / "tobillo")
    ended = train(folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder, ended.stdout


def lines(said: str, stage: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(f"{stage} ")]


def test_every_step_is_told_and_a_signed_bundle_is_in_production(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, said = trained
    assert "399 cases of 420 rows; left out: 21 (no image was taken)" in lines(said, "prepare")[-1]
    assert all(lines(said, stage) for stage in ("train", "evaluate", "register", "pipeline"))
    monkeypatch.syspath_prepend(folder)
    patient = importlib.import_module("esguince").Lesionado
    production = folder / "var/models/tobillo/production"
    bundle = open_bundle(production, folder / "var/keys/bundle.pub", patient_digest=patient.digest)
    assert bundle.manifest.classes == ["esguince", "fractura"]
    assert bundle.manifest.columns == ["edad", "lado", "dolor", "apoya"]
    assert production.readlink().name == bundle.manifest.version == "1"


def test_it_is_served_and_its_answer_becomes_a_row(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    environment = {"PREDECIR_PACIENTE": PATIENT, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    with running("services.local", folder, environment) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        body = {"edad": 30, "lado": "derecho", "dolor": 9.5, "apoya": False}
        answer = httpx.post(f"{process.url}/predecir", json=body, timeout=10)
        assert answer.status_code == 200, answer.text
        given = answer.json()
        assert (given["prediccion"], given["etiqueta"]) == ("fractura", "Fractura")
        until_now(lambda: bool(query(folder, "SELECT id FROM predicciones")), seconds=1)
    assert query(folder, "SELECT id, output, modelo FROM predicciones") == [(given["id"], "fractura", "tobillo")]


def test_training_again_registers_nothing_new(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    ended = train(folder)
    assert ended.returncode == 0, ended.stderr
    assert "nothing changed for prepare, train, evaluate" in lines(ended.stdout, "pipeline")[-1]
    assert sorted(path.name for path in (folder / "var/models/tobillo").iterdir()) == ["1", "production", "staging"]


def refused(folder: Path) -> str:
    """Train what cannot be trained; gives the one line it says (make adds its own)."""
    ended = train(folder)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert not (folder / "var/models").exists()
    return "\n".join(line for line in ended.stderr.splitlines() if not line.startswith("make"))


def test_wrong_parameters_are_one_line_before_anything_is_written(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "tobillo")
    (folder / "params.yaml").write_text(PARAMETERS.replace("fractura", "rotura"))
    assert refused(folder) == (
        "pipeline: params.yaml: gates: no such class: rotura; the classes are esguince, fractura"
    )
    assert not (folder / "dvc.yaml").exists()


def test_a_row_that_breaks_a_rule_stops_it_and_is_named(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "tobillo")
    with (folder / "data/raw.csv").open("a") as file:
        file.write("404,L,3,1,yes,0\n")
    stage, pipeline = refused(folder).splitlines()
    assert "data/raw.csv, line 422: edad: Input should be less than or equal to 120" in stage
    assert "404" not in stage
    assert pipeline == "pipeline: stopped at prepare"


def test_data_that_are_missing_are_one_line(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "tobillo")
    shutil.rmtree(folder / "data")
    assert f"put the data into {folder}/data/raw.csv" in refused(folder)


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "tobillo")
    text = PARAMETERS.replace("max_iter: 20", "max_iter: 2000").replace("[0.0, 0.5]", "[0.0, 0.1, 0.2, 0.3, 0.4, 0.5]")
    (folder / "params.yaml").write_text(text)
    with start(command(folder)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert any(line.startswith("train ") for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to everything in the foreground
        said = process.stderr.read()
        assert process.wait(30) != 0
    assert "Traceback" not in said
    assert not (folder / "var/models").exists()


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
