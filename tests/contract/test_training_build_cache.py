"""The build cache: when a registered build is skipped, and when it is checked again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.builds import Workspace, another, good_build, new_workspace
from training.registry.build_cache import cached_summary, store_summary
from training.settings import TrainingSettings

SETTINGS = TrainingSettings(PREDECIR_VAR=Workspace.var, mlflow_tracking_uri=None)
BUILD = "a build"


@pytest.fixture(scope="module")
def settled_once(tmp_path_factory: pytest.TempPathFactory, empty_registry_file: Path) -> Path:
    folder = tmp_path_factory.mktemp("settled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        workspace = new_workspace(empty_registry_file)
        workspace.register(another(good_build()))
        workspace.register(good_build())
        store_summary(BUILD, "version 2, production and staging", SETTINGS, workspace.model_store)
    return folder


@pytest.fixture
def settled(settled_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with two registered builds; the later is in production, and cached under the key `BUILD`."""
    shutil.copytree(settled_once, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Workspace()


def test_an_unchanged_build_is_found_in_the_cache(settled: Workspace) -> None:
    assert cached_summary(BUILD, SETTINGS, settled.model_store) == "version 2, production and staging"


def test_another_build_or_a_missing_file_is_not_in_the_cache(settled: Workspace) -> None:
    assert cached_summary("another build", SETTINGS, settled.model_store) is None
    (settled.var / "pipeline/registered.json").unlink()
    assert cached_summary(BUILD, SETTINGS, settled.model_store) is None


def test_a_registry_on_a_server_is_never_cached(settled: Workspace) -> None:
    server = TrainingSettings(PREDECIR_VAR=Workspace.var, mlflow_tracking_uri="http://127.0.0.1:9")
    store_summary(BUILD, "version 2, production and staging", server, settled.model_store)
    assert cached_summary(BUILD, server, settled.model_store) is None


def _move_the_alias(workspace: Workspace) -> None:
    import mlflow  # noqa: PLC0415 - seconds, for this test alone

    client = mlflow.MlflowClient(registry_uri=f"sqlite:///{workspace.var.resolve()}/mlflow.db")
    client.set_registered_model_alias("inventada", "production", "1")


def _roll_back(workspace: Workspace) -> None:
    workspace.rollback()


def _move_the_link(workspace: Workspace) -> None:
    workspace.model_store.point("production", "1")


def _lose_a_link(workspace: Workspace) -> None:
    (workspace.model_store.folder / "staging").unlink()


def _tamper(workspace: Workspace) -> None:
    (workspace.model_store.folder / "2/model.onnx").write_bytes(b"another")


def _replace_the_key(workspace: Workspace) -> None:
    (workspace.var / "keys/bundle.pub").unlink()


@pytest.mark.parametrize(
    "change", [_move_the_alias, _roll_back, _move_the_link, _lose_a_link, _tamper, _replace_the_key]
)
def test_any_change_invalidates_the_cache(settled: Workspace, change: Callable[[Workspace], None]) -> None:
    change(settled)
    assert cached_summary(BUILD, SETTINGS, settled.model_store) is None
