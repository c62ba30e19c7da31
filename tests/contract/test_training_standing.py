"""When a build that was registered needs no second look, and when it does."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import Place, another, good_build, new_place
from training.registry.build_cache import remember, unchanged
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = TrainingSettings(PREDECIR_VAR=Place.var, mlflow_tracking_uri=None)
BUILD = "a build"


@pytest.fixture(scope="module")
def settled_once(tmp_path_factory: pytest.TempPathFactory, an_empty_registry: Path) -> Path:
    folder = tmp_path_factory.mktemp("settled")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        place = new_place(an_empty_registry)
        place.register(another(good_build()))
        place.register(good_build())
        remember(BUILD, "version 2, production and staging", SETTINGS, place.model_store)
    return folder


@pytest.fixture
def settled(settled_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Give a place where two builds were registered, the later is in production, and `BUILD` stands for it."""
    shutil.copytree(settled_once, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Place()


def test_what_still_stands_is_said_again(settled: Place) -> None:
    assert unchanged(BUILD, SETTINGS, settled.model_store) == "version 2, production and staging"


def test_nothing_is_known_of_another_build_or_before_the_first(settled: Place) -> None:
    assert unchanged("another build", SETTINGS, settled.model_store) is None
    (settled.var / "pipeline/registered.json").unlink()
    assert unchanged(BUILD, SETTINGS, settled.model_store) is None


def test_a_registry_on_a_server_is_always_asked(settled: Place) -> None:
    server = TrainingSettings(PREDECIR_VAR=Place.var, mlflow_tracking_uri="http://127.0.0.1:9")
    remember(BUILD, "version 2, production and staging", server, settled.model_store)
    assert unchanged(BUILD, server, settled.model_store) is None


def _move_the_alias(place: Place) -> None:
    import mlflow  # noqa: PLC0415 - seconds, for this test alone

    client = mlflow.MlflowClient(registry_uri=f"sqlite:///{place.var.resolve()}/mlflow.db")
    client.set_registered_model_alias("inventada", "production", "1")


def _roll_back(place: Place) -> None:
    place.rollback()


def _move_the_link(place: Place) -> None:
    place.model_store.point("production", "1")


def _lose_a_link(place: Place) -> None:
    (place.model_store.folder / "staging").unlink()


def _tamper(place: Place) -> None:
    (place.model_store.folder / "2/model.onnx").write_bytes(b"another")


def _replace_the_key(place: Place) -> None:
    (place.var / "keys/bundle.pub").unlink()


@pytest.mark.parametrize(
    "meddle", [_move_the_alias, _roll_back, _move_the_link, _lose_a_link, _tamper, _replace_the_key]
)
def test_whatever_was_changed_since_is_looked_into(settled: Place, meddle: Callable[[Place], None]) -> None:
    meddle(settled)
    assert unchanged(BUILD, SETTINGS, settled.model_store) is None
