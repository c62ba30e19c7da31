"""The trigger on SQLite."""

import argparse
import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from shared.artifacts.bundle import Bundle
from shared.artifacts.errors import BundleError
from shared.settings import SettingsError
from tests.support.bundles import PacienteDePrueba, make_bundle, reseal
from tests.support.paths import ROOT
from tests.support.training_cases import small_parameters
from tests.support.trigger_suite import *  # noqa: F403 - the suite itself
from tests.support.trigger_suite import LIMITS, beyond, prediction, record
from training.commands import trigger
from training.context import TrainingContext
from training.errors import DatabaseError, ParametersError, StageFailedError
from training.stage_runner import run

PATIENT = "tests.support.bundles:PacienteDePrueba"


@pytest.fixture
def url(tmp_path: Path) -> str:
    path = tmp_path / "predicciones.db"
    sqlite3.connect(path).close()
    path.touch()
    return f"sqlite:///{path}"


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, production: Bundle) -> None:
    with pytest.raises(DatabaseError, match="No such file"):
        await beyond(f"sqlite:///{tmp_path}/none.db", production)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("wrong", ["", "mysql://somewhere/db", "sqlite://", "predicciones.db"])
async def test_an_address_of_no_database_of_ours_is_one_line(wrong: str, production: Bundle) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL: expected"):
        await beyond(wrong, production)


@pytest.fixture
def folder(tmp_path: Path, url: str, production: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parameters, version 1 in production and an empty database; its only stage does nothing."""
    monkeypatch.chdir(tmp_path)
    variables = {"PREDECIR_PACIENTE": PATIENT, "DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREDECIR_PARAMS", raising=False)
    reseal(make_bundle(tmp_path / "var", PacienteDePrueba), reference=production.manifest.reference)
    write_parameters(trigger=LIMITS.model_dump())
    Path("dvc.yaml").write_text("stages: {mine: {cmd: exit 0}}")
    for name, text in (
        ("data/raw.csv", "t\n37\n"),
        (".dvc/config", "[core]\n    no_scm = true\n"),
        (".dvc/tmp/none", ""),
    ):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text(text)
    asyncio.run(record(url))
    return tmp_path


def write_parameters(**sections: object) -> None:
    parameters = small_parameters().model_dump(mode="json")
    parameters["gates"] |= {"average_precision": {}, "recall": {}}
    parameters["subgroups"]["bands"] = {}
    Path("params.yaml").write_text(yaml.safe_dump(parameters | sections))


def record_drift(url: str) -> None:
    asyncio.run(record(url, *[prediction(seq, age=119, ill=seq % 2 > 0) for seq in range(1, 101)]))


def run_trigger() -> str:
    """Run the command as a scheduler does."""
    return trigger.main(argparse.Namespace(), TrainingContext())


def report(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "var/trigger/report.json").read_text())
    return content


def starts(folder: Path) -> int:
    return len((folder / "var/trigger/started.jsonl").read_text().splitlines())


def test_parameters_without_limits_name_the_page_that_has_them(folder: Path) -> None:
    write_parameters()
    with pytest.raises(
        ParametersError, match=r"^params\.yaml: trigger: missing; docs/guides/training\.md has its keys$"
    ):
        run_trigger()
    assert not (folder / "var/trigger").exists()


def test_without_a_model_in_production_there_is_nothing_to_compare_with(folder: Path) -> None:
    (folder / "var/models/prueba/production").unlink()
    with pytest.raises(
        BundleError, match=r"production/manifest\.json: not there; train a model first \(`make train`\)$"
    ):
        run_trigger()


def test_nothing_beyond_its_limit_starts_nothing(folder: Path) -> None:
    assert run_trigger() == "0 predictions of 30 days compared with version 1: nothing beyond its limit"
    assert (report(folder)["started"], (folder / "var/trigger/started.jsonl").exists()) == (False, False)


def test_drift_starts_the_pipeline_once_in_a_period(folder: Path, url: str) -> None:
    record_drift(url)
    assert run_trigger() == "the pipeline ran"
    assert (report(folder)["started"], starts(folder)) == (True, 1)
    assert run_trigger() == (
        "100 predictions of 30 days compared with version 1: beyond its limit: edad.psi; started within 7 days already"
    )


def test_a_pipeline_that_fails_gives_its_exit_code_and_counts_as_a_start(folder: Path, url: str) -> None:
    record_drift(url)
    (folder / "data/raw.csv").unlink()
    with pytest.raises(StageFailedError, match=r"^stopped at the pipeline$") as caught:
        run_trigger()
    assert (caught.value.exit_code, report(folder)["started"], starts(folder)) == (65, True, 1)


def test_a_busy_pipeline_does_not_count_as_a_start(folder: Path, url: str) -> None:
    from dvc.lock import make_lock  # noqa: PLC0415 - a second, for this test alone

    record_drift(url)
    with make_lock(str(folder / ".dvc/tmp/lock")), pytest.raises(StageFailedError) as caught:
        run_trigger()
    assert (caught.value.exit_code, report(folder)["started"], starts(folder)) == (75, False, 0)


def test_a_report_that_cannot_be_written_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "var/trigger").touch()
    assert run("trigger", run_trigger) == 69
    assert capsys.readouterr().err == "trigger: var/trigger/report.json: cannot be written (File exists)\n"
