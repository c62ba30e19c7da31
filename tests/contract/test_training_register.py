"""Registering for real: an SQLite registry, sealed bundles and links, in a folder of the test."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from shared.bundle import BundleTamperedError, Conformal, open_bundle
from shared.patient import Diagnosis, Disease, Patient, measure
from shared.shelf import Shelf
from tests.training_cases import CLASSES, made_up_cases, small_parameters
from training import boosting
from training.cases import Preparation
from training.conversion import convert
from training.errors import GatesFailedError, RegistryError
from training.evaluate import prove
from training.register import Build, register
from training.registry import Registry
from training.report import report
from training.results import PICTURES, Training
from training.spread import describe
from training.train import train


class MadeUpPatient(Patient):
    """Alguien con una enfermedad inventada."""

    disease: ClassVar[Disease] = Disease("inventada", "Inventada", tuple(Diagnosis(code, code) for code in CLASSES))

    a: float | None = measure("A", unit="u", limits=(-100, 100))
    b: float | None = measure("B", unit="u", limits=(-100, 100))
    c: float | None = measure("C", unit="u", limits=(-100, 100))
    d: float | None = measure("D", unit="u", limits=(-100, 100))


OTHER_DIGEST = "f" * 64


class Place:
    """One registry and shelf in the current folder, opened anew for every use, as every run of the stage does."""

    var = Path("var")
    digest = MadeUpPatient.digest

    def register(self, build: Build) -> str:
        return register(build, self.registry, self.shelf, self.var)

    @property
    def registry(self) -> Registry:
        return Registry(MadeUpPatient.disease.name, uri=None, var=self.var)

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.var, MadeUpPatient.disease.name, self.digest)

    def link(self, alias: str) -> str | None:
        link = self.shelf.folder / alias
        return str(link.readlink()) if link.is_symlink() else None


class OtherClass(Place):
    """The same place, after the patient class was changed."""

    digest = OTHER_DIGEST


@pytest.fixture(scope="module")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite registry with its tables and nothing of ours: making the tables takes seconds, copying them none."""
    var = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        Registry("otra", uri=None, var=var)
    return var / "mlflow.db"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_registry: Path) -> Place:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    Place.var.mkdir()
    shutil.copy(empty_registry, Place.var)
    PICTURES.mkdir(parents=True)
    (PICTURES / "roc.png").write_bytes(b"picture")
    return Place()


@pytest.fixture(scope="module")
def build() -> Build:
    parameters, cases = small_parameters(), made_up_cases()
    model, candidates, chosen = train(cases, CLASSES, parameters)
    probabilities = boosting.predict(model, cases.rows)
    onnx = convert(model)
    preparation = Preparation(
        name=MadeUpPatient.disease.name,
        patient_digest=MadeUpPatient.digest,
        data_hash="0" * 32,
        columns=list(MadeUpPatient.columns),
        measured=list(MadeUpPatient.columns),
        classes=list(CLASSES),
        disease=MadeUpPatient.disease,
        features=list(MadeUpPatient.features),
        rows_read=len(cases),
        discarded={},
        cases=dict(zip(CLASSES, np.bincount(cases.labels).tolist(), strict=True)),
    )
    return Build(
        parameters=parameters,
        preparation=preparation,
        training=Training(
            cases=len(cases),
            reported_cases=len(cases),
            chosen=chosen,
            candidates=candidates,
            prevalence=dict.fromkeys(CLASSES, 1 / 3),
            low_prevalence=["grave"],
            training_ranges={"a": (-3.0, 9.0)},
            never_missing=["a"],
            reference=describe(cases.rows, MadeUpPatient.columns, chosen.answers),
        ),
        metrics=report(probabilities, cases, preparation, chosen.plausible_at, parameters),
        proof=prove(model, onnx, cases.rows, parameters.parity.tolerance, seed=0),
        pickled=pickle.dumps(model),
        onnx=onnx,
    )


