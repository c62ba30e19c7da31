"""A model in memory: rows in, probabilities out, whichever library computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from shared.contracts.scoring import ModelFacts

Rows: TypeAlias = npt.NDArray[np.float32]
"""Encoded patients, n x columns; NaN where missing."""
Probabilities: TypeAlias = npt.NDArray[np.float64]
"""n x classes, in the order of `ModelFacts.classes`."""


class Model(Protocol):
    """One loaded model version. `probabilities` may be called from any thread."""

    @property
    def facts(self) -> ModelFacts:
        """What answers say of it."""

    @property
    def platform(self) -> str:
        """The Open Inference Protocol's name of what computes."""

    def probabilities(self, rows: Rows) -> Probabilities:
        """Compute the probabilities of `rows`; any exception means that these rows have no answer."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that may serve, and how many rows it answers fast enough to be called in the event loop (maybe none).

    `card` is its model card, HTML in UTF-8; a version from before there were any has none.
    """

    model: Model
    quick_rows: int
    card: bytes | None = None
