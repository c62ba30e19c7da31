"""Concurrent promotions, with a shared registry file and with a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import ModelStore
from shared.diseases.thyroid import DatosPaciente
from tests.support.model_registry import ModelRegistry, model_registry
from tests.support.paths import ROOT
from tests.support.promoting import ROUNDS
from training.registry import mlflow_registry

NAME = DatosPaciente.disease.name


def race(folder: Path, registry: ModelRegistry) -> None:
    """Run three promotions at once; assert that one won each round, and that alias, links and log name its winner."""
    versions = [registry.register(DatosPaciente, seed=seed)[0] for seed in range(3)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.promoting", registry.url, *versions],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    outcome = json.loads(ended.stdout)
    assert outcome["exits"] == [0, 0, 0], ended.stderr
    winners = dict(outcome["winners"])
    assert len(winners) == len(outcome["winners"]) == ROUNDS, "one each round"
    registered = mlflow_registry.ModelRegistry(NAME, uri=registry.url, var=folder / "var")
    log = registered.promotion_log()
    assert [stored.number for stored in log.entries] == list(range(1, 3 * ROUNDS + 1))
    assert (len(log.late), log.altered) == (2 * ROUNDS, None)
    last = log.last(PRODUCTION)
    assert last is not None
    link = ModelStore(folder / "var", NAME, DatosPaciente.digest).folder / PRODUCTION
    assert {last.entry.version, registered.aliases()[PRODUCTION], link.readlink().name} == {winners[ROUNDS - 1]}


def test_one_wins_with_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    (tmp_path / "var").mkdir()
    mlflow_registry.ModelRegistry(
        "otra", uri=f"sqlite:///{tmp_path}/mlflow.db", var=tmp_path / "var"
    )  # makes the tables
    race(tmp_path, ModelRegistry(tmp_path, f"sqlite:///{tmp_path}/mlflow.db"))


def test_one_wins_with_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    with model_registry(tmp_path) as registry:
        race(tmp_path, registry)