def worse(build: Build) -> Build:
    """The same model, found to be right one time in ten."""
    metrics = build.metrics.model_copy(update={"figures": build.metrics.figures | {"accuracy": 0.1}})
    return replace(build, metrics=metrics)


def test_a_good_model_becomes_version_1_in_production_with_a_bundle_that_opens(place: Place, build: Build) -> None:
    assert place.register(build) == "version 1, production and staging"
    bundle = open_bundle(
        place.shelf.folder / "production", place.var / "keys/bundle.pub", patient_digest=MadeUpPatient.digest
    )
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.serves) == ("inventada", "1", "onnx")
    assert manifest.columns == list(MadeUpPatient.columns)
    assert bundle.files == {"model.pkl": build.pickled, "model.onnx": build.onnx}
    assert manifest.conformal == Conformal(level=0.9, plausible_at=build.training.chosen.plausible_at)
    assert manifest.parameters["chosen.temperature"] == build.training.chosen.temperature
    assert place.link("staging") == place.link("production") == "1"
    assert place.registry.aliases() == {"staging": "1", "production": "1"}


def test_the_run_holds_parameters_metrics_pictures_verdicts_signature_and_provenance(
    place: Place, build: Build
) -> None:
    import mlflow  # noqa: PLC0415 - seconds, for this test alone

    place.register(build)
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
    assert {"git_commit", "git_dirty"} <= set(run.data.tags)
    assert {artifact.path for artifact in client.list_artifacts(version.run_id)} >= {"bundle", "gates.txt", "pictures"}
    info = mlflow.models.get_model_info("models:/inventada@production")
    assert info.signature is not None
    assert info.signature.inputs.input_names() == list(MadeUpPatient.columns)


def test_registering_the_same_build_again_changes_nothing(place: Place, build: Build) -> None:
    place.register(build)
    before = {path: path.stat().st_mtime_ns for path in place.shelf.folder.glob("1/*")}
    assert place.register(build) == "version 1 again, production and staging"
    assert {
        path: path.stat().st_mtime_ns for path in place.shelf.folder.glob("*/*") if path.parent.name == "1"
    } == before


def test_a_model_that_misses_a_gate_stays_in_staging_and_production_keeps_what_it_had(
    place: Place, build: Build
) -> None:
    place.register(build)
    for _ in range(2):  # again, without a new version
        with pytest.raises(GatesFailedError, match="version 2 stays in staging; it does not pass: accuracy"):
            place.register(worse(build))
    assert (place.link("staging"), place.link("production")) == ("2", "1")


def test_a_first_model_that_misses_a_gate_leaves_production_empty(place: Place, build: Build) -> None:
    with pytest.raises(GatesFailedError):
        place.register(worse(build))
    assert (place.link("staging"), place.link("production")) == ("1", None)


def test_an_onnx_model_that_differs_is_left_out_of_the_bundle(place: Place, build: Build) -> None:
    other = convert(pickle.loads(build.pickled).set_params())  # noqa: S301 - made above
    unequal = build.proof.parity.model_copy(update={"label_flips": 1, "passed": False})
    gates = build.parameters.gates.model_copy(update={"onnx_parity": False})
    differing = replace(
        build,
        onnx=other,
        proof=build.proof.model_copy(update={"parity": unequal}),
        parameters=build.parameters.model_copy(update={"gates": gates}),
    )
    place.register(differing)
    bundle = place.shelf.opened("1")
    assert bundle is not None
    assert bundle.manifest.serves == "pickle"
    assert set(bundle.files) == {"model.pkl"}


def test_a_tampered_bundle_is_refused_and_the_registry_brings_the_true_one_back(place: Place, build: Build) -> None:
    place.register(build)
    folder = place.shelf.folder / "1"
    content = (folder / "model.pkl").read_bytes()
    (folder / "model.pkl").write_bytes(content[:-1] + b"!")
    with pytest.raises(BundleTamperedError):
        open_bundle(folder, place.var / "keys/bundle.pub", patient_digest=MadeUpPatient.digest)
    assert "version 1 again" in place.register(build)
    assert (folder / "model.pkl").read_bytes() == content


