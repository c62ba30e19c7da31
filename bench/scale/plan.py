"""What a rate of predictions needs, by the measured costs of the parts and the formulas of `queueing`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.scale.queueing import batch_size, group_commit, servers_for, wait
from deploy.k8s.check import built
from deploy.k8s.check import overlays as folders
from services.gateway.inference_client import CALLS, LARGEST_BATCH
from services.gateway.outbox.rabbitmq import EVENTS_PER_MESSAGE

if TYPE_CHECKING:
    from pathlib import Path

BUSY = 0.7
"""Share of its time that a replica may work; above, waits grow steeply, and a lost replica's share has no room."""
LONGEST_WAIT = 0.001
"""Seconds that a request may wait on average for a replica."""
NETWORK = 0.0005
"""Seconds for a call to another node and back. An assumption: everything here was measured on one machine."""
HANDED_OVER = 0.1
"""Seconds for which a gateway gathers answers before it publishes them (RELAY_LINGER_MS)."""
_DAY = 86400
_YEAR = 365.25 * _DAY


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of CPU for one prediction, of inference for a call and for each row; bytes; and a disk's fsync.

    A gateway keeps `kept_bytes` of a repeatable request while its answer is, and `key_bytes` of it for good.
    """

    gateway: float
    call: float
    row: float
    recorder: float
    broker: float
    database: float
    event_bytes: float
    row_bytes: float
    log_bytes: float
    kept_bytes: float
    key_bytes: float
    fsync: float


@dataclass(frozen=True, slots=True)
class Overlay:
    """An overlay of deploy/k8s: the most replicas it goes to, and the bytes of the volumes of database and gateway."""

    gateways: int
    inference: int
    recorders: int
    storage: int
    outbox: int


@dataclass(frozen=True, slots=True)
class Need:
    """What `rate` predictions a second need. Rates are per second, sizes in bytes, times in seconds."""

    rate: float
    gateways: int
    inference: int
    recorders: int
    batch: float
    broker_cores: float
    database_cores: float
    commits: float
    """fsyncs of one gateway's disk."""
    committed: float
    """Answers that share one of them."""
    messages: float
    into_broker: float
    log: float
    stored_a_year: float
    latency: float
    """Mean time of an answer."""

    @property
    def cores(self) -> float:
        """Cores of all parts."""
        return self.gateways + self.inference + self.recorders + self.broker_cores + self.database_cores


def need(rate: float, costs: Costs) -> Need:
    """Work out what `rate` needs, part after part."""
    gateways = servers_for(rate, costs.gateway, busy=BUSY, longest=LONGEST_WAIT)
    each = rate / gateways
    batch = batch_size(each, NETWORK + costs.call, costs.row, calls=CALLS, most=LARGEST_BATCH)
    call = costs.call + costs.row * batch
    inference = servers_for(rate / batch, call, busy=BUSY, longest=LONGEST_WAIT)
    commits = group_commit(each, costs.fsync)
    at_gateway = costs.gateway + wait(each, costs.gateway)
    scored = NETWORK + call + wait(rate / batch, call, inference)
    return Need(
        rate=rate,
        gateways=gateways,
        inference=inference,
        recorders=max(1, math.ceil(rate * costs.recorder / BUSY)),
        batch=batch,
        broker_cores=rate * costs.broker / BUSY,
        database_cores=rate * costs.database / BUSY,
        commits=commits.rate,
        committed=commits.size,
        messages=max(rate / EVENTS_PER_MESSAGE, gateways * min(each, 1 / HANDED_OVER)),
        into_broker=rate * costs.event_bytes,
        log=rate * costs.log_bytes,
        stored_a_year=rate * costs.row_bytes * _YEAR,
        latency=at_gateway + scored + commits.delay,
    )


def overlays() -> dict[str, Overlay]:
    """Read what the overlays of deploy/k8s have."""
    return {folder.name: _overlay(folder) for folder in folders()}


def days_until_full(overlay: Overlay, rate: float, costs: Costs) -> dict[str, float]:
    """Days of `rate` until the `database`'s volume is full, and a `gateway`'s if every request has a key."""
    own = rate / overlay.gateways * _DAY
    first_day = own * costs.kept_bytes
    rest = (overlay.outbox - first_day) / (own * costs.key_bytes)
    gateway = 1 + rest if first_day < overlay.outbox else overlay.outbox / first_day
    return {"database": overlay.storage / (rate * costs.row_bytes * _DAY), "gateway": gateway}


def carried(overlay: Overlay, costs: Costs) -> dict[str, float]:
    """Predictions a second at which each part of `overlay` is `BUSY`.

    Inference is asked in the batches of gateways as busy as that. A queue of RabbitMQ is led by one process on one
    node, so it has one core at most.
    """
    batch = batch_size(BUSY / costs.gateway, NETWORK + costs.call, costs.row, calls=CALLS, most=LARGEST_BATCH)
    return {
        "gateways": overlay.gateways * BUSY / costs.gateway,
        "inference": overlay.inference * BUSY * batch / (costs.call + costs.row * batch),
        "queue": BUSY / costs.broker,
        "recorders": overlay.recorders * BUSY / costs.recorder,
    }


def _overlay(folder: Path) -> Overlay:
    spec = {(each["kind"], each["metadata"]["name"]): each["spec"] for each in built(folder) if "spec" in each}
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
