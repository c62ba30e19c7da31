"""The model as a pickled scikit-learn estimator, for models whose ONNX form was not proven equal."""

import os
import pickle

import numpy as np

from services.inference.serving.model import Probabilities, Rows
from shared.contracts.scoring import ModelFacts


class PickleModel:
    """`model.pkl` of a bundle: an object with scikit-learn's `predict_proba`."""

    platform = "sklearn_pickle"

    def __init__(self, content: bytes, facts: ModelFacts) -> None:
        """Unpickle `content`. Unpickling executes code: pass only bytes of a checked `Bundle`."""
        self.facts = facts
        # Replicas share the cores, calls do not: threads that wait for a busy core make a call of 10 ms last a second.
        # OpenMP reads this variable when the estimator imports it.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._estimator = pickle.loads(content)  # noqa: S301 - checked by `shared.artifacts.bundle`

    def probabilities(self, rows: Rows) -> Probabilities:
        """Compute the probabilities of `rows`."""
        probabilities: Probabilities = np.asarray(self._estimator.predict_proba(rows), dtype=np.float64)
        return probabilities
