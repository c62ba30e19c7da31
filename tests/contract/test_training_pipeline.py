"""Decisions of `pipeline` before DVC runs."""

import json
import os
import re
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.diseases.thyroid import DatosPaciente
from shared.patient import Patient
from tests.support.builds import Workspace, good_build
from tests.support.bundles import RevisedThyroid, make_bundle
from tests.support.data import dvc, dvc_project, thyroid_csv
from tests.support.paths import ROOT
from training.commands import pipeline, prepare
from training.context import TrainingContext
from training.errors import BusyError, DataError, DvcFileError, ParametersError, TrainingError

OWN_STAGE = "stages: {mine: {cmd: exit 0, deps: [data/raw.csv]}}"
ARGUMENTS = Namespace(unless_served=True, until=None)
OF_PYGTRIE = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
"""DVC's library of path trees warns about its own code."""


def run_pipeline() -> str:
    """Run the command as `make run` does."""
    return pipeline.main(ARGUMENTS, TrainingContext())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without params.yaml: training there is an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREDECIR_PARAMS", raising=False)
    return tmp_path


def test_a_model_in_production_for_the_class_needs_no_training(folder: Path) -> None:
    make_bundle(folder / "var", DatosPaciente, version="7", pickled=b"never opened")
    assert run_pipeline() == "version 7 is in production"


@pytest.mark.parametrize("patient", [None, RevisedThyroid])
def test_it_trains_without_a_model_or_with_one_for_another_class(folder: Path, patient: type[Patient] | None) -> None:
    if patient:
        make_bundle(folder / "var", patient, pickled=b"never opened")
    with pytest.raises(ParametersError, match=r"params\.yaml: cannot be read"):
        run_pipeline()


def test_a_model_that_was_tampered_with_does_not_count_as_served(folder: Path) -> None:
    bundle = make_bundle(folder / "var", DatosPaciente, pickled=b"never opened")
    (bundle / "model.pkl").write_bytes(b"another")
    with pytest.raises(ParametersError):
        run_pipeline()


