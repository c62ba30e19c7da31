"""A model in memory: rows in, probabilities out, whichever library computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from shared.model import ModelInfo

Rows: TypeAlias = npt.NDArray[np.float32]
"""Encoded patients, n x columns; NaN where missing."""
Probabilities: TypeAlias = npt.NDArray[np.float64]
"""n x classes, in the order of `ModelInfo.classes`."""


class Model(Protocol):
    """One loaded model version. `probabilities` may be called from any thread, one call at a time."""

    @property
    def info(self) -> ModelInfo:
        """What answers say of it."""

    @property
    def platform(self) -> str:
        """The Open Inference Protocol's name of what computes."""

    @property
    def blocking(self) -> bool:
        """Whether a call takes so long that it must not run in the event loop."""

    def probabilities(self, rows: Rows) -> Probabilities:
        """Compute the probabilities of `rows`; any exception means that these rows have no answer."""
