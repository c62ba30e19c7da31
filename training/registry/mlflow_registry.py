"""The model registry: MLflow, in an SQLite file of the run or on a server, behind the few verbs that training needs."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from shared.failpoints import failpoint
from training.errors import RegistryError
from training.registry.mlflow_errors import translated
from training.registry.promotion_log import History, Kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.entities import PagedList
    from sklearn.ensemble import HistGradientBoostingClassifier

    from training.registry.promotion_log import Entry

_BUILD = "build"
_BUNDLE = "bundle"
_MISSED = "missed_gates"
_ENTRY = "entry"
_APPLIED = "applied"
_PAGE = 1000
_NO_SUCH = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""What MLflow says of a version that is not there, or is no number."""
_LEDGER_DESCRIPTION = "Who moved which alias, when and why; one version per entry. Written by training promote alone."


class Registry:
    """Runs and versions of one model. A version is complete once it carries the tag of its build."""

    def __init__(self, name: str, *, uri: str | None, var: Path) -> None:
        """Use the server at `uri`, or else `mlflow.db` and `mlartifacts` in `var`.

        Raises:
            RegistryError: neither can be used.

        """
        self._name, self._ledger = name, f"{name}-promotions"
        artifacts = None
        if uri is None:
            if not os.access(var, os.W_OK):
                message = f"{var}: cannot be written; the model registry lives there"
                raise RegistryError(message)
            uri = f"sqlite:///{var.resolve() / 'mlflow.db'}"
            artifacts = (var.resolve() / "mlartifacts").as_uri()
        _quiet()
        with translated(uri):
            mlflow.set_tracking_uri(uri)
            self._client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                self._experiment_id = self._client.create_experiment(name, artifact_location=artifacts)
            else:
                self._experiment_id = experiment.experiment_id
        self._uri = uri

    def version_of(self, build: str) -> str | None:
        """Give the version that was registered from `build`, if one was."""
        with translated(self._uri):
            found = self._client.search_model_versions(f"name = '{self._name}' and tags.{_BUILD} = '{build}'")
        return max((str(version.version) for version in found), key=int, default=None)

    def aliases(self) -> dict[str, str]:
        """Give the version of each alias."""
        with translated(self._uri):
            found = self._client.search_registered_models(f"name = '{self._name}'")
            return {alias: str(version) for model in found for alias, version in model.aliases.items()}

    def has(self, version: str) -> bool:
        """Say whether there is such a version."""
        with translated(self._uri):
            try:
                self._client.get_model_version(self._name, version)
            except MlflowException as error:
                if error.error_code in _NO_SUCH:
                    return False
                raise
        return True

    def versions(self) -> list[str]:
        """Give every version, oldest first."""
        with translated(self._uri):
            return [str(one.version) for one in self._versions(self._name)]

    def fetch_bundle(self, version: str, folder: Path) -> Path:
        """Copy the bundle of `version` into `folder`; returns where it is."""
        with translated(self._uri):
            run_id = self._run_of(version)
            try:
                return Path(self._client.download_artifacts(run_id, _BUNDLE, str(folder)))
            except MlflowException as error:  # which does not say why
                message = (
                    f"the bundle of version {version} cannot be fetched: it is not there, there is no room for it in "
                    f"{folder.parent}, or what holds it does not answer"
                )
                raise RegistryError(message) from error

    def history(self) -> History:
        """Read every entry of the ledger: the versions of a registered model of its own, which MLflow numbers."""
        with translated(self._uri):
            return History.of(_kept(one) for one in self._versions(self._ledger))

    def record(self, entry: Entry) -> None:
        """Add `entry` to the ledger; whether it counts, the history then says."""
        with translated(self._uri):
            run_id = self._run_of(entry.version)
            with contextlib.suppress(MlflowException):  # it is there from an earlier entry
                self._client.create_registered_model(self._ledger, description=_LEDGER_DESCRIPTION)
            self._client.create_model_version(
                self._ledger,
                f"runs:/{run_id}/{_BUNDLE}",
                run_id=run_id,
                tags={_ENTRY: entry.model_dump_json()},
                description=f"{entry.action}: {entry.alias} {entry.replaced or '-'} -> {entry.version}, {entry.who}",
            )

    def point(self, alias: str, version: str, entry: int) -> None:
        """Move `alias` to `version`, as entry number `entry` says, and mark that as applied."""
        with translated(self._uri):
            self._client.set_registered_model_alias(self._name, alias, version)
            failpoint("promotion.pointed")
            self._client.set_model_version_tag(self._ledger, str(entry), _APPLIED, "yes")

    def keep_report(self, version: str, name: str, *, text: str, json: str) -> None:
        """Keep the gates' report on `version` with its run, as gates/NAME.txt and .json."""
        with translated(self._uri):
            run_id = self._run_of(version)
            self._client.log_text(run_id, text, f"gates/{name}.txt")
            self._client.log_text(run_id, json, f"gates/{name}.json")

    @contextlib.contextmanager
    def run(self, tags: Mapping[str, str]) -> Iterator[str]:
        """Open a run and yield its id; it counts as failed if the body does."""
        with translated(self._uri), mlflow.start_run(experiment_id=self._experiment_id, tags=dict(tags)) as run:
            yield run.info.run_id

    def log(self, parameters: Mapping[str, Any], metrics: Mapping[str, float], pictures: Path, checks: Path) -> None:
        """Log what led to the model and how good it is, in the open run."""
        mlflow.log_params(dict(parameters))
        mlflow.log_metrics(dict(metrics))
        mlflow.log_artifacts(str(pictures), "pictures")
        mlflow.log_artifact(str(checks))

    def create_version(
        self,
        model: HistGradientBoostingClassifier,
        columns: Sequence[str],
        classes: Sequence[str],
        requirements: Sequence[str],
    ) -> str:
        """Log `model` in the open run and make it the next version of the registered model."""
        run = mlflow.active_run()
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=signature(columns, classes),
            pip_requirements=list(requirements),
            pyfunc_predict_fn="predict_proba",
            serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
            metadata={"classes": list(classes)},
        )
        with contextlib.suppress(MlflowException):  # it is there from an earlier version
            self._client.create_registered_model(self._name)
        version = self._client.create_model_version(
            self._name, info.model_uri, run_id=run.info.run_id if run else None, model_id=info.model_id
        )
        return str(version.version)

    def log_bundle(self, folder: Path) -> None:
        """Keep the sealed bundle with the open run."""
        mlflow.log_artifacts(str(folder), _BUNDLE)

    def log_card(self, card: Path) -> None:
        """Keep the model card with the open run, by itself too, where MLflow shows it."""
        mlflow.log_artifact(str(card), "card")

    def complete(self, version: str, build: str, missed: Sequence[str]) -> None:
        """Mark `version` as what became of `build`, with the gates that it missed."""
        with translated(self._uri):
            self._client.set_model_version_tag(self._name, version, _MISSED, ", ".join(missed))
            self._client.set_model_version_tag(self._name, version, _BUILD, build)

    def missed(self, version: str) -> list[str]:
        """Name the gates that `version` missed when it was registered."""
        with translated(self._uri):
            tags = self._client.get_model_version(self._name, version).tags
        return [gate for gate in tags.get(_MISSED, "").split(", ") if gate]

    def run_tag(self, version: str, tag: str) -> str | None:
        """Give a tag of the run that `version` came from."""
        with translated(self._uri):
            return self._client.get_run(self._run_of(version)).data.tags.get(tag)

    def _versions(self, name: str) -> list[ModelVersion]:
        """Fetch all versions of model `name`, page by page, in an order that others do not change meanwhile."""
        pages: list[PagedList[ModelVersion]] = []
        while not pages or pages[-1].token:
            token = pages[-1].token if pages else None
            pages.append(
                self._client.search_model_versions(
                    f"name = '{name}'", max_results=_PAGE, order_by=["version_number ASC"], page_token=token
                )
            )
        return [one for page in pages for one in page]

    def _run_of(self, version: str) -> str:
        return self._client.get_model_version(self._name, version).run_id or ""


def _kept(version: ModelVersion) -> Kept:
    when = dt.datetime.fromtimestamp(version.creation_timestamp / 1000, dt.UTC)
    return Kept.of(int(version.version), when, version.tags.get(_ENTRY, ""), applied=_APPLIED in version.tags)


def signature(columns: Sequence[str], classes: Sequence[str]) -> ModelSignature:
    """Declare the model's rows (float32, NaN where missing) and its answer, a probability per class."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.float, column) for column in columns]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, len(classes)), "probabilities")]),
    )


def _quiet() -> None:
    """Leave the output to the pipeline: MLflow narrates migrations, and warns of pickles, which our bundle seals."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mlflow")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