@pytest.mark.parametrize("name", ["params.yml", "anemia/limits.yaml"])
def test_a_parameter_file_of_another_name_is_rejected(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("PREDECIR_PARAMS", str(folder / name))
    with pytest.raises(ParametersError, match=rf"/{name}: the file must be called params\.yaml, in a folder"):
        run_pipeline()


def test_class_parameters_and_data_are_checked_in_one_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREDECIR_PACIENTE", "mal:Mal")
    monkeypatch.syspath_prepend(folder)
    (folder / "mal.py").write_text("no es Python\n")
    (folder / "params.yaml").write_text(changed_parameters("accuracy: 0.92", "acuracy: 2"))
    with pytest.raises(ParametersError) as caught:
        run_pipeline()
    of_class, of_parameters, of_data = str(caught.value).splitlines()
    assert of_class.startswith("PREDECIR_PACIENTE=mal:Mal: cannot import it (mal.py, line 1: SyntaxError")
    assert "gates.acuracy: unknown key" in of_parameters
    assert of_data.startswith("data/raw.csv: not there; ")


def test_rows_are_checked_though_parameters_are_wrong(folder: Path) -> None:
    (folder / "params.yaml").write_text(changed_parameters("hipertiroidismo: 0.74", "hiper: 0.74"))
    (folder / "data").mkdir()
    header, first, *_ = thyroid_csv().read_text().splitlines()
    (folder / "data/raw.csv").write_text(f"{header}\n{first.replace(',', ',9999x,', 1)}\n")
    with pytest.raises(ParametersError) as caught:
        run_pipeline()
    of_parameters, of_data = str(caught.value).splitlines()
    assert "gates: no such class: hiper" in of_parameters
    assert of_data.startswith("data/raw.csv, line 2: ")


def changed_parameters(old: str, new: str) -> str:
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    return text.replace(old, new)


@pytest.fixture
def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of this repository's pipeline, without data and without the remote that has them."""
    for name in (
        "PATH",
        "SHELL",
        "DVC_SITE_CACHE_DIR",
        "DVC_NO_ANALYTICS",
        "MLFLOW_DISABLE_TELEMETRY",
        "PYTHONUNBUFFERED",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # the pipeline sets them; to be put back
    (folder / ".dvc/tmp").mkdir(parents=True)
    return dvc_project(folder)


def train(until: str | None = None) -> str:
    return pipeline.main(Namespace(unless_served=False, until=until), TrainingContext())


def add_data(project: Path, stages: str | None = None) -> None:
    """Add the data, which DVC does not track, and replace the stages by `stages`."""
    (project / "data/raw.csv.dvc").unlink()
    shutil.copy(thyroid_csv(), project / "data/raw.csv")
    if stages is not None:
        (project / "dvc.yaml").write_text(stages)


@OF_PYGTRIE
@pytest.mark.parametrize(("lock", "data"), [("lock", False), ("rwlock.lock", True)])
def test_another_run_in_the_folder_is_exit_code_75(project: Path, lock: str, *, data: bool) -> None:
    from dvc.lock import make_lock  # noqa: PLC0415 - a second, for this test alone

    if data:
        add_data(project)
    with make_lock(str(project / ".dvc/tmp" / lock)), pytest.raises(BusyError, match="try again") as caught:
        train()
    assert caught.value.exit_code == 75


@OF_PYGTRIE
def test_a_stage_that_another_process_has_locked_is_exit_code_75_with_its_id(project: Path) -> None:
    add_data(project, OWN_STAGE)
    locked = {str(project / "data/raw.csv"): {"pid": 1, "cmd": "dvc repro"}}
    (project / ".dvc/tmp/rwlock").write_text(json.dumps({"write": locked}))
    with pytest.raises(BusyError, match=r"for process 1 \(dvc repro\); .* or delete \.dvc/tmp/rwlock if"):
        train()


@OF_PYGTRIE
@pytest.mark.parametrize("content", [b"", bytes(200), b'{"write"', b"[]", b'{"write": 3}'])
@pytest.mark.parametrize(
    ("name", "remedy"), [(".dvc/tmp/rwlock", "; delete it if no"), ("dvc.lock", ", or delete it:")]
)
def test_a_damaged_file_of_dvc_is_one_line_with_the_remedy(
    project: Path, name: str, remedy: str, content: bytes
) -> None:
    add_data(project, OWN_STAGE)
    (project / name).write_bytes(content)
    with pytest.raises(DvcFileError, match=rf"{re.escape(name)}'.*{remedy}") as caught:
        train()
    assert (caught.value.exit_code, str(caught.value).isprintable()) == (69, True)
    (project / name).unlink()
    assert train() == "done"


def test_data_that_the_remote_lacks_name_its_configuration(project: Path) -> None:
    with pytest.raises(DataError, match=r"^data/raw\.csv: DVC cannot pull it .*; see \.dvc/config$") as caught:
        train("pull")
    assert str(caught.value).isprintable(), "DVC colours the addresses in its messages, also without a terminal"
    assert not (project / "data/raw.csv").exists()


def flipped(content: bytes) -> bytes:
    """One bit of the last value is another one: still a table."""
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]


def short(content: bytes) -> bytes:
    """The second half is missing, from a line end on: still a table."""
    return content[: content.index(b"\n", len(content) // 2) + 1]


def add_remote(project: Path, damage: Callable[[bytes], bytes] = lambda content: content) -> Path:
    """Give the project its remote, with a damaged copy of the data; return that object."""
    copy = project / thyroid_csv().relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.unlink(missing_ok=True)
    copy.write_bytes(damage(thyroid_csv().read_bytes()))
    copy.chmod(0o444)  # as `dvc push` leaves it; DVC checks an object that can be written
    return copy


def objects(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@OF_PYGTRIE
@pytest.mark.parametrize("damage", [flipped, short])
def test_a_damaged_copy_in_the_remote_is_not_trained_on(project: Path, damage: Callable[[bytes], bytes]) -> None:
    lock = (project / "dvc.lock").read_bytes()
    make_bundle(project / "var", DatosPaciente, version="7", pickled=b"never opened")
    copy = add_remote(project, damage)
    for _ in range(2):
        with pytest.raises(DataError, match=f"the DVC remote has a damaged copy, .*; delete {copy}, then `dvc push`"):
            train()
        assert not (project / "data/raw.csv").exists()
        assert not objects(project / "var/dvc/cache")
    assert (project / "dvc.lock").read_bytes() == lock
    assert not (project / "var/pipeline").exists()
    assert run_pipeline() == "version 7 is in production"
    add_remote(project)
    assert train("pull") == "data/raw.csv is up to date"


@OF_PYGTRIE
def test_a_damaged_copy_in_the_cache_is_fetched_again(project: Path) -> None:
    add_remote(project)
    train("pull")
    [cached] = objects(project / "var/dvc/cache")
    cached.chmod(0o644)
    cached.write_bytes(flipped(cached.read_bytes()))
    cached.chmod(0o444)
    (project / "data/raw.csv").unlink()
    assert train("pull") == "data/raw.csv is up to date"
    assert (project / "data/raw.csv").read_bytes() == cached.read_bytes() == thyroid_csv().read_bytes()


@OF_PYGTRIE
@pytest.mark.parametrize("stage", ["pull", None])
def test_data_that_their_owner_changed_stay_and_both_ways_out_are_named(project: Path, stage: str | None) -> None:
    add_remote(project)
    train("pull")
    raw = project / "data/raw.csv"
    changed = short(raw.read_bytes())
    raw.write_bytes(changed)
    with pytest.raises(DataError, match=r"`.*dvc add data/raw\.csv` if the change is intended; otherwise delete it"):
        train(stage)
    assert raw.read_bytes() == changed


def test_prepare_rejects_a_damaged_copy_that_was_pulled_by_hand(project: Path) -> None:
    add_remote(project, flipped)
    dvc(project, "pull", "data/raw.csv.dvc")
    with pytest.raises(DataError, match=r"^data/raw\.csv: not the file of data/raw\.csv\.dvc; "):
        prepare.main(Namespace(), TrainingContext())
    assert not (project / "var/pipeline").exists()


@OF_PYGTRIE
@pytest.mark.parametrize(
    ("stages", "until", "message"),
    [
        ("stages: {mine: {cmd: exit 3}}", None, "DVC: failed to run: exit 3, exited with 3"),
        ("stages: {mine: {cmd: exit 0, deps: [none.csv]}}", None, "DVC: dependency 'none.csv' does not exist"),
        ("stages: {mine: {cmd: exit 0}}", "yours", "DVC: Stage 'yours' not found inside 'dvc.yaml' file"),
        ("stages: {mine: {deps: [none.csv]}}", None, "DVC: './dvc.yaml' validation failed"),
    ],
)
def test_an_error_of_the_owners_stages_is_dvcs_line(
    project: Path, stages: str, until: str | None, message: str
) -> None:
    add_data(project, stages)
    with pytest.raises(TrainingError) as caught:
        train(until)
    assert str(caught.value) == message


def _damage(workspace: Workspace) -> None:
    (workspace.model_store.folder / "1/model.onnx").write_bytes(b"another")


def _lose(workspace: Workspace) -> None:
    shutil.rmtree(workspace.model_store.folder)


@pytest.fixture
def registered(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with a version in production, with the environment in which `make run` runs the command."""
    workspace.register(good_build())
    monkeypatch.setenv("PREDECIR_PACIENTE", "tests.support.builds:MadeUpPatient")
    for name in ("PREDECIR_PARAMS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return workspace


@pytest.mark.parametrize("damage", [_damage, _lose])
def test_a_lost_or_damaged_model_is_fetched_from_the_registry(
    registered: Workspace, damage: Callable[[Workspace], None]
) -> None:
    damage(registered)
    assert run_pipeline().startswith("version 1 is in production; it was lost or damaged here")
    assert registered.model_store.opened("1") is not None
    assert registered.links() == ("1", "1")


def test_it_trains_if_the_registry_has_lost_the_model_too(
    registered: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(registered)
    shutil.rmtree(registered.var / "mlartifacts")
    (registered.var.parent / "params.yaml").unlink()
    with pytest.raises(ParametersError, match=r"params\.yaml: cannot be read"):
        run_pipeline()
    assert "cannot be fetched: the bundle of version 1" in capsys.readouterr().out
