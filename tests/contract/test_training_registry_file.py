"""A local registry that was moved, copied or restored elsewhere, and a file that cannot be opened."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import create_engine, text

from tests.support.builds import MadeUpPatient, Workspace, another, good_build, new_workspace
from tests.support.odd_files import endless, pipe, replace_by
from training.__main__ import main
from training.commands.reproduce import open_version
from training.errors import RegistryError
from training.monitoring.predictions_db import Prediction
from training.registry.mlflow_errors import translate_errors
from training.registry.mlflow_registry import ModelRegistry

PATIENT = "tests.support.builds:MadeUpPatient"

_END_IT = "end the other program that uses it, or wait for it, and repeat the command"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, empty_registry_file: Path) -> Path:
    """A folder with version 1 in production."""
    home = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(home):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        new_workspace(empty_registry_file).register(good_build())
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it at a path that an address must quote, as the current folder; the original is there still."""
    copy = tmp_path / "Datos clínicos" / "100 % #1"
    shutil.copytree(original, copy, symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("PREDECIR_PACIENTE", PATIENT)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it where it was used in this process
    return copy


@pytest.mark.parametrize("odd", [pipe, endless])
def test_a_registry_that_is_no_regular_file_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], odd: Callable[[Path], None]
) -> None:
    replace_by(odd, home / "var/mlflow.db")
    assert main(["history"]) == 69
    assert "var/mlflow.db: not a regular file; it is the model registry's\n" in capsys.readouterr().err


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copied_folder_trains_promotes_and_reproduces_by_itself(
    home: Path, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, workspace = contents(original), Workspace()
    shutil.rmtree(home / "var/models")
    assert workspace.register(another(good_build())) == "version 2, production and staging"
    (line,) = capsys.readouterr().err.splitlines()
    here, old = (home / "var/mlartifacts").as_uri(), (original / "var/mlartifacts").as_uri()
    assert line.startswith("registry  var/mlflow.db was moved: its ")
    assert line.endswith(f" addresses lead to {here} now, not {old}")
    assert workspace.rollback() == "version 1, production (was 2)"
    assert workspace.links() == ("2", "1")
    for version in ("1", "2"):
        bundle = workspace.model_store.opened(version)
        assert bundle is not None
        shutil.rmtree(workspace.model_store.folder / version)
        assert open_version(answered_by(version, bundle.digest), workspace.context) == bundle, "from the registry"
    assert mlflow.sklearn.load_model("models:/inventada@production").n_features_in_ == len(MadeUpPatient.columns)
    assert capsys.readouterr().err == "", "the line is printed once"
    assert contents(original) == before, "nothing is written outside of the folder"
    with contextlib.closing(sqlite3.connect("var/mlflow.db")) as database:
        assert [row for row in database.iterdump() if old in row] == []


def test_a_folder_that_moved_is_not_made_again_at_its_old_path(home: Path) -> None:
    workspace = Workspace()
    workspace.register(good_build())
    moved = home.with_name("moved")
    home.rename(moved)
    with contextlib.chdir(moved):
        assert workspace.register(another(good_build())) == "version 2, production and staging"
        assert workspace.rollback() == "version 1, production (was 2)"
    assert not home.exists()


@pytest.mark.parametrize("uri", ["sqlite:///var/mlflow.db", "sqlite:///{home}/var/mlflow.db"])
def test_the_address_for_mlflow_s_own_tools_names_the_same_registry(home: Path, uri: str) -> None:
    registry = ModelRegistry("inventada", uri=uri.format(home=home), var=Path("var"))
    experiment = registry.client.get_experiment_by_name("inventada")
    assert experiment is not None
    assert experiment.artifact_location == (home / "var/mlartifacts").as_uri()


def test_a_registry_that_moved_without_its_artifacts_names_the_command(home: Path, original: Path) -> None:
    shutil.rmtree(home / "var/mlartifacts")
    before = contents(home)
    command = f"mv {original}/var/mlartifacts var/mlartifacts"
    with pytest.raises(
        RegistryError, match=f"^var/mlflow.db was moved here without its artifacts; move them too: {command}$"
    ):
        _ = Workspace().model_registry
    assert contents(home) == before


def test_a_restore_without_artifacts_trains_in_its_own_folder(home: Path, original: Path) -> None:
    shutil.rmtree(home / "var/mlartifacts")
    set_aside = original.with_name("set aside")
    original.rename(set_aside)
    try:
        assert Workspace().register(another(good_build())) == "version 2, production and staging"
        assert not original.exists()
    finally:
        set_aside.rename(original)


def test_addresses_elsewhere_stay(home: Path, original: Path) -> None:
    elsewhere = (original / "var/mlartifacts of another").as_uri().replace("%20", "")
    with contextlib.closing(sqlite3.connect("var/mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'Default'", (elsewhere,))
        database.execute("UPDATE experiments SET artifact_location = 's3://bucket/folder' WHERE name = 'otra'")
    registry = Workspace().model_registry
    found = {experiment.name: experiment.artifact_location for experiment in registry.client.search_experiments()}
    own = (home / "var/mlartifacts").as_uri()
    assert found == {"Default": elsewhere, "otra": "s3://bucket/folder", "inventada": own}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"no database, and never was one" * 9,
            "file is not a database; restore it from the backup (docs/operations/ru",
        ),
        (
            b"SQLite format 3\0" + b"\xff" * 5000,
            "file is not a database; restore it from the backup (docs/operations/r",
        ),
        (None, "unable to open database file; it must be a file that this user can read and write"),
    ],
)
def test_a_registry_that_is_no_database_is_one_line_and_69(
    home: Path, capfd: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    file = home / "var/mlflow.db"
    file.unlink()
    file.mkdir() if content is None else file.write_bytes(content)
    for words in (
        ["history"],
        ["rollback", "--reason", "a test"],
        ["promote", "1", "--to", "staging", "--reason", "a test"],
    ):
        assert main(words) == RegistryError.exit_code
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"{words[0]}: model registry var/mlflow.db: {reason}")