def test_lost_models_come_back_from_the_registry(place: Place, build: Build) -> None:
    place.register(build)
    shutil.rmtree(place.var / "models")
    assert "version 1 again" in place.register(build)
    assert place.shelf.opened("1") is not None
    assert place.link("production") == "1"


def another(build: Build) -> Build:
    """The same model from other parameters: another build, which passes, too."""
    return replace(build, parameters=build.parameters.model_copy(update={"low_prevalence": 0.1}))


def test_a_build_that_comes_back_takes_production_back_without_a_new_version(place: Place, build: Build) -> None:
    place.register(build)
    assert place.register(another(build)) == "version 2, production and staging"
    assert place.register(build) == "version 1 again, production and staging"
    assert (place.link("staging"), place.link("production")) == ("1", "1")
    assert place.registry.aliases() == {"staging": "1", "production": "1"}


def test_a_build_that_comes_back_and_misses_a_gate_takes_staging_only(place: Place, build: Build) -> None:
    with pytest.raises(GatesFailedError):
        place.register(worse(build))
    place.register(build)
    with pytest.raises(GatesFailedError, match="version 1 stays in staging"):
        place.register(worse(build))
    assert place.registry.aliases() == {"staging": "1", "production": "2"}
    assert (place.link("staging"), place.link("production")) == ("1", "2")


def for_another_class(build: Build) -> Build:
    return replace(build, preparation=build.preparation.model_copy(update={"patient_digest": OTHER_DIGEST}))


def test_a_class_that_was_changed_and_changed_back_is_served_again(place: Place, build: Build) -> None:
    place.register(build)
    changed = OtherClass()
    assert changed.register(for_another_class(build)) == "version 2, production and staging"
    assert place.register(build) == "version 1 again, production and staging"
    assert (place.link("staging"), place.link("production")) == ("1", "1")


def test_after_a_change_of_class_a_model_that_misses_a_gate_leaves_the_old_link_and_says_why(
    place: Place, build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    place.register(build)
    before = (place.shelf.folder / "1").stat().st_ino
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        OtherClass().register(for_another_class(worse(build)))
    assert "production stays as it is: version 1 was trained for another patient class" in capsys.readouterr().out
    assert (place.link("staging"), place.link("production")) == ("2", "1")
    assert (place.shelf.folder / "1").stat().st_ino == before, "it may be serving: not published again"


def test_after_a_change_of_keys_a_model_that_misses_a_gate_leaves_the_old_link_and_says_why(
    place: Place, build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    place.register(build)
    shutil.rmtree(place.var / "keys")
    with pytest.raises(GatesFailedError, match="version 2 stays in staging"):
        place.register(worse(build))
    assert "production stays as it is: version 1 is not signed by var/keys/bundle.pub" in capsys.readouterr().out
    assert (place.link("staging"), place.link("production")) == ("2", "1")


def test_production_that_an_operator_moved_stays_there_while_what_is_built_misses_a_gate(
    place: Place, build: Build
) -> None:
    place.register(build)
    place.register(another(build))
    place.registry.complete("1", build.id, ["production"])
    with pytest.raises(GatesFailedError):
        place.register(worse(build))
    assert (place.link("staging"), place.link("production")) == ("3", "1")


def test_a_new_key_signs_a_new_version_of_the_same_build(place: Place, build: Build) -> None:
    place.register(build)
    shutil.rmtree(place.var / "keys")
    assert place.register(build) == "version 2, production and staging"
    assert place.shelf.opened("2") is not None


def test_a_registry_folder_that_cannot_be_used_is_one_line(place: Place, build: Build) -> None:
    with pytest.raises(RegistryError, match="missing"):
        Registry("inventada", uri=None, var=place.var / "missing")
    assert build.pickled
