"""The disease of docs/guides/another-disease.md, outside the repository: trained, served, and its answer recorded."""

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from shared.artifacts.bundle import open_bundle
from tests.support import plain_http
from tests.support.anemia import PAGE, PATIENT, change, environment, example, lay_down
from tests.support.database import is_settled, query
from tests.support.paths import ROOT
from tests.support.private_files import open_to_others
from tests.support.processes import running
from tests.support.waiting import until_now

REPORT = "var/trigger/report.json"


def command(folder: Path, target: str = "train") -> list[str]:
    """The command that a user types, with this Python instead of an environment that make would set up."""
    ready = [f"--old-file=.venv/{name}" for name in (".run", ".uv")]
    chosen = [f"PREDECIR_PACIENTE={PATIENT}", f"PREDECIR_PARAMS={folder / 'params.yaml'}", f"PY={sys.executable}"]
    return ["make", "-C", str(ROOT), *ready, target, *chosen]


def train(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder), capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder after a first training, and the output of that training."""
    folder = tmp_path_factory.mktemp("diseases") / "anemia"
    subprocess.run([sys.executable, "-m", "tests.support.anemia", folder], cwd=ROOT, check=True, timeout=60)
    ended = train(folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder, ended.stdout


def lines(output: str, stage: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(f"{stage} ")]


def test_every_stage_prints_a_line_and_a_signed_bundle_is_in_production(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = trained
    assert "399 cases of 420 rows; left out: 21 (no hemoglobin)" in lines(output, "prepare")[-1]
    assert all(lines(output, stage) for stage in ("train", "evaluate", "register", "pipeline"))
    monkeypatch.syspath_prepend(folder)
    patient = importlib.import_module("anemia").DatosPaciente
    production = folder / "var/models/anemia/production"
    bundle = open_bundle(production, folder / "var/keys/bundle.pub", patient_digest=patient.digest)
    assert bundle.manifest.classes == ("sin_anemia", "ferropenica", "megaloblastica")
    assert bundle.manifest.columns == ("edad", "sexo", "hemoglobina", "vcm", "ferritina", "embarazo")
    assert "hemoglobina" in bundle.manifest.never_missing
    assert "ferritina" not in bundle.manifest.never_missing
    assert production.readlink().name == bundle.manifest.version == "1"


def test_it_is_served_and_its_answer_becomes_a_row(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    with running("services.local", folder, environment(folder)) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        body = json.loads(PAGE.partition("-d '")[2].partition("'")[0])
        answer = plain_http.post(f"{process.url}/predecir", json=body)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["prediccion"], body["etiqueta"]) == ("ferropenica", "Anemia ferropénica")
        until_now(lambda: bool(query(folder, "SELECT id FROM predicciones")))
    assert query(folder, "SELECT id, output, modelo FROM predicciones") == [(body["id"], "ferropenica", "anemia")]


def test_training_again_registers_nothing_new(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    ended = train(folder)
    assert ended.returncode == 0, ended.stderr
    assert "nothing changed for prepare, check, train, evaluate" in lines(ended.stdout, "pipeline")[-1]
    assert sorted(path.name for path in (folder / "var/models/anemia").glob("[!.]*")) == ["1", "production", "staging"]


def test_no_file_of_training_is_open_to_other_users(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    assert (folder / "var/pipeline/cases.csv").exists()
    assert open_to_others(folder / "var") == []


def test_a_training_restricts_the_files_of_earlier_ones(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    for path in (folder / "var", folder / "var/pipeline", folder / "var/mlartifacts"):
        path.chmod(0o755)
    (folder / "var/pipeline/cases.csv").chmod(0o644)
    ended = train(folder)
    assert ended.returncode == 0, ended.stderr
    [line] = [line for line in ended.stdout.splitlines() if "open to other users" in line]
    assert line.startswith("pipeline  4 files and folders were open")
    assert open_to_others(folder / "var") == []


def test_stages_that_dvc_runs_by_itself_write_for_their_owner_only(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | environment(folder) | {"PATH": path, "DVC_SITE_CACHE_DIR": str(folder / "var/dvc/site")}
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", "--force", "--single-item", "prepare"]
    (folder / "var/pipeline/cases.csv").unlink()
    under_022 = ["sh", "-c", 'umask 022; exec "$@"', "sh", *command]
    subprocess.run(under_022, cwd=folder, env=variables, check=True, timeout=120)
    assert (folder / "var/pipeline/cases.csv").exists()
    assert open_to_others(folder / "var/pipeline") == []


def trigger(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "trigger"]
    variables = os.environ | environment(folder)
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120)


def test_drift_starts_the_pipeline_once(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    change(folder, "least: 300", "least: 20")
    body = {"edad": 30, "sexo": "F", "hemoglobina": 24, "vcm": 90, "ferritina": 80, "embarazo": True}
    with running("services.local", folder, environment(folder)) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        for _ in range(25):
            assert plain_http.post(f"{process.url}/predecir", json=body).status_code == 200
        until_now(lambda: is_settled(process))
    first, second = trigger(folder), trigger(folder)
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert any("BEYOND" in line and "hemoglobina.psi" in line for line in lines(first.stdout, "trigger"))
    (few,) = [line for line in lines(first.stdout, "trigger") if "too few" in line]
    assert few.startswith("trigger   too few  for 1 of ")
    assert few.endswith(f"{REPORT} names them")
    assert "nothing to do: version 1, production and staging" in lines(first.stdout, "register")[-1]
    assert "started within 7 days already" in lines(second.stdout, "trigger")[-1]
    assert lines(second.stdout, "pipeline") == []
    report = json.loads((folder / REPORT).read_text())
    assert (report["version"], report["started"]) == ("1", False)
    assert {"embarazo.psi", "hemoglobina.psi"} <= {figure["name"] for figure in report["findings"] if figure["beyond"]}


def refused(folder: Path) -> str:
    """Run a training that must fail; return its one error line (make adds its own)."""
    ended = train(folder)
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert not (folder / "var/models").exists()
    return "\n".join(line for line in ended.stderr.splitlines() if not line.startswith("make"))


def test_wrong_parameters_are_one_line_before_anything_is_written(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "anemia")
    change(folder, "ferropenica", "hierro")
    assert "params.yaml: gates: no such class: hierro; the classes are sin_anemia, ferropenica" in refused(folder)
    assert not (folder / "dvc.yaml").exists()


def test_a_row_that_breaks_a_rule_stops_it_and_is_named(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "anemia")
    with (folder / "data/raw.csv").open("a") as file:
        file.write("2024-12-01,404,F,12,80,20,0,normal\n")
    stage, pipeline = refused(folder).splitlines()
    assert "data/raw.csv, line 422: edad: Input should be less than or equal to 120" in stage
    assert "404" not in stage
    assert pipeline == "pipeline: stopped at prepare"


def test_a_leaking_column_stops_the_pipeline_before_training(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "anemia")
    path = folder / "data/raw.csv"
    header, *rows = (line.split(",") for line in path.read_text().splitlines())
    for row in rows:
        row[header.index("ferritin")] = {"normal": "90", "iron": "5", "b12": "400"}[row[-1]]
    path.write_text("".join(",".join(row) + "\n" for row in (header, *rows)))
    first, second, count, pipeline = refused(folder).splitlines()
    assert "leakage.ferritina: balanced accuracy of ferritina alone, all classes: 1, at most" in first
    assert "leakage.ferritina.one_class: " in second
    assert count == "check: 2 of 32 checks failed; all are in var/pipeline/checks.json"
    assert pipeline == "pipeline: stopped at check"
    checks = json.loads((folder / "var/pipeline/checks.json").read_text())
    failed = [finding["check"] for finding in checks["findings"] if not finding["passed"]]
    assert failed == ["leakage.ferritina", "leakage.ferritina.one_class"]
    assert not (folder / "var/pipeline/model.pkl").exists()


def test_the_guide_names_the_numbers_of_rows_that_its_example_needs() -> None:
    parameters = yaml.safe_load(example("yaml"))
    checks, split = parameters["checks"], parameters["split"]
    [stated] = re.findall(
        r"need (\d+) rows, and of every diagnosis (\d+) on each side of the split: with a\s+`test_share` of ([\d.]+), "
        r"(\d+) rows of the rarest.*?\((\d+) below\)",
        PAGE,
        re.DOTALL,
    )
    rarest = max(checks["class_cases"] / split["test_share"], checks["class_cases"] / (1 - split["test_share"]))
    assert [float(number) for number in stated] == [
        checks["least_cases"],
        checks["class_cases"],
        split["test_share"],
        rarest,
        2 * parameters["choice"]["folds"],
    ]


def test_the_guide_shows_the_output_of_its_example(trained: tuple[Path, str]) -> None:
    _, output = trained
    shown = PAGE.partition("pipeline  first run here")[2].partition("```")[0].splitlines()[1:]
    figures = [re.sub(r" \([\d.]+ s\)$", "", line) for line in shown if line != "…"]
    printed = [re.sub(r" \([\d.]+ s\)$", "", line) for line in output.splitlines()]
    assert [line for line in figures if line not in printed] == []


def test_the_parameters_of_the_command_need_only_values(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "anemia")
    (folder / "params.yaml").unlink()
    written = subprocess.run([*command(folder, "params")], capture_output=True, text=True, check=False, timeout=60)
    assert written.returncode == 0, written.stderr
    problems = refused(folder)
    assert "gates.accuracy: write a value in place of FILL_IN; " in problems
    assert not (folder / "dvc.yaml").exists()


def test_data_that_are_missing_are_one_line(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "anemia")
    shutil.rmtree(folder / "data")
    assert f"put the data into {folder}/data/raw.csv" in refused(folder)


def test_ctrl_c_while_a_stage_starts_ends_without_a_traceback(tmp_path: Path) -> None:
    folder = lay_down(tmp_path / "anemia")
    with subprocess.Popen(
        command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until_now(lambda: is_importing(process.pid, "training train"), seconds=60)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to everything in the foreground
        error = process.communicate(timeout=30)[1]
    assert process.returncode != 0
    assert "Traceback" not in error
    assert not (folder / "var/models").exists()


def is_importing(pid: int, stage: str) -> bool:
    """Return whether `pid` has started `stage` and that has imported NumPy, with seconds of imports still to come."""
    with contextlib.suppress(psutil.Error):  # a process may end while we look
        for child in psutil.Process(pid).children(recursive=True):
            if stage in " ".join(child.cmdline()) and any("numpy" in loaded.path for loaded in child.memory_maps()):
                return True
    return False
