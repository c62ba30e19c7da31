"""A model in memory: rows in, probabilities out, independent of the library that computes them."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.contracts.scoring import ModelFacts

Rows: TypeAlias = npt.NDArray[np.float32]
"""Encoded patients, n x columns; NaN where missing."""
Probabilities: TypeAlias = npt.NDArray[np.float64]
"""n x classes, in the order of `ModelFacts.classes`."""


class Model(Protocol):
    """One loaded model version. `probabilities` may be called from any thread."""

    facts: ModelFacts
    platform: str
    """The Open Inference Protocol's name of the library that computes."""

    def probabilities(self, rows: Rows) -> Probabilities:
        """Compute the probabilities of `rows`; any exception means that these rows have no answer."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that may serve. Calls of up to `quick_rows` rows (maybe none) are fast enough for the event loop.

    `card` is its model card, HTML in UTF-8; None for a version from before there were cards.
    """

    model: Model
    quick_rows: int
    card: bytes | None = None
