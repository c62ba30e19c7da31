"""Test doubles, named by their behaviour."""

import asyncio
import math
from collections.abc import Sequence

from shared.contracts.scoring import ModelFacts, ModelUnavailableError, Score
from shared.contracts.transport import Delivery, TransportDownError
from shared.diseases.thyroid import DatosPaciente

MODEL = ModelFacts(
    name="tiroides",
    version="7",
    digest="d" * 64,
    patient_digest=DatosPaciente.digest,
    columns=DatosPaciente.columns,
    classes=DatosPaciente.disease.classes,
    prevalence=dict.fromkeys(DatosPaciente.disease.classes, 1 / 7),
    low_prevalence=("hipertiroidismo",),
    never_missing=("edad", "indice_t4_libre"),
    training_ranges={"tsh": (0.005, 530), "edad": (1, 97)},
)


class ThyroidByTsh:
    """Scores by the sign of TSH alone: below 0.2 hyper, above 6 hypo, else nothing wrong."""

    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    async def score(self, row: list[float]) -> Score:
        self.rows.append(row)
        tsh = row[MODEL.columns.index("tsh")]
        found = "hipertiroidismo" if tsh < 0.2 else "hipotiroidismo" if tsh > 6 else "sin_alteracion"
        return Score([0.94 if code == found else 0.01 for code in MODEL.classes], MODEL)

    def unavailable(self) -> str | None:
        return None


class Adding:
    """Scores hyperthyroidism by a sum over the known values of the row; `model` may be changed meanwhile."""

    def __init__(self, weights: dict[str, float], model: ModelFacts = MODEL) -> None:
        self._weights, self.model = weights, model
        self.rows: list[list[float]] = []

    async def score(self, row: list[float]) -> Score:
        self.rows.append(row)
        values = dict(zip(MODEL.columns, row, strict=True))
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        found = 0.5 + sum(weight * known.get(name, 0.0) for name, weight in self._weights.items())
        rest = (1 - found) / (len(MODEL.classes) - 1)
        return Score([found if code == "hipertiroidismo" else rest for code in MODEL.classes], self.model)

    def unavailable(self) -> str | None:
        return None


class Always:
    """Scores every patient alike."""

    def __init__(self, probabilities: list[float], model: ModelFacts = MODEL) -> None:
        self._score = Score(probabilities, model)

    async def score(self, row: list[float]) -> Score:
        del row
        return self._score

    def unavailable(self) -> str | None:
        return None


class NoModel:
    """A scorer without a model."""

    async def score(self, row: list[float]) -> Score:
        del row
        raise ModelUnavailableError(self.unavailable())

    def unavailable(self) -> str:
        return "no model in production"


class Card:
    """Returns this card, or none."""

    def __init__(self, content: bytes | None = None) -> None:
        self._content = content

    async def card(self) -> bytes | None:
        return self._content


class Remembering:
    """A transport that stores and confirms every delivery."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        self.deliveries.extend(batch)
        return {delivery.seq for delivery in batch}


class Down:
    """A transport that is down until `back` is set, and then delegates to `next_one`."""

    def __init__(self, next_one: Remembering) -> None:
        self.back = asyncio.Event()
        self.tried = asyncio.Event()
        self._next = next_one

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        self.tried.set()
        if not self.back.is_set():
            raise TransportDownError("not today")
        return await self._next.publish(batch)
