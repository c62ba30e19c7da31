"""BentoML: `bentoml serve …serving.with_bentoml:Thyroid --port PORT`, with MODEL in the environment."""

import os
from pathlib import Path

import bentoml
import numpy as np

from bench.suites.field.serving.predictor import predictor


@bentoml.service(workers="cpu_count", traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Thyroid:
    """Rows of concurrent requests go to the model in one call."""

    def __init__(self) -> None:
        self.predict_proba = predictor(Path(os.environ["MODEL"]))

    @bentoml.api(batchable=True, max_batch_size=64)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Compute the probabilities of all rows."""
        return self.predict_proba(rows.astype(np.float32))
