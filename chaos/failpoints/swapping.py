"""Kills of inference between the steps of a rollout, from the registry to the first answer of the new version."""

import math
import shutil
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np

from chaos.failpoints.tally import Tally
from services.inference.serving.loading import load_model
from shared.artifacts.bundle import PRODUCTION, open_bundle
from shared.artifacts.store import ModelStore
from tests.support import plain_http
from tests.support.bundles import PacienteDePrueba, random_rows
from tests.support.model_registry import ModelRegistry
from tests.support.waiting import until_now
from tests.support.zygote import Forked, Zygote

PASSES = {
    "registry.fetched": "1",
    "store.copy": "2",
    "store.publish": "1",
    "store.link": "2",
    "model.loaded": "2",
    "model.swapped": "2",
}
"""By failpoint, the pass that belongs to the promotion: the start passes some of them, too."""
_ASKED_BEFORE = 3
_SECONDS = 120
_ROWS = random_rows(PacienteDePrueba, 4, seed=9)
_BODY = {
    "inputs": [
        {
            "name": "paciente",
            "shape": [len(_ROWS), len(_ROWS[0])],
            "datatype": "FP32",
            "data": [[None if math.isnan(value) else value for value in row] for row in _ROWS],
        }
    ]
}


class Replica:
    """The folder of an inference service that follows a registry with two versions."""

    def __init__(self, registry: ModelRegistry, folder: Path) -> None:
        """Register two versions and place the public key, as an operator does."""
        self.registry, self.folder = registry, folder
        self.environment = {
            "MLFLOW_TRACKING_URI": registry.url,
            "INFERENCE_POLL_SECONDS": "0.05",
            "PREDECIR_PACIENTE": "tests.support.bundles:PacienteDePrueba",
        }
        folder.mkdir(exist_ok=True)
        made = [registry.register(PacienteDePrueba, seed=seed) for seed in (1, 2)]
        (folder / "var/keys").mkdir(parents=True)
        shutil.copy(registry.key, folder / "var/keys")
        self.model_store = ModelStore(folder / "var", PacienteDePrueba.disease.name, PacienteDePrueba.digest)
        self.expected = {version: self._answers(bundle) for version, bundle in made}
        self.production, self.other = self.expected

    def promote(self) -> None:
        """Move production to the other version."""
        self.production, self.other = self.other, self.production
        self.registry.promote(PacienteDePrueba, self.production)

    def forget(self) -> None:
        """Remove the version that is not in production from the model store."""
        shutil.rmtree(self.model_store.folder / self.other, ignore_errors=True)

    def starts_with(self) -> str | None:
        """Return the complete version that a start without the registry would serve, or None."""
        try:
            version = (self.model_store.folder / PRODUCTION).readlink().name
        except OSError:
            return None
        return None if self.model_store.opened(version) is None else version

    def ask(self, url: str) -> str | None:
        """Send one request; return the version that answered, None, or `mixture` if another one computed it."""
        path = f"{url}/v2/models/{PacienteDePrueba.disease.name}/infer"
        try:
            response = plain_http.post(path, json=_BODY, timeout=_SECONDS)
        except httpx.TransportError:
            return None
        if response.status_code != HTTPStatus.OK:
            return "refused"
        answer = response.json()
        probabilities, expected = answer["outputs"][0]["data"], self.expected.get(answer["model_version"])
        return str(answer["model_version"]) if probabilities == expected else "mixture"

    def _answers(self, bundle: Path) -> list[float]:
        loaded = load_model(open_bundle(bundle, self.registry.key, patient_digest=PacienteDePrueba.digest))
        probabilities: list[float] = loaded.model.probabilities(np.array(_ROWS, dtype=np.float32)).ravel().tolist()
        return probabilities


def hit(failpoint: str, hits: int, zygote: Zygote, replica: Replica) -> Tally:
    """Promote under load; the process kills itself, and must serve one complete version at every moment.

    `lost` counts rejected requests, and restarts that did not reach the version in production.
    """
    tally = Tally(failpoint, "inference behind MLflow")
    replica.promote()
    serve(tally, zygote, replica)
    for _ in range(hits):
        replica.forget()
        process = tally.start(
            zygote, ["services.inference"], replica.folder, replica.environment, armed=PASSES[failpoint]
        )
        url, before = process.listens(), replica.production
        count(tally, [replica.ask(url) or "refused" for _ in range(_ASKED_BEFORE)], {before})
        replica.promote()
        count(tally, ask_until_cut(replica, url), {before, replica.production})
        tally.hit(process)
        tally.never(replica.starts_with() not in {before, replica.production})
        serve(tally, zygote, replica)
    return tally


def ask_until_cut(replica: Replica, url: str) -> list[str]:
    """Send requests until the process dies; return the versions that answered."""
    answers: list[str] = []

    def cut() -> bool:
        answered = replica.ask(url)
        answers.extend([] if answered is None else [answered])
        return answered is None

    until_now(cut, seconds=_SECONDS)
    return answers


def serve(tally: Tally, zygote: Zygote, replica: Replica) -> None:
    """Start it once more; count a loss unless it serves and stores the version in production."""
    process: Forked = zygote.start(["services.inference"], replica.folder, replica.environment)
    try:
        url = process.listens()
        until_now(lambda: replica.ask(url) == replica.production, seconds=_SECONDS)
        tally.recovered()
        until_now(lambda: replica.starts_with() == replica.production, seconds=_SECONDS)
    except TimeoutError:
        tally.lost += 1
    finally:
        process.kill()


def count(tally: Tally, answers: list[str], allowed: set[str]) -> None:
    """Count the answers by version."""
    tally.answered += len(answers)
    tally.lost += answers.count("refused")
    tally.halves += sum(answer not in {*allowed, "refused"} for answer in answers)
