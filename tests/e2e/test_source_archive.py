"""A source archive without git, in a folder whose path has spaces, accents and a quote: `make train` and `make run`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shared.artifacts.bundle import CARD
from tests.support.paths import ROOT
from tests.support.processes import clean_environment, serving

FOLDERS = ("services", "shared", "training", "requirements", ".dvc", "data")
FILES = ("Makefile", "dvc.yaml", "dvc.lock", ".dvcignore")
MAKE = ("make", "--old-file=.venv/.uv", "--old-file=.venv/.run")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source after `make train`, with this environment instead of one that make would install."""
    folder = tmp_path_factory.mktemp("home") / "Datos clínicos" / "Predecir (año de José's)"
    ignored = shutil.ignore_patterns("tmp", "config.local", "raw.csv", "__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    write_quick_parameters(folder / "params.yaml")
    ended = subprocess.run(
        [*MAKE, "train"],
        cwd=folder,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def write_quick_parameters(path: Path) -> None:
    """Write our parameters with less to train and to evaluate, and with gates for such a model."""
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    parameters["model"] |= {"max_iter": 20, "members": 1}
    parameters["choice"]["class_weight_powers"] = [0.4]
    parameters["evaluation"]["bootstrap_resamples"] = 50
    parameters["gates"] |= {"accuracy": 0.8, "balanced_accuracy": 0.6, "average_precision": {}, "recall": {}}
    parameters["gates"] |= {"expected_calibration_error": 0.1}
    parameters["gates"]["subgroups"] |= {"accuracy": 0.7, "balanced_accuracy": 0.5}
    path.write_text(yaml.safe_dump(parameters))


def test_it_trains_and_the_card_states_that_the_commit_is_not_known(archive: Path) -> None:
    production = archive / "var/models/tiroides/production"
    manifest = json.loads((production / "manifest.json").read_text())
    assert (manifest["git_commit"], manifest["git_dirty"]) == ("unknown", None)
    assert "sin su repositorio git" in (production / CARD).read_text()


def test_it_serves_what_it_has_trained(archive: Path) -> None:
    with serving([*MAKE, "run"], archive) as process:
        assert process.get("/modelo").json()["sirve"]["version"] == "1"
    assert "version 1 is in production" in (archive / "server.log").read_text()
