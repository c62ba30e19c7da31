"""A real MLflow server on a free port, and bundles registered with it as training does."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from shared.artifacts.bundle import PRODUCTION
from shared.patient import Patient
from tests.support import plain_http
from tests.support.bundles import make_bundle, reseal
from tests.support.waiting import until_now

_START_SECONDS = 180


class ModelRegistry:
    """A running server; `key` is the public key that inference needs to trust its versions."""

    def __init__(self, folder: Path, url: str) -> None:
        # Imported here: it takes seconds, and only its users need it.
        from mlflow import MlflowClient  # noqa: PLC0415

        self.url, self.var = url, folder / "var"
        self.key = self.var / "keys" / "bundle.pub"
        self._client: MlflowClient = MlflowClient(tracking_uri=url, registry_uri=url)

    def register(
        self, patient: type[Patient], *, seed: int, harm: Callable[[Path], None] | None = None
    ) -> tuple[str, Path]:
        """Train a version, apply `harm` to its bundle and register it; return the version and the bundle's folder."""
        name = patient.disease.name
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        run_id = self._client.create_run(experiment_id).info.run_id
        version = str(self._client.create_model_version(name, f"runs:/{run_id}/bundle", run_id=run_id).version)
        folder = make_bundle(self.var, patient, version=version, seed=seed)
        reseal(folder, run_id=run_id)
        if harm is not None:
            harm(folder)
        self._client.log_artifacts(run_id, str(folder), "bundle")
        return version, folder

    def promote(self, patient: type[Patient], version: str) -> None:
        self._client.set_registered_model_alias(patient.disease.name, PRODUCTION, version)

    def delete(self, patient: type[Patient], version: str) -> None:
        """Delete `version` as a person does in MLflow's UI: its aliases go with it."""
        self._client.delete_model_version(patient.disease.name, version)


@contextmanager
def model_registry(folder: Path, *, artifacts: str | None = None) -> Iterator[ModelRegistry]:
    """Run an MLflow server in `folder`, with artifacts through the server, as in the stack; to `artifacts` if given."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    artifacts = artifacts or f"{folder}/artifacts"
    stores = [f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={artifacts}"]
    address = ["--host=127.0.0.1", f"--port={port}", "--workers=1"]
    with (folder / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *address, *stores, "--serve-artifacts"],
            cwd=folder,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until_now(lambda: _healthy(server, url), seconds=_START_SECONDS)
        yield ModelRegistry(folder, url)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(60)


def _healthy(server: subprocess.Popen[bytes], url: str) -> bool:
    assert server.poll() is None, "the MLflow server ended; see mlflow.log"
    try:
        return plain_http.get(f"{url}/health", timeout=1).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
