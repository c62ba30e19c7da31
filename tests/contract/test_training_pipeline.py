"""Decisions of `pipeline` before DVC runs."""

import os
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.diseases.thyroid import DatosPaciente
from shared.patient import Patient
from tests.support.builds import Workspace, good_build
from tests.support.bundles import RevisedThyroid, make_bundle
from tests.support.data import dvc_project
from training.commands import pipeline
from training.context import TrainingContext
from training.errors import BusyError, ParametersError

ARGUMENTS = Namespace(unless_served=True, until=None)


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


def test_another_run_in_the_folder_is_exit_code_75(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.lock import make_lock  # noqa: PLC0415 - a second, for this test alone

    for name in (
        "PATH",
        "SHELL",
        "DVC_SITE_CACHE_DIR",
        "DVC_NO_ANALYTICS",
        "MLFLOW_DISABLE_TELEMETRY",
        "PYTHONUNBUFFERED",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # the pipeline sets them; to be put back
    dvc_project(folder)
    (folder / ".dvc/tmp").mkdir()
    with make_lock(str(folder / ".dvc/tmp/lock")), pytest.raises(BusyError, match="try again") as caught:
        pipeline.main(Namespace(unless_served=False, until=None), TrainingContext())
    assert caught.value.exit_code == 75


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
