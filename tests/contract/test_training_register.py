"""Registration with a real SQLite registry, sealed bundles and links, in a folder of the test."""

import argparse
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.artifacts.bundle import STAGING, Conformal, open_bundle
from shared.artifacts.errors import BundleTamperedError
from tests.support.builds import (
    MadeUpPatient,
    RevisedClassWorkspace,
    Workspace,
    another,
    for_another_class,
    good_build,
    shuffled_build,
    write_pipeline_files,
)
from tests.support.paths import ROOT
from tests.support.training_cases import made_up_cases
from training.commands import register
from training.context import TrainingContext
from training.errors import AlreadyMovedError, DataError, GatesFailedError, PromotionError, RegistryError
from training.model import boosting
from training.model.onnx import convert
from training.registry.mlflow_errors import translate_errors
from training.registry.mlflow_registry import ModelRegistry
from training.registry.promotion_log import Entry
from training.stage_files import CASES, MODEL, ONNX, Build, Training


@pytest.fixture
def build() -> Build:
    return good_build()


@pytest.fixture
def worse() -> Build:
    return shuffled_build()


def test_a_good_model_is_version_1_in_production_with_a_valid_bundle(workspace: Workspace, build: Build) -> None:
    assert workspace.register(build) == "version 1, production and staging"
    bundle = open_bundle(
        workspace.model_store.folder / "production",
        workspace.var / "keys/bundle.pub",
        patient_digest=MadeUpPatient.digest,
    )
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.serves) == ("inventada", "1", "onnx")
    assert manifest.columns == MadeUpPatient.columns
    assert bundle.files == {
        "model.pkl": build.pickled,
        "model.onnx": build.onnx,
        "card.html": (workspace.model_store.folder / "1" / "card.html").read_bytes(),
    }
    assert manifest.conformal == Conformal(level=0.9, plausible_at=build.training.chosen.plausible_at)
    assert manifest.parameters["chosen.temperature"] == build.training.chosen.temperature
    assert workspace.link("staging") == workspace.link("production") == "1"
    assert workspace.model_registry.aliases() == {"staging": "1", "production": "1"}


def write_build(build: Build) -> None:
    """Write the files of all stages before `register`."""
    write_pipeline_files(build, made_up_cases())
    for result in (build.training, build.population, build.metrics, build.proof):
        result.write()
    MODEL.write_bytes(build.pickled)
    ONNX.write_bytes(build.onnx)


def test_a_stage_that_has_not_run_is_named_by_its_file(workspace: Workspace, build: Build) -> None:
    write_build(build)
    Training.path.unlink()
    message = r"^var/pipeline/training\.json: not there; run the stages before this one \(`make train` runs them all\)$"
    with pytest.raises(DataError, match=message):
        register.main(argparse.Namespace(), workspace.context)


def test_stages_that_ran_for_another_patient_class_are_rejected(workspace: Workspace, build: Build) -> None:
    write_build(build)
    message = r"^var/pipeline was prepared for another patient class than PREDECIR_PACIENTE; run the pipeline again$"
    with pytest.raises(DataError, match=message):
        register.main(argparse.Namespace(), RevisedClassWorkspace().context)
    assert workspace.model_registry.versions() == []


def test_the_run_has_parameters_metrics_plots_gates_and_provenance(workspace: Workspace, build: Build) -> None:
    import mlflow  # noqa: PLC0415 - seconds, for this test alone

    workspace.register(build)
    client = mlflow.MlflowClient()
    version = client.get_model_version("inventada", "1")
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert run.data.params["model.max_iter"] == "8"
    assert run.data.metrics["recall.grave"] == build.metrics.figures["recall.grave"]
    assert run.data.metrics["accuracy.low"] <= run.data.metrics["accuracy"] <= run.data.metrics["accuracy.high"]
    assert {name: run.data.tags[name] for name in ("patient_digest", "data_hash")} == {
        "patient_digest": MadeUpPatient.digest,
        "data_hash": "0" * 32,
    }
    bundle = workspace.model_store.opened("1")
    assert bundle is not None
    dirty = {True: "yes", False: "no", None: "unknown"}[bundle.manifest.git_dirty]
    assert (run.data.tags["git_commit"], run.data.tags["git_dirty"]) == (bundle.manifest.git_commit, dirty)
    assert {artifact.path for artifact in client.list_artifacts(version.run_id)} >= {
        "bundle",
        "card",
        "gates",
        "pictures",
    }
    info = mlflow.models.get_model_info("models:/inventada@production")
    assert info.signature is not None
    assert info.signature.inputs.input_names() == list(MadeUpPatient.columns)


