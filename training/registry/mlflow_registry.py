"""Model registry: MLflow in a local SQLite file or on a server, reduced to the operations that training needs."""

import contextlib
import datetime as dt
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.sklearn
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.entities import PagedList
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from shared.artifacts.bundle import CARD, LARGEST_FILE
from shared.artifacts.store import FORCED_TAG
from shared.failpoints import failpoint
from training.errors import RegistryError
from training.registry.mlflow_errors import translate_errors
from training.registry.promotion_log import Entry, PromotionLog, StoredEntry
from training.registry.registry_file import FILE, artifact_address, is_file_of, prepare_file

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier


_BUILD_TAG = "build"
_MISSED_GATES_TAG = "missed_gates"
_ENTRY_TAG = "entry"
_APPLIED_TAG = "applied"
_BUNDLE = "bundle"
_PAGE_SIZE = 1000
_LOG_DESCRIPTION = "Promotion log: one version per entry. Written by python -m training only."
_MODEL_DESCRIPTION = """\
Versions come from `make train`. Put one into production with `python -m training promote`, not here:
an alias that is moved here bypasses the gates, the signature and the history."""
_VERSION_DESCRIPTION = """\
Takes rows of float32, as in serving. A frame as pandas reads it has float64 or whole numbers, which MLflow refuses:

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}/{version}")
probabilities = model.predict(frame[model.metadata.get_input_schema().input_names()].astype("float32"))
```

A missing value is NaN. Each row of the result has a probability per class: {classes}."""
_UNREGISTERED = "not registered"


