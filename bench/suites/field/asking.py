"""The questions that all are asked, and what the right answers to them are."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.lib.inputs import patients
from bench.suites.field.serving.predictor import as_row, predictor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Questions:
    """The patients of `bench.lib.conditions`, as a doctor sends them and as the model takes them."""

    def __init__(self, model: Path) -> None:
        everyone = list(patients())
        self._patients = [each.model_dump(exclude_defaults=True, mode="json") for each in everyone]
        self._rows = [[None if math.isnan(value) else value for value in each.encode()] for each in everyone]
        self._right = predictor(model)(np.stack([as_row(row) for row in self._rows]))

    def __len__(self) -> int:
        return len(self._rows)

    def patient(self, number: int) -> dict[str, Any]:
        """Give patient `number` as JSON that this system validates."""
        return self._patients[number]

    def row(self, number: int) -> list[float | None]:
        """Give the same patient as numbers, encoded by the client; null is missing."""
        return self._rows[number]

    def off(self, number: int, said: list[float]) -> float:
        """Say by how much the probabilities `said` of patient `number`, or the highest alone, differ from the model."""
        right = self._right[number]
        return float(np.abs(np.array(said) - (right if len(said) > 1 else right.max())).max())

    def write(self, path: Path, body: Callable[[int], dict[str, Any]]) -> Path:
        """Write what asks about every patient, one a line."""
        path.write_text("\n".join(json.dumps(body(number)) for number in range(len(self))) + "\n")
        return path
