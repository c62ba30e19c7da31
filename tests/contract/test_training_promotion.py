"""Moves of aliases with a real SQLite registry, sealed bundles and links, and every defect that these can have."""

import contextlib
import json
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.artifacts.bundle import MANIFEST, PRODUCTION, STAGING, Manifest, seal
from shared.artifacts.signing import signing_key
from shared.artifacts.store import FORCED_TAG, ModelStoreError, forced_past
from tests.support.builds import (
    MadeUpPatient,
    RevisedClassWorkspace,
    Workspace,
    another,
    good_build,
    leaking_build,
    leaking_cases,
    new_workspace,
    shuffled_build,
    underconfident_build,
)
from tests.support.odd_files import huge, replace_by
from tests.support.training_cases import made_up_cases
from training.commands.history import as_json, as_table
from training.config import Parameters
from training.context import TrainingContext
from training.errors import AlreadyMovedError, DataError, GatesFailedError, PromotionError, RegistryError
from training.registry.mlflow_registry import ModelRegistry
from training.registry.promotion import AliasChange, move_alias, read_alias
from training.settings import TrainingSettings


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory, empty_registry_file: Path) -> Path:
    """A folder with version 2 in production, and version 1 before it; beside it a copy from which every test starts."""
    home = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(home):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        workspace = new_workspace(empty_registry_file)
        workspace.register(good_build())
        workspace.register(another(good_build()))
    shutil.copytree(home, home.with_name("two_versions"), symlinks=True)
    return home


