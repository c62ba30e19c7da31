"""Builds of a made-up disease, trained in a second, and a workspace to register them in."""

import argparse
import datetime as dt
import functools
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import yaml

from shared.artifacts.bundle import PRODUCTION, STAGING, Manifest
from shared.artifacts.store import ModelStore
from shared.patient import Diagnosis, Disease, Patient, measure
from tests.support.training_cases import CLASSES, made_up_cases, small_parameters
from training.commands import promote, rollback
from training.commands.check import SplitCases, run_checks
from training.commands.evaluate import prove
from training.commands.register import describe_version, register
from training.commands.train import train
from training.context import TrainingContext
from training.data import distribution, population
from training.data.cases import Cases, Example, write_cases
from training.data.splitting import reported
from training.evaluation.report import report
from training.model import boosting
from training.model.onnx import convert
from training.registry.mlflow_registry import ModelRegistry
from training.settings import TrainingSettings
from training.stage_files import CASES, PLOTS, Build, CheckResult, Checks, Preparation, Training


class MadeUpPatient(Patient):
    """Alguien con una enfermedad inventada."""

    disease: ClassVar[Disease] = Disease("inventada", "Inventada", tuple(Diagnosis(code, code) for code in CLASSES))

    a: float | None = measure("A", unit="u", limits=(-100, 100))
    b: float | None = measure("B", unit="u", limits=(-100, 100))
    c: float | None = measure("C", unit="u", limits=(-100, 100))
    d: float | None = measure("D", unit="u", limits=(-100, 100))


class RevisedMadeUpPatient(MadeUpPatient):
    """Alguien con una enfermedad inventada, cuya última medida tiene ahora otros límites."""

    d: float | None = measure("D", unit="u", limits=(-200, 200))


@functools.cache
def good_build() -> Build:
    """A model that passes its gates."""
    return built_from(made_up_cases())


@functools.cache
def shuffled_build() -> Build:
    """A model trained on permuted diagnoses."""
    return built_from(
        made_up_cases(), lambda some: replace(some, labels=np.random.default_rng(1).permutation(some.labels))
    )


@functools.cache
def underconfident_build() -> Build:
    """A model with the accuracy of the good one and too low probabilities."""
    return built_from(made_up_cases(), temperature=8.0)


@functools.cache
def leaking_build() -> Build:
    """A model trained on a column that was filled in from the diagnosis."""
    return built_from(leaking_cases())


def leaking_cases() -> Cases:
    """The made-up cases with their diagnosis in the last column."""
    cases = made_up_cases()
    rows = cases.rows.copy()
    rows[:, 3] = cases.labels
    return replace(cases, rows=rows)


def another(build: Build, low_prevalence: float = 0.1) -> Build:
    """The same model with other parameters: another build, which passes its gates too."""
    return replace(build, parameters=build.parameters.model_copy(update={"low_prevalence": low_prevalence}))


def for_another_class(build: Build) -> Build:
    """The same model, trained for the revised patient class."""
    return replace(
        build, preparation=build.preparation.model_copy(update={"patient_digest": RevisedMadeUpPatient.digest})
    )


def built_from(cases: Cases, teach: Callable[[Cases], Cases] = lambda some: some, temperature: float = 1.0) -> Build:
    """Run the computations of `train` and `evaluate`; `teach` changes the training cases first."""
    parameters = small_parameters()
    later = reported(cases, parameters.split)
    training, test = teach(cases.where(~later)), cases.where(later)
    model, candidates, chosen = train(training, CLASSES, parameters)
    model = boosting.merge([model], temperature)
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
    probabilities = boosting.predict(model, test.rows)
    return Build(
        parameters=parameters,
        preparation=preparation,
        checks=Checks(
            data_hash="0" * 32,
            cases=len(cases),
            findings=[CheckResult.at_most("repeated", 0.0, 0.001, "share of cases that repeat another")],
        ),
        population=population.describe(training, test, preparation, least=parameters.subgroups.least_cases),
        training=Training(
            cases=len(training),
            reported_cases=len(test),
            chosen=chosen,
            candidates=candidates,
            prevalence=dict.fromkeys(CLASSES, 1 / 3),
            low_prevalence=["grave"],
            training_ranges={"a": (-3.0, 9.0)},
            never_missing=["a"],
            reference=distribution.describe(training.rows, MadeUpPatient.columns, chosen.answers),
        ),
        metrics=report(probabilities, test, preparation, chosen.plausible_at, parameters),
        proof=prove(model, onnx, training.rows, parameters.parity.tolerance, seed=0),
        pickled=pickle.dumps(model),
        onnx=onnx,
    )


