"""Swapping the model: a candidate is checked and loaded beside the model that serves, then swapped in between batches.

A candidate that must not serve is rejected, and the model that serves stays.
"""

import asyncio
from pathlib import Path

from services.inference.metrics import Metrics
from services.inference.rollout.candidate import Candidate, Fingerprint
from services.inference.rollout.state import RejectedVersion, RolloutState
from services.inference.serving.batcher import Batcher
from services.inference.serving.loading import load_model
from services.inference.serving.model import LoadedModel
from shared.artifacts.bundle import open_bundle
from shared.artifacts.errors import BundleError, BundleMissingError
from shared.artifacts.store import forced_past
from shared.failpoints import failpoint
from shared.patient import Patient


class Swapper:
    """Loads candidates into the batcher."""

    def __init__(
        self, public_key: Path, patient: type[Patient], batcher: Batcher, state: RolloutState, metrics: Metrics
    ) -> None:
        """Serve only bundles that are signed under `public_key`, of the model of `patient`."""
        self._public_key, self._patient = public_key, patient
        self._batcher, self._state, self._metrics = batcher, state, metrics
        self._serving: Fingerprint | None = None
        self._bad: tuple[Fingerprint, RejectedVersion] | None = None

    async def swap(self, candidate: Candidate) -> RejectedVersion | None:
        """Serve `candidate`; return None if it serves now, otherwise its rejection.

        A rejected candidate is tried again when its files or the key change. It is tried again at once if a file was
        missing, or if nothing serves.
        """
        if candidate.fingerprint == self._serving:
            return None
        if self._bad is not None and self._bad[0] == candidate.fingerprint:
            return self._bad[1]
        try:
            loaded = await asyncio.to_thread(self._load, candidate)
        except BundleError as error:
            self._metrics.load_failures.inc()
            rejected = RejectedVersion(candidate.version, str(error))
            lasting = self._state.serving is not None and not isinstance(error, BundleMissingError)
            self._bad = (candidate.fingerprint, rejected) if lasting else None
            return rejected
        failpoint("model.loaded")
        self._serve(loaded)
        failpoint("model.swapped")
        self._serving, self._bad = candidate.fingerprint, None
        return None

    def _load(self, candidate: Candidate) -> LoadedModel:
        bundle = candidate.bundle
        if bundle is None:
            patient, folder = self._patient, candidate.fingerprint.folder
            bundle = open_bundle(folder, self._public_key, patient_digest=patient.digest, name=patient.disease.name)
        return load_model(bundle, forced_past=forced_past(candidate.fingerprint.folder))

    def _serve(self, loaded: LoadedModel) -> None:
        before = self._state.serving
        if before is not None and before.facts.digest == loaded.model.facts.digest:
            return  # the same bytes, written again
        self._batcher.serve(loaded)
        self._state.serve(loaded)
