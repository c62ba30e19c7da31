"""`python -m tests.support.promoting URI VERSION…`: a process for each version promotes it, all at the same moment.

Several rounds, in a folder with `var/`; prints, as JSON, who won each round.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import ModelStore
from shared.diseases.thyroid import DatosPaciente
from training.errors import AlreadyMovedError
from training.registry.mlflow_registry import Registry
from training.registry.promotion import Change, carry_out, look

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

ROUNDS = 4
_SECONDS = 60


def contend(uri: str, version: str, together: Barrier, won: SimpleQueue[tuple[int, str]]) -> None:
    """Look, wait until everybody has looked, promote."""
    name = DatosPaciente.disease.name
    registry, model_store = (
        Registry(name, uri=uri, var=Path("var")),
        ModelStore(Path("var"), name, DatosPaciente.digest),
    )
    for number in range(ROUNDS):
        seen = look(registry, PRODUCTION)
        together.wait(_SECONDS)
        try:
            carry_out(Change("promote", version, "a race"), seen, registry, model_store)
        except AlreadyMovedError:
            pass
        else:
            won.put((number, version))
        together.wait(_SECONDS)


if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")  # MLflow is imported once
    address, *versions = sys.argv[1:]
    barrier, winners = fork.Barrier(len(versions)), fork.SimpleQueue()
    racers = [fork.Process(target=contend, args=(address, version, barrier, winners)) for version in versions]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(_SECONDS)
    found = []
    while not winners.empty():
        found.append(winners.get())
    json.dump({"winners": found, "exits": [racer.exitcode for racer in racers]}, sys.stdout)
