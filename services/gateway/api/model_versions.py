"""Model versions that computed this gateway's scores: a counter per version, and `GET /modelos`.

Replicas that serve different versions show here.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, Field

from shared.contracts.scoring import ModelFacts, Score, Scorer
from shared.web.api_keys import Role
from shared.web.routing import Router

RECENT_SECONDS = 5 * 60
MOST = 16
"""Versions that are remembered; the one that scored longest ago is forgotten first."""


class ModeloVisto(BaseModel):
    """Una versión que ha calculado para este gateway."""

    nombre: str
    version: str
    digest: str
    calculos: int = Field(
        description=f"Cuántas veces; de más de {MOST} versiones se olvida la que lleva más sin calcular, y su cuenta."
    )
    ultimo: datetime


class ModelosVistos(BaseModel):
    """Las versiones que han calculado en los últimos cinco minutos; más de una: un cambio, o réplicas desiguales."""

    modelos: list[ModeloVisto]


@dataclass(slots=True)
class _VersionScores:
    model: ModelFacts
    counter: Counter
    scores: int = 0
    last: float = 0
    """Time of the last score, in seconds since 1970."""


class VersionCounter:
    """A `Scorer` that counts the scores of another one by model version."""

    def __init__(self, scorer: Scorer, registry: CollectorRegistry) -> None:
        """Count the scores of `scorer`, also on `registry`."""
        self._scorer = scorer
        self._versions: dict[str, _VersionScores] = {}
        self._counter = Counter(
            "predecir_model_scores",
            "Patients scored, by model version",
            ["name", "version", "digest"],
            registry=registry,
        )

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row; see `shared.contracts.scoring.Scorer`."""
        score = await self._scorer.score(row)
        model = score.model
        version = self._versions.get(model.digest) or self._first(model)
        version.scores, version.last = version.scores + 1, time.time()
        version.counter.inc()
        return score

    def unavailable(self) -> str | None:
        """Return why no score can be computed now, or None."""
        return self._scorer.unavailable()

    def _first(self, model: ModelFacts) -> _VersionScores:
        if len(self._versions) >= MOST:
            oldest = min(self._versions, key=lambda digest: self._versions[digest].last)
            self._counter.remove(*_labels(self._versions.pop(oldest).model))
        version = _VersionScores(model, self._counter.labels(*_labels(model)))
        self._versions[model.digest] = version
        return version

    def recent(self) -> ModelosVistos:
        """Return the versions that scored in the last `RECENT_SECONDS`, the latest first."""
        since = time.time() - RECENT_SECONDS
        latest_first = sorted(self._versions.values(), key=lambda version: version.last, reverse=True)
        return ModelosVistos(
            modelos=[
                ModeloVisto(
                    nombre=version.model.name,
                    version=version.model.version,
                    digest=version.model.digest,
                    calculos=version.scores,
                    ultimo=datetime.fromtimestamp(version.last, UTC),
                )
                for version in latest_first
                if version.last >= since
            ]
        )


def _labels(model: ModelFacts) -> tuple[str, str, str]:
    return model.name, model.version, model.digest


def versions_router(versions: VersionCounter) -> Router:
    """Build the route that shows `versions`."""
    router = Router(tags=["modelo"])

    @router.get("/modelos", roles={Role.OPS}, summary="Qué versiones han calculado en los últimos cinco minutos")
    async def modelos() -> ModelosVistos:
        return versions.recent()

    return router