@pytest.mark.filterwarnings("ignore:X has feature names")  # scikit-learn's, of the frame that MLflow hands on
def test_the_lines_in_a_version_s_description_predict_an_ordinary_frame(workspace: Workspace, build: Build) -> None:
    import mlflow  # noqa: PLC0415 - seconds, for this test alone

    workspace.register(build)
    version = mlflow.MlflowClient().get_model_version("inventada", "1")
    assert version.run_id is not None
    assert mlflow.MlflowClient().get_run(version.run_id).info.run_name == "version 1"
    frame = pd.read_csv(CASES)
    frame["a"] = range(len(frame))  # whole numbers
    with pytest.raises(mlflow.exceptions.MlflowException, match="Incompatible input types"):
        mlflow.pyfunc.load_model("models:/inventada/1").predict(frame)
    description = version.description or ""
    assert description.endswith("per class: sano, enfermo, grave.")
    variables: dict[str, Any] = {"frame": frame}
    exec(description.partition("```python\n")[2].partition("```")[0], variables)  # noqa: S102 - what a person pastes
    rows = frame[list(MadeUpPatient.columns)].to_numpy(dtype=np.float32)
    assert np.array_equal(variables["probabilities"], boosting.predict(pickle.loads(build.pickled), rows))  # noqa: S301 - made above