def test_a_registry_with_the_tables_of_another_program_is_one_line_and_69(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`predicciones.db` in its place: it has a revision of Alembic that MLflow does not know."""
    (home / "var/mlflow.db").unlink()
    with contextlib.closing(sqlite3.connect("var/mlflow.db", isolation_level=None)) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('0005')")

    assert main(["history"]) == RegistryError.exit_code
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("history: model registry ")
    assert "its tables are of another program, or of a newer MLflow; restore it from the backup" in line


def test_a_registry_that_another_program_has_locked_is_one_line_and_69(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(sqlite3.connect(home / "var/mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert main(["history"]) == RegistryError.exit_code
    assert capfd.readouterr().err == f"history: model registry var/mlflow.db: database is locked; {_END_IT}\n"


def test_a_lock_that_begins_after_the_check_is_one_line(home: Path) -> None:
    engine = create_engine(f"sqlite:///{home}/var/mlflow.db", connect_args={"timeout": 0})  # MLflow waits for 20 s
    message = rf"^model registry var/mlflow\.db: database is locked; {_END_IT}$"
    with contextlib.closing(sqlite3.connect(home / "var/mlflow.db")) as database:
        database.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(RegistryError, match=message),
            translate_errors("var/mlflow.db"),
            engine.begin() as connection,
        ):
            connection.execute(text("UPDATE experiments SET artifact_location = NULL"))


def answered_by(version: str, digest: str) -> Prediction:
    return Prediction(
        "id", "now", "{}", "sano", "{}", "inventada", version, digest, MadeUpPatient.digest, "g", "h", None, None
    )


async def test_a_registry_that_redirects_is_not_followed(home: Path) -> None:
    requested: list[str] = []

    async def redirect(request: web.Request) -> web.StreamResponse:
        requested.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    async with TestServer(app) as server:
        uri = str(server.make_url("/")).rstrip("/")
        with pytest.raises(RegistryError, match=f"model registry {uri}: .*307"):
            await asyncio.to_thread(ModelRegistry, "inventada", uri=uri, var=home / "var")
    assert requested
    assert "/elsewhere" not in requested


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, '{"error_code": "X", "message": "' + "y" * 10_000 + '"}', "X: yyy"),
        (401, "who?", "API request to endpoint"),
        (200, '{"experiment": 3}', "does not answer as MLflow does"),
    ],
)
async def test_what_a_registry_answers_is_one_short_line_without_the_password(
    home: Path, status: int, body: str, reason: str
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(status=status, text=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/")).rstrip("/").replace("//", "//ana:geheim@")
        with pytest.raises(RegistryError, match=f"^model registry 127.*: {reason}") as raised:
            await asyncio.to_thread(ModelRegistry, "inventada", uri=url, var=home / "var")
    assert len(str(raised.value)) < 400
    assert "geheim" not in str(raised.value)
