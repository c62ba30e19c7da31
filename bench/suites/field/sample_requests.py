"""Requests of the comparison, the same for every server, and their right answers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.lib.inputs import patients
from bench.suites.field.serving.predictor import as_row, predictor


class SampleRequests:
    """The patients of `bench.lib.inputs`, as JSON of this system and as encoded rows of the model."""

    def __init__(self, model: Path) -> None:
        everyone = list(patients())
        self._patients = [each.model_dump(exclude_defaults=True, mode="json") for each in everyone]
        self._rows = [[None if math.isnan(value) else value for value in each.encode()] for each in everyone]
        self._right = predictor(model)(np.stack([as_row(row) for row in self._rows]))

    def __len__(self) -> int:
        return len(self._rows)

    def patient(self, number: int) -> dict[str, Any]:
        """Return patient `number` as JSON that this system validates."""
        return self._patients[number]

    def row(self, number: int) -> list[float | None]:
        """Return patient `number` as an encoded row; None is missing."""
        return self._rows[number]

    def difference(self, number: int, probabilities: list[float]) -> float:
        """Return the largest difference from the model's probabilities of patient `number`: all, or the highest."""
        right = self._right[number]
        return float(np.abs(np.array(probabilities) - (right if len(probabilities) > 1 else right.max())).max())

    def write(self, path: Path, body: Callable[[int], dict[str, Any]]) -> Path:
        """Write the request body of every patient, one per line."""
        path.write_text("\n".join(json.dumps(body(number)) for number in range(len(self))) + "\n")
        return path
