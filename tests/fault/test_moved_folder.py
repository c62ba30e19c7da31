"""A folder that is moved between two runs under load: no answer is lost, and each can be reproduced."""

import asyncio
import contextlib
import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from shared.artifacts.bundle import PRODUCTION
from tests.support.builds import Workspace, another, empty_registry, good_build, new_workspace
from tests.support.database import is_settled, query
from tests.support.load import Plan, load
from tests.support.processes import Process, running
from tests.support.waiting import until, until_now
from training.commands import reproduce
from training.context import TrainingContext

PATIENT = {"PREDECIR_PACIENTE": "tests.support.builds:MadeUpPatient"}
PLAN = Plan(patient=lambda number: {"a": number % 9 - 3.25, "b": number % 7 - 3.5})
REPRODUCED = 10
VERSIONS = "SELECT DISTINCT modelo_version FROM predicciones"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Process]:
    """Run the local profile in `folder`; at the end all its answers are recorded, and it has stopped in order."""
    with running("services.local", folder, PATIENT) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        yield process
        until_now(lambda: is_settled(process), seconds=60)
        assert process.get("/conciliacion").json()["diferencia"] == 0
        assert process.stop() == 0


async def test_a_moved_folder_serves_trains_and_reproduces_every_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**PATIENT, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        monkeypatch.setenv(name, value)
    first, second = tmp_path / "first", tmp_path / "Segunda clínica" / "second"
    first.mkdir()
    second.parent.mkdir()
    with contextlib.chdir(first):
        (tmp_path / "empty").mkdir()
        new_workspace(empty_registry(tmp_path / "empty")).register(good_build())
    with served(first) as process:
        async with load(process.url, PLAN) as before:
            await before.more(200)
    first.rename(second)
    monkeypatch.chdir(second)
    shutil.rmtree(second / "var/models")  # as after a restore: it is not in the backup
    workspace = Workspace()
    assert workspace.register(good_build()) == "version 1 again, production and staging"
    with served(second) as process:
        async with load(process.url, PLAN) as after:
            await after.more(200)
            assert (
                await asyncio.to_thread(workspace.register, another(good_build()))
                == "version 2, production and staging"
            )
            await until(lambda: "2" in {version for (version,) in query(second, VERSIONS)}, seconds=60)
            await after.more(100)
    assert before.rejected + after.rejected == []
    assert before.cut + after.cut == 0
    recorded = [identifier for (identifier,) in query(second, "SELECT id FROM predicciones")]
    assert sorted(before.answered + after.answered) == sorted(recorded)
    assert workspace.link(PRODUCTION) == "2"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it where it was used in this process
    shutil.rmtree(second / "var/models")  # so that bundles come from the registry
    for identifier in (*before.answered[:REPRODUCED], *after.answered[-REPRODUCED:]):
        said = await asyncio.to_thread(reproduce.main, Namespace(id=UUID(identifier)), TrainingContext())
        assert said == "the same, bit for bit: all 3 probabilities; the row's hash is right"
    assert not first.exists(), "nothing is written to the old place"
