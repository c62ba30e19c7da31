"""The DAG, run by a real Airflow in its own environment; each task runs in ours."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.anemia import environment, lay_down
from tests.support.data import dvc
from tests.support.paths import ROOT
from tests.support.private_files import open_to_others

AIRFLOW = Path(sys.prefix) / "airflow/bin/airflow"


class Scheduler:
    """An Airflow with our DAGs and nothing else, for the disease in `folder`."""

    def __init__(self, home: Path, folder: Path) -> None:
        if not AIRFLOW.exists():
            pytest.fail(f"no Airflow at {AIRFLOW}: run `make airflow`", pytrace=False)
        self._home = home
        self._environment = {
            **os.environ,
            **environment(folder),
            "PREDECIR_PARAMS": str(folder / "params.yaml"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "deploy/airflow/dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_COLOR": "1",
        }
        del self._environment["PYTHONPATH"]  # a task's, not Airflow's
        self.run("db", "migrate")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `airflow words…` to its end."""
        return subprocess.run(
            [AIRFLOW, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=400,
        )

    def states(self) -> dict[str, str]:
        """Return the final state of each task of the last run."""
        with contextlib.closing(sqlite3.connect(self._home / "airflow.db")) as database:
            return dict(
                database.execute(
                    "SELECT task_id, state FROM task_instance "
                    "WHERE run_id = (SELECT run_id FROM dag_run ORDER BY id DESC LIMIT 1)"
                )
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disease with its data in a DVC remote only."""
    folder = lay_down(tmp_path_factory.mktemp("scheduled") / "anemia")
    dvc(folder, "init", "--no-scm")
    dvc(folder, "remote", "add", "--default", "site", str(folder.parent / "remote"))
    dvc(folder, "add", "data/raw.csv")
    dvc(folder, "push")
    (folder / "data/raw.csv").unlink()
    return folder


@pytest.fixture(scope="module")
def scheduler(folder: Path) -> Scheduler:
    return Scheduler(folder.parent / "airflow", folder)


STEPS = ["pull", "check", "train", "evaluate", "register"]


def test_a_run_pulls_trains_promotes_and_reports(scheduler: Scheduler, folder: Path) -> None:
    ended = scheduler.run("dags", "test", "predecir")
    assert ended.returncode == 0, ended.stdout
    assert scheduler.states() == dict.fromkeys([*STEPS, "report", "passed"], "success")
    assert (folder / "var/models/anemia/staging").readlink().name == "1"
    assert (folder / "var/models/anemia/production").readlink().name == "1"
    assert "production" in ended.stdout.partition("training history")[2]
    assert open_to_others(folder / "var", folder / "data/raw.csv") == []


def test_invalid_data_fail_the_run_which_still_reports(scheduler: Scheduler, folder: Path) -> None:
    with (folder / "data/raw.csv").open("a") as file:
        file.write("2024-12-01,404,F,12,80,20,0,normal\n")
    dvc(folder, "add", "data/raw.csv")
    ended = scheduler.run("dags", "test", "predecir")
    assert ended.returncode != 0
    assert "data/raw.csv, line 422: edad" in ended.stdout
    assert scheduler.states() == {
        "pull": "success",
        "check": "failed",
        **dict.fromkeys(["train", "evaluate", "register", "passed"], "upstream_failed"),
        "report": "success",
    }
