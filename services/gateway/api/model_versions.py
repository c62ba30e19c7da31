"""Which model versions this gateway's scores came from: replicas that serve different ones show in one place."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from shared.web.api_keys import Role
from shared.web.routing import Router

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from shared.contracts.scoring import ModelFacts, Score, Scorer

LATELY_SECONDS = 5 * 60
MOST = 16
"""Versions that are remembered; the one that scored longest ago is forgotten first."""


class ModeloVisto(BaseModel):
    """Una versión que ha calculado para este gateway."""

    model_config = ConfigDict(frozen=True)

    nombre: str
    version: str
    digest: str
    calculos: int = Field(
        description=f"Cuántas veces; de más de {MOST} versiones se olvida la que lleva más sin calcular, y su cuenta."
    )
    ultimo: datetime


class ModelosVistos(BaseModel):
    """Las versiones que han calculado en los últimos cinco minutos; más de una: un cambio, o réplicas desiguales."""

    model_config = ConfigDict(frozen=True)

    modelos: list[ModeloVisto]


@dataclass(slots=True)
class _Seen:
    model: ModelFacts
    counter: Counter
    scores: int = 0
    last: float = 0
    """In seconds since 1970."""


class Versions:
    """A `Scorer` that counts the scores of another, by the model that gave them."""

    def __init__(self, scorer: Scorer, registry: CollectorRegistry) -> None:
        """Count what `scorer` gives, and show it in `registry`."""
        self._scorer = scorer
        self._seen: dict[str, _Seen] = {}
        self._counter = Counter(
            "predecir_model_scores",
            "Patients scored, by the model version that did",
            ["name", "version", "digest"],
            registry=registry,
        )

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row; see `shared.contracts.scoring.Scorer`."""
        score = await self._scorer.score(row)
        model = score.model
        seen = self._seen.get(model.digest) or self._first(model)
        seen.scores, seen.last = seen.scores + 1, time.time()
        seen.counter.inc()
        return score

    def unavailable(self) -> str | None:
        """Why no score can be given right now, or None."""
        return self._scorer.unavailable()

    def _first(self, model: ModelFacts) -> _Seen:
        if len(self._seen) >= MOST:
            del self._seen[min(self._seen, key=lambda digest: self._seen[digest].last)]
        seen = _Seen(model, self._counter.labels(model.name, model.version, model.digest))
        self._seen[model.digest] = seen
        return seen

    def lately(self) -> ModelosVistos:
        """Give the versions that scored in the last `LATELY_SECONDS`, the latest first."""
        since = time.time() - LATELY_SECONDS
        latest_first = sorted(self._seen.values(), key=lambda seen: seen.last, reverse=True)
        return ModelosVistos(
            modelos=[
                ModeloVisto(
                    nombre=seen.model.name,
                    version=seen.model.version,
                    digest=seen.model.digest,
                    calculos=seen.scores,
                    ultimo=datetime.fromtimestamp(seen.last, UTC),
                )
                for seen in latest_first
                if seen.last >= since
            ]
        )


def versions_router(versions: Versions) -> Router:
    """Build the route that shows `versions`."""
    router = Router(tags=["modelo"])

    @router.get("/modelos", roles={Role.OPS}, summary="Qué versiones han calculado en los últimos cinco minutos")
    async def modelos() -> ModelosVistos:
        return versions.lately()

    return router
