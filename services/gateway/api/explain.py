"""`POST /explicar`: the contribution of each feature of a patient to the answer. It stores nothing.

The players are the features that the doctor entered. Without a feature, the patient is one whose value is unknown or,
for a flag, false. Rows go to the same `Scorer` as predictions: a few at a time, with pauses, one explanation after the
other, so that predictions are hardly delayed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from pydantic import BaseModel, Field

from services.gateway.api.answers import Modelo
from services.gateway.rejections import no_model, unavailable
from services.gateway.shapley import coalitions, draw_orders, shares
from shared.contracts.scoring import ModelFacts, ModelUnavailableError, Score, Scorer
from shared.patient import Feature, Patient

MOST_ROWS = 1024
"""Rows scored for one explanation: exact up to ten features, and estimated from drawn orders for more."""
ROWS_AT_ONCE = 32
"""Rows of one explanation in one batch."""
AT_ONCE = 1
"""Explanations computed at once; others wait."""
MOST_WAITING = 16
"""Explanations that wait; more are rejected."""

_METHOD = (
    "Valores de Shapley{drawn}: cuánto cambia en promedio la probabilidad al añadir cada dato a los demás, frente a no "
    "conocerlo (o, si el modelo no conoce casos sin él, frente al centro de su rango o a su primera opción); sumados a "
    "la base dan la probabilidad respondida."
)
_DRAWN = ", estimados con {orders} órdenes al azar, siempre los mismos"


class Contribucion(BaseModel):
    """Lo que un dato aportó a la probabilidad del diagnóstico respondido."""

    campo: str
    aporte: float = Field(description="En probabilidad: positivo si la subió, negativo si la bajó.")


class Explicacion(BaseModel):
    """Lo que aportó cada dato conocido de este paciente a la respuesta."""

    modelo: Modelo
    metodo: str = Field(description="Cómo se calcularon los aportes, en una frase.")
    prediccion: str = Field(description="Código del diagnóstico explicado: el más probable.")
    probabilidad: float = Field(description="Su probabilidad para este paciente: la base más todos los aportes.")
    base: float = Field(description="Su probabilidad sin ninguno de los datos.")
    contribuciones: list[Contribucion] = Field(description="De la mayor a la menor, sin mirar el signo.")


class _AnotherModelError(Exception):
    """Another model started serving during an explanation."""


class Explainer:
    """Explains the answers of one scorer."""

    def __init__(
        self, patient: type[Patient], scorer: Scorer, deadline_seconds: float, registry: CollectorRegistry
    ) -> None:
        """Explain for `patient`; one explanation may take `deadline_seconds`, including its wait."""
        self._features = {feature.name: feature for feature in patient.features}
        self._scorer, self._deadline = scorer, deadline_seconds
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._admitted_now = 0
        self._seconds = Histogram(
            "predecir_explanation_seconds",
            "Time to explain one answer",
            registry=registry,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        )

    async def explain(self, patient: Patient) -> dict[str, Any]:
        """Return the content of an `Explicacion`.

        Raises:
            ProblemError: 503: too many explanations, no model, or too slow.

        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline), self._admitted():
                try:
                    explanation = await self._explained(patient)
                except _AnotherModelError:
                    explanation = await self._explained(patient)
        except _AnotherModelError:
            raise unavailable("modelo", "El modelo está cambiando; inténtelo de nuevo.") from None
        except ModelUnavailableError as error:
            raise no_model(str(error)) from None
        except TimeoutError:
            raise unavailable("plazo", "No se pudo explicar a tiempo; inténtelo de nuevo.") from None
        self._seconds.observe(time.perf_counter() - started)
        return explanation

    @asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        if self._admitted_now >= AT_ONCE + MOST_WAITING:
            raise unavailable("saturado", "Se piden demasiadas explicaciones a la vez; inténtelo de nuevo.")
        self._admitted_now += 1
        try:
            async with self._turn:
                yield
        finally:
            self._admitted_now -= 1

    async def _explained(self, patient: Patient) -> dict[str, Any]:
        whole = await self._scorer.score(patient.encode())
        model, probabilities = whole.model, whole.probabilities
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        entered = [name for name, value in patient.__dict__.items() if value is not None and value is not False]
        orders = draw_orders(len(entered), MOST_ROWS)
        masks = coalitions(len(entered), orders)
        scores = await self._scores(patient, entered, masks, model)
        value = {coalition: score.probabilities[best] for coalition, score in zip(masks, scores, strict=True)}
        contributions = dict(zip(entered, shares(len(entered), orders, value), strict=True))
        drawn = _DRAWN.format(orders=len(orders)) if orders else ""
        return {
            "modelo": {"nombre": model.name, "version": model.version},
            "metodo": _METHOD.format(drawn=drawn),
            "prediccion": model.classes[best],
            "probabilidad": value[2 ** len(entered) - 1],
            "base": value[0],
            "contribuciones": [
                {"campo": name, "aporte": contributions[name]}
                for name in sorted(entered, key=lambda name: -abs(contributions[name]))
            ],
        }

    async def _scores(
        self, patient: Patient, entered: list[str], masks: Sequence[int], model: ModelFacts
    ) -> list[Score]:
        without = {name: self._without(self._features[name], model) for name in entered}
        scores: list[Score] = []
        for start in range(0, len(masks), ROWS_AT_ONCE):
            began = time.perf_counter()
            rows = [_row(patient, entered, without, mask) for mask in masks[start : start + ROWS_AT_ONCE]]
            scores += await asyncio.gather(*(self._scorer.score(row) for row in rows))
            # Rest as long as the work took: a loop that is always busy keeps the interpreter from the outbox's thread.
            await asyncio.sleep(time.perf_counter() - began)
        if any(score.model.digest != model.digest for score in scores):
            raise _AnotherModelError
        return scores

    @staticmethod
    def _without(feature: Feature, model: ModelFacts) -> Any:  # noqa: ANN401 - of the feature's type, or None
        """Return the value that replaces a feature that is left out."""
        if feature.kind == "flag":
            return False
        if feature.name not in model.never_missing:
            return None
        if feature.kind == "choice":
            return feature.choices[0]
        low, high = feature.reference or model.training_ranges.get(feature.name) or feature.limits or (0.0, 0.0)
        return (low + high) / 2


def _row(patient: Patient, entered: list[str], without: dict[str, Any], mask: int) -> list[float]:
    """Encode the patient with the features of `mask` only; derived features are derived again."""
    left_out = {name: without[name] for index, name in enumerate(entered) if not mask >> index & 1}
    return type(patient).model_construct(**(patient.__dict__ | left_out)).encode()