@pytest.fixture
def two(two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The folder `two_versions`, restored at the same path, which MLflow has written into its tables."""
    shutil.rmtree(two_versions)
    shutil.copytree(two_versions.with_name("two_versions"), two_versions, symlinks=True)
    monkeypatch.chdir(two_versions)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Workspace()


@contextmanager
def untouched(workspace: Workspace) -> Iterator[None]:
    """Assert that the body moves neither alias nor link, and adds no entry to the log."""
    before = workspace.links(), workspace.entries()
    yield
    assert (workspace.links(), workspace.entries()) == before


def change_production(workspace: Workspace, version: str, model_registry: ModelRegistry) -> None:
    """Move production to `version` through `model_registry`."""
    state = read_alias(workspace.model_registry, PRODUCTION)
    move_alias(AliasChange("promote", version, "a test"), state, model_registry, workspace.model_store)


def bundle_in_registry(workspace: Workspace, version: str) -> Path:
    (manifest,) = [
        path
        for path in (workspace.var / "mlartifacts").glob("*/artifacts/bundle/manifest.json")
        if json.loads(path.read_text())["version"] == version
    ]
    return manifest.parent


def test_rollback_and_promotion_move_alias_link_and_log(two: Workspace) -> None:
    assert two.rollback() == "version 1, production (was 2)"
    assert two.links() == ("2", "1")
    assert two.promote("2") == "version 2, production (was 1)"
    assert two.links() == ("2", "2")
    assert two.promote("2") == "version 2 is in production already"
    table = as_table(two.model_registry.promotion_log())
    assert [line.split()[3:7] for line in table[1:]] == [
        ["staging", "-", "1", "register"],
        ["production", "-", "1", "register"],
        ["staging", "1", "2", "register"],
        ["production", "1", "2", "register"],
        ["production", "2", "1", "rollback"],
        ["production", "1", "2", "promote"],
    ]


def test_the_log_has_user_reason_and_the_whole_gate_report(two: Workspace) -> None:
    two.rollback()
    two.promote("2")
    history = two.model_registry.promotion_log()
    entry = json.loads(as_json(history.entries[-1], history))
    assert (entry["reason"], entry["outcome"], entry["forced"]) == ("a test", "done", [])
    assert "@" in entry["who"]
    gates = {verdict["gate"]: verdict for verdict in entry["report"]["verdicts"]}
    assert {"same_data", "data_checks", "recall.grave", "latency.one_row_p99_ms", "production.accuracy"} <= set(gates)
    assert gates["production.log_loss"]["interval"] == [0.0, 0.0], "the two differ in nothing"
    assert (entry["report"]["data_hash"], entry["report"]["production"]) == ("0" * 32, "1")


def test_a_user_without_a_name_is_logged_by_number(two: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as in a container that runs as any user
    two.rollback()
    entry = two.model_registry.promotion_log().entries[-1].entry
    assert entry is not None
    assert entry.who == f"{os.getuid()}@{socket.gethostname()}"


def test_a_second_rollback_beyond_the_first_version_is_rejected(two: Workspace) -> None:
    two.rollback()
    with untouched(two), pytest.raises(PromotionError, match="has no version before"):
        two.rollback()


@pytest.mark.parametrize(
    ("model", "names"),
    [("shuffled", "balanced_accuracy"), ("underconfident", "expected_calibration_error"), ("leaking", "data_checks")],
)
def test_a_bad_model_is_rejected_by_a_gate_that_names_why(two: Workspace, model: str, names: str) -> None:
    build = {"shuffled": shuffled_build, "underconfident": underconfident_build, "leaking": leaking_build}[model]()
    with pytest.raises(GatesFailedError, match=rf"version 3 stays in staging; it does not pass: .*{names}"):
        two.register(build, leaking_cases() if model == "leaking" else None)
    assert two.links() == ("3", "2")
    before = two.entries()
    with pytest.raises(GatesFailedError, match=rf"is not promoted; it does not pass: .*{names}.*; --force overrides"):
        two.promote("3")
    assert (two.links(), two.entries()) == (("3", "2"), before)


def test_the_leaking_column_is_named(two: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GatesFailedError):
        two.register(leaking_build(), leaking_cases())
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "FAILED  data_checks" in line]
    assert "leakage.d" in line


def test_a_worse_model_is_detected_as_worse_than_production(two: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GatesFailedError, match=r"production\.accuracy"):
        two.register(shuffled_build())
    assert "(worse, 95 % interval -" in capsys.readouterr().out


def test_force_is_logged_with_the_gates_that_failed(two: Workspace) -> None:
    with pytest.raises(GatesFailedError):
        two.register(underconfident_build())
    assert "FORCED past expected_calibration_error" in two.promote("3", force=True)
    assert two.links() == ("3", "3")
    history = two.model_registry.promotion_log()
    assert json.loads(as_json(history.entries[-1], history))["forced"][0] == "expected_calibration_error"
    assert "FORCED past 2 gates  a test" in as_table(history)[-1]
    assert two.rollback() == "version 2, production (was 3)"


def test_a_forced_version_is_marked_for_its_card_and_in_mlflow(two: Workspace) -> None:
    with pytest.raises(GatesFailedError):
        two.register(underconfident_build())
    two.promote("3", force=True)
    folder, client = two.model_store.folder, two.model_registry.client

    def tag() -> str | None:
        return client.get_model_version(MadeUpPatient.disease.name, "3").tags.get(FORCED_TAG)

    assert forced_past(folder / "3").startswith("expected_calibration_error, ")
    assert tag() == forced_past(folder / "3")
    assert forced_past(folder / "2") == ""
    two.rollback()
    assert tag() == forced_past(folder / "3") != ""
    two.model_store.note_forced("3", "")
    two.promote("3", force=True)
    assert tag() == forced_past(folder / "3") != "", "the log has it, so a lost note is written again"


def test_force_where_nothing_failed_is_an_ordinary_promotion(two: Workspace) -> None:
    two.rollback()
    assert "FORCED" not in two.promote("2", force=True)


def test_staging_needs_no_gates(two: Workspace) -> None:
    assert two.promote("1", STAGING) == "version 1, staging (was 2)"
    assert two.links() == ("1", "2")


@pytest.mark.parametrize("version", ["9", "0", "-1", "two"])
def test_an_unknown_version_is_rejected(two: Workspace, version: str) -> None:
    with untouched(two), pytest.raises(PromotionError, match=f"no version {version} of inventada; there are 2, 1 to 2"):
        two.promote(version)


@pytest.mark.parametrize("force", [False, True])
def test_a_tampered_bundle_is_rejected_even_by_force(two: Workspace, *, force: bool) -> None:
    two.rollback()
    model = bundle_in_registry(two, "2") / "model.pkl"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    with untouched(two), pytest.raises(PromotionError, match=r"version 2 is not signed by var/keys/bundle\.pub"):
        two.promote("2", force=force)


def test_a_file_in_the_registry_larger_than_any_of_ours_is_not_downloaded(two: Workspace) -> None:
    two.rollback()
    replace_by(huge, bundle_in_registry(two, "2") / "model.pkl")
    with (
        untouched(two),
        pytest.raises(RegistryError, match="the bundle of version 2 has a file of more than 268435456 bytes"),
    ):
        two.promote("2")


def test_a_bundle_without_its_signature_is_rejected(two: Workspace) -> None:
    two.rollback()
    (bundle_in_registry(two, "2") / "manifest.sig").unlink()
    with untouched(two), pytest.raises(PromotionError, match="version 2 is incomplete in the registry"):
        two.promote("2")


def test_a_rollback_to_a_bundle_of_another_key_is_rejected(two: Workspace) -> None:
    for name in ("bundle.key", "bundle.pub"):
        (two.var / "keys" / name).unlink()
    signing_key(two.var / "keys")
    with untouched(two), pytest.raises(PromotionError, match="version 1 is not signed by"):
        two.rollback()


def test_a_version_for_another_patient_class_is_rejected(two: Workspace) -> None:
    two.rollback()
    with untouched(two), pytest.raises(PromotionError, match="version 2 was trained for another patient class"):
        RevisedClassWorkspace().promote("2")


@pytest.mark.parametrize("force", [False, True])
def test_a_version_sealed_as_another_model_is_rejected_even_by_force(two: Workspace, *, force: bool) -> None:
    two.rollback()
    source = bundle_in_registry(two, "2")
    manifest = Manifest.model_validate_json((source / MANIFEST).read_bytes()).model_copy(update={"name": "otra"})
    seal(source, manifest, signing_key(two.var / "keys"))
    with untouched(two), pytest.raises(PromotionError, match="version 2 is sealed as model otra, not inventada"):
        two.promote("2", force=force)


def test_a_version_made_from_other_data_may_know_the_cases_and_is_rejected(two: Workspace) -> None:
    older = good_build().preparation.model_copy(update={"data_hash": "1" * 32})
    two.rollback()
    two.write_preparation(older)
    with untouched(two), pytest.raises(GatesFailedError, match="it does not pass: same_data, data_checks"):
        two.promote("2")


@pytest.mark.parametrize(
    ("split", "cases", "reason"),
    [
        (
            {"method": "random", "test_share": 0.25, "seed": 0},
            400,
            "it was trained on other data or another split, and may know these cases",
        ),
        ({"method": "time", "date": "2020-12-01"}, 330, "it was trained on all of these cases"),
    ],
)
def test_a_version_in_production_that_may_know_the_cases_is_not_compared(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], split: dict[str, object], cases: int, reason: str
) -> None:
    build = good_build()
    parameters = Parameters.model_validate(build.parameters.model_dump() | {"split": split})
    workspace.register(replace(build, parameters=parameters))
    assert workspace.register(build, made_up_cases().where(np.arange(400) < cases)).startswith("version 2, production")
    assert f"gates     not compared with version 1: {reason}" in capsys.readouterr().out.splitlines()


def test_missing_cases_for_the_gates_name_the_command_to_run(two: Workspace) -> None:
    two.rollback()
    (two.var / "pipeline/cases.csv").unlink()
    with untouched(two), pytest.raises(DataError, match=r"var/pipeline/cases\.csv: not there; `make train`"):
        two.promote("2")


def test_cases_that_another_release_made_are_one_line(two: Workspace) -> None:
    two.rollback()
    (two.var / "pipeline/preparation.json").write_text("{}")
    with untouched(two), pytest.raises(DataError, match="var/pipeline: written by another release; `make train`"):
        two.promote("2")


def test_promoting_the_version_in_production_restores_a_lost_link(two: Workspace) -> None:
    shutil.rmtree(two.model_store.folder)
    assert two.promote("2") == "version 2 is in production already"
    assert two.links() == ("2", "2")


def test_a_long_promotion_log_is_read_in_pages(two: Workspace) -> None:
    paged = ModelRegistry(two.model_registry.name, uri=None, var=two.var, page_size=3)
    assert [stored.number for stored in paged.promotion_log().entries] == [1, 2, 3, 4]


def test_of_two_concurrent_promotions_the_second_raises(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    state = read_alias(two.model_registry, PRODUCTION)
    two.promote("1")
    with untouched_but_for_the_entry(two), pytest.raises(AlreadyMovedError, match=r"meanwhile by .*@.*, to version 1"):
        move_alias(AliasChange("promote", "2", "too slow"), state, two.model_registry, two.model_store)
    assert "promote, too late" in as_table(two.model_registry.promotion_log())[-1]
    assert two.promote("2") == "version 2, production (was 1)", "after another look"


@contextmanager
def untouched_but_for_the_entry(workspace: Workspace) -> Iterator[None]:
    before = workspace.links()
    yield
    assert workspace.links() == before


def test_a_crash_before_the_alias_moved_is_completed_by_the_next_command(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    crashed = CrashesBeforeTheAlias(two)
    with pytest.raises(KeyboardInterrupt):
        change_production(two, "1", crashed)
    assert two.links() == ("3", "3")
    assert "promote, interrupted" in as_table(two.model_registry.promotion_log())[-1]
    assert two.rollback() == "version 3, production (was 1)"
    assert two.links() == ("3", "3")


def test_a_crash_after_the_alias_moved_is_completed_by_the_next_command(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    crashed = CrashesAfterTheAlias(two)
    with pytest.raises(KeyboardInterrupt):
        change_production(two, "1", crashed)
    assert two.model_registry.aliases()[PRODUCTION] == "1"
    assert "promote, interrupted" in as_table(two.model_registry.promotion_log())[-1]
    assert two.promote("1") == "version 1 is in production already"
    assert two.links() == ("3", "1")
    assert "interrupted" not in as_table(two.model_registry.promotion_log())[-1]


class OpenedAgain(ModelRegistry):
    """The registry of a workspace, opened by another process."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace.model_store.folder.name, uri=None, var=workspace.var)


class CrashesAfterTheAlias(OpenedAgain):
    """A registry whose process dies between moving an alias and marking the entry as applied."""

    def set_alias(self, alias: str, version: str, entry: int) -> None:  # noqa: ARG002 - as the registry's
        self.client.set_registered_model_alias(self.name, alias, version)
        raise KeyboardInterrupt


class CrashesBeforeTheAlias(OpenedAgain):
    """A registry whose process dies before it can move an alias."""

    def set_alias(self, alias: str, version: str, entry: int) -> None:  # noqa: ARG002 - as the registry's
        raise KeyboardInterrupt


def test_a_slow_promotion_does_not_restore_an_older_version(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    stalled = StallsBeforeTheAlias(two)
    change_production(two, "1", stalled)
    assert two.links() == ("3", "2")
    assert [line.split()[3:6] for line in as_table(two.model_registry.promotion_log())[-2:]] == [
        ["production", "3", "1"],
        ["production", "1", "2"],
    ]


class StallsBeforeTheAlias(OpenedAgain):
    """A registry whose process stalls before its first move of an alias; another process promotes meanwhile."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._waiting = [workspace]

    def set_alias(self, alias: str, version: str, entry: int) -> None:
        while self._waiting:
            self._waiting.pop().promote("2")
        super().set_alias(alias, version, entry)


def test_an_alias_that_another_program_keeps_moving_is_an_error(two: Workspace) -> None:
    message = "^production does not keep its version; another program keeps moving it$"
    with untouched_but_for_the_entry(two), pytest.raises(RegistryError, match=message):
        change_production(two, "1", MovedBackAtOnce(two))


class MovedBackAtOnce(OpenedAgain):
    """A registry in which another program moves every alias back to version 2."""

    def set_alias(self, alias: str, version: str, entry: int) -> None:
        super().set_alias(alias, version, entry)
        self.client.set_registered_model_alias(self.name, alias, "2")


def test_an_alias_moved_in_mlflow_is_settled_by_a_promotion(two: Workspace) -> None:
    two.model_registry.set_alias(PRODUCTION, "1", entry=1)
    with pytest.raises(PromotionError, match="production is version 1, but was promoted to 2"):
        two.rollback()
    assert two.promote("1") == "version 1, production (was 1)"
    assert two.links() == ("2", "1")
    assert two.rollback() == "version 2, production (was 1)"


def delete_in_mlflow(workspace: Workspace, version: str) -> None:
    """Delete `version` as a person does in MLflow's UI: its aliases go with it."""
    workspace.model_registry.client.delete_model_version("inventada", version)


def last_row(workspace: Workspace) -> str:
    return as_table(workspace.model_registry.promotion_log())[-1]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("force", [False, True])
def test_any_promotion_settles_a_production_version_deleted_in_mlflow(
    two: Workspace, version: str, *, force: bool
) -> None:
    two.register(another(good_build(), 0.15))
    delete_in_mlflow(two, "3")
    assert two.link(PRODUCTION) == "3", "it serves meanwhile"
    message = f"version {version}, production (was 3, which was deleted in MLflow)"
    assert two.promote(version, force=force) == message
    assert two.model_registry.aliases()[PRODUCTION] == two.link(PRODUCTION) == version
    assert f"production  3 (deleted)  {version} " in last_row(two)
    history = two.model_registry.promotion_log()
    assert json.loads(as_json(history.entries[-1], history))["deleted"] == "3"
    assert two.promote(version) == f"version {version} is in production already"


def test_a_rollback_from_a_deleted_version_leads_to_the_last_that_exists(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    two.register(another(good_build(), 0.25))
    for version in ("3", "4"):
        delete_in_mlflow(two, version)
    assert two.rollback() == "version 2, production (was 4, which was deleted in MLflow)"
    assert two.link(PRODUCTION) == "2"
    assert two.rollback() == "version 1, production (was 2)"
    with pytest.raises(PromotionError, match="no version before the one in production that still exists; promote ano"):
        two.rollback()


def test_training_settles_a_deleted_production_version_once(two: Workspace) -> None:
    delete_in_mlflow(two, "2")
    assert two.register(good_build()) == "version 1 again, production and staging", "no version was in production"
    assert two.links() == ("1", "1")
    assert "production  2 (deleted)  1 " in last_row(two)
    build = another(good_build())
    assert two.register(build) == "version 3, production and staging", "the version of this build was deleted"
    assert two.register(build) == "version 3 again, production and staging"
    assert two.model_registry.versions() == ["1", "3"]


def test_a_deleted_version_is_refused_by_its_reason(two: Workspace) -> None:
    delete_in_mlflow(two, "2")
    with pytest.raises(
        PromotionError, match=r"no version 2 of inventada \(it was deleted in MLflow\); there is only 1;"
    ):
        two.promote("2")


def test_a_version_deleted_before_its_alias_moved_is_settled_by_a_promotion(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    with pytest.raises(KeyboardInterrupt):
        change_production(two, "1", CrashesBeforeTheAlias(two))
    delete_in_mlflow(two, "1")
    assert two.promote("2") == "version 2, production (was 1, which was deleted in MLflow)"
    assert two.links() == ("3", "2")


def test_an_alias_deleted_in_mlflow_is_settled_by_any_move(two: Workspace) -> None:
    two.register(another(good_build(), 0.15))
    two.model_registry.client.delete_registered_model_alias("inventada", PRODUCTION)
    assert two.promote("1") == "version 1, production (was empty)"
    two.model_registry.client.delete_registered_model_alias("inventada", PRODUCTION)
    assert two.rollback() == "version 3, production (was empty)"
    assert two.links() == ("3", "3")


def test_an_altered_log_is_replaced_as_its_message_advises(two: Workspace) -> None:
    two.model_registry.client.delete_model_version("inventada-promotions", "2")
    with pytest.raises(RegistryError, match="then delete the model inventada-promotions in MLflow, and the next prom"):
        two.rollback()
    two.model_registry.client.delete_registered_model("inventada-promotions")
    assert two.promote("1") == "version 1, production (was 2)"
    assert two.rollback() == "version 2, production (was 1)"


def test_an_altered_log_stops_every_move(two: Workspace) -> None:
    client = two.model_registry.client
    entry = two.model_registry.promotion_log().entries[1].entry
    assert entry is not None
    text = entry.model_copy(update={"who": "nobody"}).model_dump_json()
    client.set_model_version_tag("inventada-promotions", "2", "entry", text)
    for move in (two.rollback, lambda: two.promote("1"), lambda: two.register(good_build())):
        with untouched(two), pytest.raises(RegistryError, match="entry 4 of the promotion log does not match"):
            move()
    assert "does not match" in as_table(two.model_registry.promotion_log())[-1]


def test_a_registry_that_is_down_is_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"model registry 127\.0\.0\.1:9: cannot be reached"):
        ModelRegistry("inventada", uri="http://ana:secret@127.0.0.1:9", var=workspace.var)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = TrainingSettings.model_validate({"PREDECIR_VAR": tmp_path / "file/var"})
    with pytest.raises(RegistryError, match=r"file/var: cannot be made \(Not a directory\)"):
        _ = TrainingContext(settings).model_registry


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """Limit every file to `bytes_left` bytes meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("bytes_left", [0, 100, 3000])
def test_a_disk_that_is_full_half_way_leaves_production_as_it_was(two: Workspace, bytes_left: int) -> None:
    two.rollback()
    with untouched(two), pytest.raises((RegistryError, ModelStoreError)) as error, full_disk(bytes_left):
        two.promote("2")
    assert "\n" not in str(error.value)
    assert two.promote("2") == "version 2, production (was 1)", "once there is room"