@pytest.mark.filterwarnings("ignore:X has feature names")  # scikit-learn's, of the frame that MLflow hands on
def test_the_lines_for_a_notebook_in_the_guide_work(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    guide = (ROOT / "docs/guides/mlflow.md").read_text().replace("tiroides", "inventada")
    variables: dict[str, Any] = {}
    exec(guide.partition("```python\n")[2].partition("```")[0], variables)  # noqa: S102 - what a person pastes
    rows = variables["frame"][list(MadeUpPatient.columns)].to_numpy(dtype=np.float32)
    assert np.array_equal(variables["probabilities"], boosting.predict(pickle.loads(build.pickled), rows))  # noqa: S301 - made above
    assert variables["model"].metadata.metadata["classes"] == list(build.preparation.classes)


def test_registering_the_same_build_again_changes_nothing(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    before = {path: path.stat().st_mtime_ns for path in workspace.model_store.folder.glob("1/*")}
    assert workspace.register(build) == "version 1 again, production and staging"
    assert {
        path: path.stat().st_mtime_ns for path in workspace.model_store.folder.glob("*/*") if path.parent.name == "1"
    } == before


def test_a_model_that_misses_a_gate_stays_in_staging(workspace: Workspace, build: Build, worse: Build) -> None:
    workspace.register(build)
    for _ in range(2):  # again, without a new version
        with pytest.raises(
            GatesFailedError, match=r"version 2 stays in staging; it does not pass: .*balanced_accuracy"
        ):
            workspace.register(worse)
    assert (workspace.link("staging"), workspace.link("production")) == ("2", "1")


def test_a_first_model_that_misses_a_gate_leaves_production_empty(workspace: Workspace, worse: Build) -> None:
    with pytest.raises(GatesFailedError):
        workspace.register(worse)
    assert workspace.links() == ("1", None)


def test_an_onnx_model_that_differs_is_left_out_of_the_bundle(workspace: Workspace, build: Build) -> None:
    other = convert(pickle.loads(build.pickled).set_params())  # noqa: S301 - made above
    unequal = build.proof.parity.model_copy(update={"label_flips": 1, "passed": False})
    gates = build.parameters.gates.model_copy(update={"onnx_parity": False})
    differing = replace(
        build,
        onnx=other,
        proof=build.proof.model_copy(update={"parity": unequal}),
        parameters=build.parameters.model_copy(update={"gates": gates}),
    )
    workspace.register(differing)
    bundle = workspace.model_store.opened("1")
    assert bundle is not None
    assert bundle.manifest.serves == "pickle"
    assert set(bundle.files) == {"model.pkl", "card.html"}


def test_a_tampered_bundle_is_replaced_from_the_registry(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    folder = workspace.model_store.folder / "1"
    content = (folder / "model.pkl").read_bytes()
    (folder / "model.pkl").write_bytes(content[:-1] + b"!")
    with pytest.raises(BundleTamperedError):
        open_bundle(folder, workspace.var / "keys/bundle.pub", patient_digest=MadeUpPatient.digest)
    assert "version 1 again" in workspace.register(build)
    assert (folder / "model.pkl").read_bytes() == content


def test_lost_models_come_back_from_the_registry(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    shutil.rmtree(workspace.var / "models")
    assert "version 1 again" in workspace.register(build)
    assert workspace.model_store.opened("1") is not None
    assert workspace.link("production") == "1"


def test_a_repeated_build_moves_staging_but_not_production(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    assert workspace.register(another(build)) == "version 2, production and staging"
    assert "version 1 again, staging; production stays at version 2" in workspace.register(build)
    assert workspace.links() == ("1", "2")


def test_training_again_does_not_undo_a_rollback(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    workspace.register(another(build))
    workspace.rollback()
    assert "version 2 again, staging; production stays at version 1" in workspace.register(another(build))
    assert workspace.links() == ("2", "1")


def test_a_repeated_build_that_misses_a_gate_moves_staging_only(
    workspace: Workspace, build: Build, worse: Build
) -> None:
    with pytest.raises(GatesFailedError):
        workspace.register(worse)
    workspace.register(build)
    with pytest.raises(GatesFailedError, match="version 1 stays in staging"):
        workspace.register(worse)
    assert workspace.model_registry.aliases() == {"staging": "1", "production": "2"}
    assert (workspace.link("staging"), workspace.link("production")) == ("1", "2")


def test_a_version_forced_into_production_stays_after_training_again(
    workspace: Workspace, build: Build, worse: Build
) -> None:
    workspace.register(build)
    with pytest.raises(GatesFailedError):
        workspace.register(worse)
    workspace.promote("2", force=True)
    assert workspace.register(worse) == "version 2 again, production and staging"


@pytest.mark.parametrize("moved", [False, True])
def test_gates_run_again_if_only_latency_failed(workspace: Workspace, build: Build, *, moved: bool) -> None:
    workspace.register(another(build))
    at_once = build.parameters.gates.latency.model_copy(update={"one_row_p99_ms": 1e-6})
    gates = build.parameters.gates.model_copy(update={"latency": at_once})
    with pytest.raises(
        GatesFailedError, match=r"latency\.one_row_p99_ms; if this machine was busy, run `make train` again"
    ):
        workspace.register(replace(build, parameters=build.parameters.model_copy(update={"gates": gates})))
    registry = workspace.model_registry
    registry.mark_build("2", build.id)  # as if it had been that machine, not the gate
    registry.mark_gates("2", ["latency.one_row_p99_ms"])
    if moved:
        workspace.register(another(build, 0.15))
        with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
            workspace.register(build)
    else:
        assert workspace.register(build) == "version 2 again, production and staging"
    assert workspace.links() == ("2", "3" if moved else "2")


def test_a_class_that_was_changed_and_changed_back_is_served_again(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    changed = RevisedClassWorkspace()
    assert changed.register(for_another_class(build)) == "version 2, production and staging"
    assert workspace.register(build) == "version 1 again, production and staging"
    assert (workspace.link("staging"), workspace.link("production")) == ("1", "1")


def test_after_a_change_of_class_a_failed_gate_leaves_the_link(
    workspace: Workspace, build: Build, worse: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.register(build)
    before = (workspace.model_store.folder / "1").stat().st_ino
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        RevisedClassWorkspace().register(for_another_class(worse))
    assert "production stays as it is: version 1 was trained for another patient class" in capsys.readouterr().out
    assert (workspace.link("staging"), workspace.link("production")) == ("2", "1")
    assert (workspace.model_store.folder / "1").stat().st_ino == before, "it may be serving: not published again"


def test_after_a_change_of_keys_a_failed_gate_leaves_the_link(
    workspace: Workspace, build: Build, worse: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.register(build)
    shutil.rmtree(workspace.var / "keys")
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        workspace.register(worse)
    assert "production stays as it is: version 1 is not signed by var/keys/bundle.pub" in capsys.readouterr().out
    assert (workspace.link("staging"), workspace.link("production")) == ("2", "1")


def test_production_moved_without_a_log_entry_is_an_error(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    workspace.register(another(build))
    workspace.model_registry.set_alias("production", "1", entry=1)
    with pytest.raises(PromotionError, match="production is version 1, but was promoted to 2"):
        workspace.register(another(build, 0.15))
    assert workspace.links() == ("3", "1")


def test_a_build_that_could_not_be_promoted_gets_no_second_version(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    workspace.register(another(build))
    workspace.model_registry.set_alias("production", "1", entry=1)
    for _ in range(2):
        with pytest.raises(PromotionError, match="production is version 1, but was promoted to 2"):
            workspace.register(another(build, 0.15))
    assert workspace.model_registry.versions() == ["1", "2", "3"]
    workspace.promote("1")
    assert workspace.register(another(build, 0.15)) == "version 3 again, production and staging", "its gates run now"


def test_a_link_whose_version_is_lost_does_not_hide_the_first_error(
    workspace: Workspace, build: Build, worse: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.register(build)
    with pytest.raises(GatesFailedError):
        workspace.register(worse)
    shutil.rmtree(workspace.model_store.folder / "1")
    shutil.rmtree(workspace.var / "mlartifacts")
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        workspace.register(worse)
    assert "\nlinks     the bundle of version 1 cannot be fetched" in capsys.readouterr().out


def test_staging_is_moved_again_after_a_concurrent_training(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    workspace.register(another(build))
    overtaken = OvertakenWorkspace(["1"])
    assert overtaken.register(another(build, 0.15)) == "version 3, production and staging"
    assert workspace.links() == ("3", "3")


def test_a_training_that_is_always_overtaken_is_an_error(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    workspace.register(another(build))
    overtaken = OvertakenWorkspace(["1", "2"] * 5)
    with pytest.raises(AlreadyMovedError, match="version 3 comes too late: staging was moved meanwhile by"):
        overtaken.register(another(build, 0.15))
    assert workspace.links() == ("2", "2")


class OvertakenWorkspace(Workspace):
    """A workspace in which another process moves staging just before we do, to each of `versions` in turn."""

    def __init__(self, versions: list[str]) -> None:
        self._others = versions

    @property
    def context(self) -> TrainingContext:
        context = super().context
        context.model_registry = OvertakenRegistry(self._others, self.var)
        return context


class OvertakenRegistry(ModelRegistry):
    """A registry in which another process appends an entry for staging just before we do, as long as it has some."""

    def __init__(self, versions: list[str], var: Path) -> None:
        super().__init__(MadeUpPatient.disease.name, uri=None, var=var)
        self._others = versions

    def append_entry(self, entry: Entry) -> None:
        if self._others:
            Workspace().promote(self._others.pop(0), STAGING)
        super().append_entry(entry)


def test_a_new_key_signs_a_new_version_of_the_same_build(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    shutil.rmtree(workspace.var / "keys")
    assert workspace.register(build) == "version 2, production and staging"
    assert workspace.model_store.opened("2") is not None


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob("[0-9]*/*")}


@pytest.mark.parametrize("restored", [False, True])
def test_numbering_continues_after_the_signed_versions_if_the_registry_was_lost(
    workspace: Workspace,
    build: Build,
    empty_registry_file: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    restored: bool,
) -> None:
    workspace.register(build)
    backup = workspace.var / "backup.db"
    shutil.copy(workspace.var / "mlflow.db" if restored else empty_registry_file, backup)
    workspace.register(another(build))
    signed = contents(workspace.model_store.folder)
    shutil.copy(backup, workspace.var / "mlflow.db")  # a new one, or an older backup
    assert workspace.register(another(build, 0.15)) == "version 3, production and staging"
    assert workspace.links() == ("3", "3")
    assert signed.items() <= contents(workspace.model_store.folder).items(), "what answered can be reproduced"
    assert workspace.model_registry.versions() == (["1", "3"] if restored else ["3"])
    line = "var/models/inventada or the promotion log has versions up to 2, which this registry lacks: numbering cont"
    assert line in capsys.readouterr().out
    workspace.register(another(build, 0.25))
    assert line not in capsys.readouterr().out
    assert workspace.link("production") == "4"


def test_numbering_continues_after_a_model_that_was_deleted_in_mlflow(workspace: Workspace, build: Build) -> None:
    workspace.register(build)
    workspace.register(another(build))
    workspace.model_registry.client.delete_registered_model("inventada")
    shutil.rmtree(workspace.var / "models")  # as on another machine that trains with the same server
    assert workspace.register(build) == "version 3, production and staging"


def test_a_registry_folder_that_cannot_be_used_is_one_line(workspace: Workspace, build: Build) -> None:
    with pytest.raises(RegistryError, match="missing"):
        ModelRegistry("inventada", uri=None, var=workspace.var / "missing")
    assert build.pickled


def test_an_error_names_the_server_without_a_password_with_an_at_sign() -> None:
    with (
        pytest.raises(RegistryError, match="model registry host:5000: cannot be reached"),
        translate_errors("http://user:p@ss@host:5000"),
    ):
        raise ConnectionError
