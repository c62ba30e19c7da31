import hashlib
import importlib
import os
from pathlib import Path

import pytest
import yaml

from shared.diseases.thyroid import DatosPaciente
from shared.patient import Patient
from training.dvc_project import ROOT, check_owner, needs_pull, write_project
from training.errors import DataError, ParametersError

THYROID = "shared.diseases.thyroid:DatosPaciente"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> type[Patient]:
    (folder / "asma_de_fuera.py").write_text(
        "from typing import ClassVar\nfrom shared.patient import Diagnosis, Disease, Patient, flag\n\n\n"
        "class Paciente(Patient):\n"
        "    disease: ClassVar[Disease] = Disease('asma', 'Asma', (Diagnosis('si', 'Sí'), Diagnosis('no', 'No')))\n"
        "    tos: bool = flag('Tos')\n"
    )
    monkeypatch.syspath_prepend(folder)
    patient: type[Patient] = importlib.import_module("asma_de_fuera").Paciente
    return patient


def variables() -> dict[str, str]:
    return {
        key: value for entry in yaml.safe_load(Path("dvc.yaml").read_text())["vars"] for key, value in entry.items()
    }


def test_a_new_folder_gets_our_stages_with_its_own_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_project(outside(folder, monkeypatch), "asma_de_fuera:Paciente")
    assert variables() == {
        "code": os.path.relpath(ROOT),
        "patient": "asma_de_fuera:Paciente",
        "patient_file": "asma_de_fuera.py",
    }
    ours = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert yaml.safe_load(Path("dvc.yaml").read_text())["stages"] == ours
    assert Path(".dvc/config").exists()


def test_a_written_project_follows_the_class_and_keeps_the_owners_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(outside(folder, monkeypatch), "asma_de_fuera:Paciente")
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n")
    Path(".gitignore").write_text("mine\n")
    check_owner(THYROID)
    assert not write_project(DatosPaciente, THYROID)
    assert variables()["patient"] == THYROID
    assert Path(".dvc/config").read_text() == "[core]\n    no_scm = true\n"
    assert Path(".gitignore").read_text() == "mine\n"


def test_stages_that_an_earlier_release_wrote_are_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = outside(folder, monkeypatch)
    Path("dvc.yaml").write_text(
        "# Written by training.pipeline, and again at every run; without this line it is yours.\n"
        "vars: []\nstages: {prepare: {cmd: python -m training.prepare}}\n"
    )
    assert not write_project(patient, "asma_de_fuera:Paciente")
    assert variables()["patient"] == "asma_de_fuera:Paciente"


def test_the_repository_is_for_its_own_disease_only(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (ROOT / "dvc.yaml").read_bytes()
    monkeypatch.chdir(ROOT)
    check_owner(THYROID)
    assert not write_project(DatosPaciente, THYROID)
    with pytest.raises(ParametersError, match="give each disease a folder of its own"):
        check_owner("asma_de_fuera:Paciente")
    assert (ROOT / "dvc.yaml").read_bytes() == before


def test_missing_data_that_cannot_be_pulled_are_an_error_with_the_path(folder: Path) -> None:
    with pytest.raises(DataError, match=f"put the data into {folder}/data/raw.csv"):
        needs_pull()
    add_to_dvc("")
    Path("data/raw.csv").unlink()
    assert needs_pull()
    Path("data/raw.csv").write_text("")
    assert not needs_pull()
    assert needs_pull(newest=True)
    Path("data/raw.csv.dvc").unlink()
    assert not needs_pull(newest=True)


def test_data_that_dvc_does_not_track_are_rejected_unless_pulled() -> None:
    add_to_dvc("a,b\n1,2\n3,4\n")
    assert not needs_pull()
    Path("data/raw.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"not the file of data/raw\.csv\.dvc; `.*dvc add .*` if .*otherwise delete it"):
        needs_pull()
    assert needs_pull(newest=True)


@pytest.mark.parametrize("broken", ["", "<<<<<<< mine\n", "outs: []\n", "outs:\n- path: raw.csv\n"])
def test_what_dvc_did_not_write_is_one_line(broken: str) -> None:
    add_to_dvc("a,b\n")
    Path("data/raw.csv.dvc").write_text(broken)
    with pytest.raises(DataError, match=r"raw\.csv\.dvc: not as DVC writes it"):
        needs_pull()


def test_the_digest_of_dvc_2_is_that_of_the_text_with_lf() -> None:
    add_to_dvc("a,b\n1,2\n")
    pointer = Path("data/raw.csv.dvc")
    Path("data/raw.csv").write_text("a,b\r\n1,2\r\n")
    with pytest.raises(DataError, match=r"not the file of data/raw\.csv\.dvc"):
        needs_pull()
    pointer.write_text(pointer.read_text().replace("  hash: md5\n", ""))
    assert not needs_pull()


def add_to_dvc(text: str) -> None:
    """Write data and their .dvc file as `dvc add` does."""
    Path("data").mkdir()
    Path("data/raw.csv").write_text(text)
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    Path("data/raw.csv.dvc").write_text(f"outs:\n- md5: {digest}\n  size: {len(text)}\n  hash: md5\n  path: raw.csv\n")
