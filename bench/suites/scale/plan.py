"""Resources for a rate of predictions, by utilisation: rate times the measured CPU time of each part."""

import math
from dataclasses import dataclass
from pathlib import Path

from deploy.k8s.check import built
from deploy.k8s.check import overlays as folders
from services.gateway.outbox.rabbitmq import EVENTS_PER_MESSAGE

BUSY = 0.7
"""Largest utilisation of a replica, as a share of its time; above it waits grow steeply."""
LINGER = 0.1
"""Seconds for which a gateway gathers answers before it publishes them (RELAY_LINGER_MS)."""
_DAY = 86400
_YEAR = 365.25 * _DAY


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of one prediction: seconds of CPU of each part, and bytes.

    `kept_bytes` is what a request with an `Idempotency-Key` takes in the outbox while its answer is kept.
    """

    gateway: float
    inference: float
    recorder: float
    broker: float
    database: float
    event_bytes: float
    row_bytes: float
    log_bytes: float
    kept_bytes: float


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay of deploy/k8s: its largest numbers of replicas, and the bytes of its volumes."""

    gateways: int
    inference: int
    recorders: int
    storage: int
    outbox: int


@dataclass(frozen=True, slots=True)
class Need:
    """Resources for `rate` predictions a second. Rates are per second, sizes in bytes."""

    rate: float
    gateways: int
    inference: int
    recorders: int
    broker_cores: float
    database_cores: float
    messages: float
    into_broker: float
    log: float
    stored_a_year: float

    @property
    def cores(self) -> float:
        """Cores of all parts."""
        return self.gateways + self.inference + self.recorders + self.broker_cores + self.database_cores


def need(rate: float, costs: Costs) -> Need:
    """Return the resources of each part for `rate` predictions a second."""
    gateways = _replicas(rate, costs.gateway)
    return Need(
        rate=rate,
        gateways=gateways,
        inference=_replicas(rate, costs.inference),
        recorders=_replicas(rate, costs.recorder),
        broker_cores=rate * costs.broker / BUSY,
        database_cores=rate * costs.database / BUSY,
        messages=max(rate / EVENTS_PER_MESSAGE, gateways * min(rate / gateways, 1 / LINGER)),
        into_broker=rate * costs.event_bytes,
        log=rate * costs.log_bytes,
        stored_a_year=rate * costs.row_bytes * _YEAR,
    )


def overlays() -> dict[str, Overlay]:
    """Read the overlays of deploy/k8s."""
    return {folder.name: _overlay(folder) for folder in folders()}


def days_until_full(overlay: Overlay, rate: float, costs: Costs) -> dict[str, float | None]:
    """Return the days of `rate` until the `database`'s volume is full, and a `gateway`'s if every request has a key.

    A gateway keeps the answers of one day, so None if its volume holds those.
    """
    days = overlay.outbox / (rate / overlay.gateways * _DAY * costs.kept_bytes)
    return {"database": overlay.storage / (rate * costs.row_bytes * _DAY), "gateway": days if days < 1 else None}


def carried(overlay: Overlay, costs: Costs) -> dict[str, float]:
    """Return the predictions a second at which each part of `overlay` reaches the utilisation `BUSY`.

    A queue of RabbitMQ is led by one process on one node, so it has one core at most.
    """
    return {
        "gateways": overlay.gateways * BUSY / costs.gateway,
        "inference": overlay.inference * BUSY / costs.inference,
        "queue": BUSY / costs.broker,
        "recorders": overlay.recorders * BUSY / costs.recorder,
    }


def _replicas(rate: float, seconds: float) -> int:
    """Return the fewest replicas whose utilisation is at most `BUSY`, where a prediction takes `seconds` of CPU."""
    return max(1, math.ceil(rate * seconds / BUSY))


def _overlay(folder: Path) -> Overlay:
    spec = {(item["kind"], item["metadata"]["name"]): item["spec"] for item in built(folder) if "spec" in item}
    [claim] = spec["StatefulSet", "gateway"]["volumeClaimTemplates"]
    return Overlay(
        gateways=spec["StatefulSet", "gateway"]["replicas"],
        inference=spec["HorizontalPodAutoscaler", "inference"]["maxReplicas"],
        recorders=spec["ScaledObject", "recorder"]["maxReplicaCount"],
        storage=_bytes(spec["Cluster", "postgres"]["storage"]["size"]),
        outbox=_bytes(claim["spec"]["resources"]["requests"]["storage"]),
    )


def _bytes(size: str) -> int:
    return int(size.removesuffix("Gi")) * 2**30