class ModelRegistry:
    """Runs and versions of one model. A version is complete once it has the tag of its build, then its gates run."""

    def __init__(self, name: str, *, uri: str | None, var: Path, page_size: int = _PAGE_SIZE) -> None:
        """Use the server at `uri`, or without one `mlflow.db` and `mlartifacts` in `var`.

        Raises:
            RegistryError: neither can be used.

        """
        self.name, self.log_name = name, f"{name}-promotions"
        self._page_size = page_size
        artifacts = None
        if uri is None or is_file_of(uri, var):
            if not os.access(var, os.W_OK):
                message = f"{var}: cannot be written; it is the model registry's folder"
                raise RegistryError(message)
            uri, artifacts = f"sqlite:///{var.resolve() / FILE}", artifact_address(var)
            with translate_errors(str(var / FILE)):
                prepare_file(var, name)
        _configure_mlflow()
        with translate_errors(uri):
            mlflow.set_tracking_uri(uri)
            self.client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
            experiment = self.client.get_experiment_by_name(name)
            if experiment is None:
                self._experiment_id = self.client.create_experiment(name, artifact_location=artifacts)
            else:
                self._experiment_id = experiment.experiment_id
        self._uri = uri

    def version_of_build(self, build: str) -> str | None:
        """Return the latest version that was registered from `build`, or None."""
        with translate_errors(self._uri):
            versions = self.client.search_model_versions(f"name = '{self.name}' and tags.{_BUILD_TAG} = '{build}'")
        return max((str(version.version) for version in versions), key=int, default=None)

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""
        with translate_errors(self._uri):
            models = self.client.search_registered_models(f"name = '{self.name}'")
            return {alias: str(version) for model in models for alias, version in model.aliases.items()}

    def versions(self) -> list[str]:
        """Return every version, oldest first."""
        with translate_errors(self._uri):
            return [str(version.version) for version in self._versions(self.name)]

    def download_bundle(self, version: str, folder: Path) -> Path:
        """Copy the bundle of `version` into `folder`; return its path."""
        with translate_errors(self._uri):
            run_id = self._run_of(version)
            for file in self.client.list_artifacts(run_id, _BUNDLE):
                if file.is_dir or (file.file_size or 0) > LARGEST_FILE:
                    message = (
                        f"the bundle of version {version} has a file of more than {LARGEST_FILE} bytes, or a folder"
                    )
                    raise RegistryError(message)
            try:
                return Path(self.client.download_artifacts(run_id, _BUNDLE, str(folder)))
            except MlflowException as error:  # it does not name the cause
                message = (
                    f"the bundle of version {version} cannot be fetched: it does not exist, {folder.parent} is full, "
                    "or the artifact store does not respond"
                )
                raise RegistryError(message) from error

    def promotion_log(self) -> PromotionLog:
        """Read the promotion log: its entries are versions of a second registered model, which MLflow numbers."""
        with translate_errors(self._uri):
            return PromotionLog.from_entries(_stored_entry(version) for version in self._versions(self.log_name))

    def append_entry(self, entry: Entry) -> None:
        """Append `entry` to the promotion log. Whether it is valid, the log shows when it is read again."""
        with translate_errors(self._uri):
            run_id = self._run_of(entry.version)
            with contextlib.suppress(MlflowException):  # it exists since an earlier entry
                self.client.create_registered_model(self.log_name, description=_LOG_DESCRIPTION)
            self.client.create_model_version(
                self.log_name,
                f"runs:/{run_id}/{_BUNDLE}",
                run_id=run_id,
                tags={_ENTRY_TAG: entry.model_dump_json()},
                description=f"{entry.action}: {entry.alias} {entry.replaced or '-'} -> {entry.version}, {entry.who}",
            )

    def set_alias(self, alias: str, version: str, entry: int) -> None:
        """Move `alias` to `version`, then mark entry number `entry` as applied."""
        with translate_errors(self._uri):
            self.client.set_registered_model_alias(self.name, alias, version)
            failpoint("promotion.pointed")
            self.client.set_model_version_tag(self.log_name, str(entry), _APPLIED_TAG, "yes")

    def store_gate_report(self, version: str, name: str, *, text: str, json: str) -> None:
        """Store the gate report on `version` with its run, as gates/NAME.txt and gates/NAME.json."""
        with translate_errors(self._uri):
            run_id = self._run_of(version)
            self.client.log_text(run_id, text, f"gates/{name}.txt")
            self.client.log_text(run_id, json, f"gates/{name}.json")

    @contextlib.contextmanager
    def start_run(self, tags: Mapping[str, str]) -> Iterator[str]:
        """Open a run and yield its id; `create_version` names it. The run is marked as failed if the body raises."""
        settings: dict[str, Any] = {"experiment_id": self._experiment_id, "run_name": _UNREGISTERED, "tags": dict(tags)}
        with translate_errors(self._uri), mlflow.start_run(**settings) as run:
            yield run.info.run_id

    def log_evaluation(
        self, parameters: Mapping[str, Any], metrics: Mapping[str, float], plots: Path, checks: Path
    ) -> None:
        """Log parameters, metrics, the folder of plots and the data checks in the open run."""
        mlflow.log_params(dict(parameters))
        mlflow.log_metrics(dict(metrics))
        mlflow.log_artifacts(str(plots), "pictures")
        mlflow.log_artifact(str(checks))

    def create_version(
        self,
        model: "HistGradientBoostingClassifier",
        columns: Sequence[str],
        classes: Sequence[str],
        requirements: Sequence[str],
        *,
        above: int,
    ) -> tuple[str, int]:
        """Log `model` in the open run and create the next version of the registered model, numbered above `above`.

        The run is named after the version, and the version is described with the lines of Python that use it.
        Returns its number, and how many numbers were skipped. MLflow numbers the versions and counts deleted ones, so
        a number is skipped by a version that is deleted at once.
        """
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
        with contextlib.suppress(MlflowException):  # it exists since an earlier version
            self.client.create_registered_model(self.name, description=_MODEL_DESCRIPTION)
        create = partial(
            self.client.create_model_version,
            self.name,
            info.model_uri,
            run_id=run.info.run_id if run else None,
            model_id=info.model_id,
        )
        skipped = 0
        while int(version := str(create().version)) <= above:
            self.client.delete_model_version(self.name, version)
            skipped += 1
        description = _VERSION_DESCRIPTION.format(name=self.name, version=version, classes=", ".join(classes))
        self.client.update_model_version(self.name, version, description)
        if run:
            self.client.update_run(run.info.run_id, name=f"version {version}")
        return version, skipped

    def log_bundle(self, folder: Path) -> None:
        """Store the sealed bundle with the open run, and its card once more outside of it, where MLflow shows it."""
        mlflow.log_artifacts(str(folder), _BUNDLE)
        mlflow.log_artifact(str(folder / CARD), "card")

    def mark_build(self, version: str, build: str) -> None:
        """Tag `version`, whose bundle is stored, with its build: it is not registered again while it exists."""
        with translate_errors(self._uri):
            self.client.set_model_version_tag(self.name, version, _BUILD_TAG, build)

    def note_forced(self, version: str, gates: Sequence[str]) -> None:
        """Tag `version` with the `gates` that it was forced past into production; without any, remove the tag."""
        with translate_errors(self._uri):
            tag = self.client.get_model_version(self.name, version).tags.get(FORCED_TAG, "")
            if gates and tag != ", ".join(gates):
                self.client.set_model_version_tag(self.name, version, FORCED_TAG, ", ".join(gates))
            elif tag and not gates:
                self.client.delete_model_version_tag(self.name, version, FORCED_TAG)

    def mark_gates(self, version: str, missed: Sequence[str]) -> None:
        """Tag `version` with the gates that it missed."""
        with translate_errors(self._uri):
            self.client.set_model_version_tag(self.name, version, _MISSED_GATES_TAG, ", ".join(missed))

    def missed_gates(self, version: str) -> list[str] | None:
        """Return the gates that `version` missed when it was registered, or None if they did not run to the end."""
        with translate_errors(self._uri):
            missed = self.client.get_model_version(self.name, version).tags.get(_MISSED_GATES_TAG)
        return None if missed is None else [gate for gate in missed.split(", ") if gate]

    def run_tag(self, version: str, tag: str) -> str | None:
        """Return a tag of the run that created `version`."""
        with translate_errors(self._uri):
            return self.client.get_run(self._run_of(version)).data.tags.get(tag)

    def _versions(self, name: str) -> list[ModelVersion]:
        """Fetch all versions of model `name`, page by page, in an order that concurrent writers do not change."""
        pages: list[PagedList[ModelVersion]] = []
        while not pages or pages[-1].token:
            token = pages[-1].token if pages else None
            pages.append(
                self.client.search_model_versions(
                    f"name = '{name}'", max_results=self._page_size, order_by=["version_number ASC"], page_token=token
                )
            )
        return [version for page in pages for version in page]

    def _run_of(self, version: str) -> str:
        return self.client.get_model_version(self.name, version).run_id or ""


def _stored_entry(version: ModelVersion) -> StoredEntry:
    when = dt.datetime.fromtimestamp(version.creation_timestamp / 1000, dt.UTC)
    text = version.tags.get(_ENTRY_TAG, "")
    return StoredEntry.parse(int(version.version), when, text, applied=_APPLIED_TAG in version.tags)


def signature(columns: Sequence[str], classes: Sequence[str]) -> ModelSignature:
    """Return the model's signature: rows of float32 (NaN where missing) in, one probability per class out."""
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.float, column) for column in columns]),
        outputs=Schema([TensorSpec(np.dtype(np.float64), (-1, len(classes)), "probabilities")]),
    )


def _configure_mlflow() -> None:
    """Make MLflow's client follow no redirects, and silence its progress, its tracebacks and its warning about pickles.

    What it raises is reported in one line. The bundle's signature covers the pickle.
    """
    os.environ.setdefault("MLFLOW_ALLOW_HTTP_REDIRECTS", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="mlflow")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