def version_of(build: Build) -> Manifest:
    """A version of `build`, for its card."""
    manifest = describe_version(build, "7", "run-of-the-test", ("commit-of-the-test", False))
    made = dt.datetime(2024, 5, 6, 7, 8, tzinfo=dt.UTC)
    return manifest.model_copy(update={"created": made, "libraries": {"python": "3.11"}})


class Workspace:
    """One registry and model_store in the current folder, opened again for every use, as by a new command."""

    var = Path("var")
    patient: ClassVar[type[Patient]] = MadeUpPatient

    @property
    def context(self) -> TrainingContext:
        """The context of a new command."""
        path = f"{__name__}:{self.patient.__name__}"
        return TrainingContext(
            TrainingSettings(PREDECIR_VAR=self.var, predecir_paciente=path, mlflow_tracking_uri=None)
        )

    def register(self, build: Build, cases: Cases | None = None) -> str:
        """Run `register` on `build`, with the files of the stages before for `cases`."""
        PLOTS.mkdir(parents=True, exist_ok=True)
        (PLOTS / "roc.png").write_bytes(b"picture")
        write_pipeline_files(build, cases or made_up_cases())
        return register(build, self.context)

    def promote(self, version: str, alias: str = PRODUCTION, *, force: bool = False) -> str:
        arguments = argparse.Namespace(version=version, to=alias, reason="a test", force=force)
        return promote.main(arguments, self.context)

    def rollback(self) -> str:
        return rollback.main(argparse.Namespace(reason="a test"), self.context)

    @property
    def model_registry(self) -> ModelRegistry:
        return self.context.model_registry

    @property
    def model_store(self) -> ModelStore:
        return self.context.model_store

    def entries(self) -> list[int]:
        """The numbers of all entries of the promotion log."""
        return [stored.number for stored in self.model_registry.promotion_log().entries]

    def write_preparation(self, preparation: Preparation) -> None:
        """Replace the result of `prepare`."""
        preparation.write()

    def link(self, alias: str) -> str | None:
        link = self.model_store.folder / alias
        return str(link.readlink()) if link.is_symlink() else None

    def links(self) -> tuple[str | None, str | None]:
        """The links staging and production; asserts that they equal the aliases."""
        aliases = self.model_registry.aliases()
        assert (self.link(STAGING), self.link(PRODUCTION)) == (aliases.get(STAGING), aliases.get(PRODUCTION))
        return self.link(STAGING), self.link(PRODUCTION)


class RevisedClassWorkspace(Workspace):
    """The same workspace, after a change of the patient class."""

    patient = RevisedMadeUpPatient


def write_pipeline_files(build: Build, cases: Cases) -> None:
    """Write `params.yaml` and the files of `prepare` and `check`, which the gates read."""
    assert cases.days is not None
    diagnoses = (CLASSES[label] for label in cases.labels)
    examples = [
        Example(row, diagnosis, day, line)
        for line, (row, diagnosis, day) in enumerate(
            zip(cases.rows.tolist(), diagnoses, cases.days.tolist(), strict=True), start=2
        )
    ]
    CASES.parent.mkdir(parents=True, exist_ok=True)
    write_cases(CASES, build.preparation.columns, examples)
    later = reported(cases, build.parameters.split)
    data = SplitCases(cases, np.arange(len(cases)), later, build.preparation.columns, CLASSES)
    results = run_checks(data, build.parameters.checks)
    Checks(data_hash=build.preparation.data_hash, cases=len(cases), findings=results).write()
    build.preparation.write()
    Path("params.yaml").write_text(yaml.safe_dump(build.parameters.model_dump(mode="json")))


def empty_registry(folder: Path) -> Path:
    """Create an SQLite registry with empty tables: that takes seconds, a copy takes none."""
    ModelRegistry("otra", uri=None, var=folder)
    return folder / "mlflow.db"


def new_workspace(empty: Path) -> Workspace:
    """Create a workspace in the current folder with a copy of `empty`."""
    Workspace.var.mkdir()
    shutil.copy(empty, Workspace.var)
    return Workspace()
