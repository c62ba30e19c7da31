"""`python -m tests.support.promoting URI VERSION…`: one process per version promotes it, all at the same moment.

Several rounds, in a folder with `var/`; prints the winner of each round as JSON.
"""

import json
import multiprocessing
import sys
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import ModelStore
from shared.diseases.thyroid import DatosPaciente
from training.errors import AlreadyMovedError
from training.registry.mlflow_registry import ModelRegistry
from training.registry.promotion import AliasChange, move_alias, read_alias

ROUNDS = 4
_SECONDS = 60


def contend(uri: str, version: str, together: Barrier, won: SimpleQueue[tuple[int, str]]) -> None:
    """Read the alias, wait until all processes have read it, promote."""
    name = DatosPaciente.disease.name
    registry, model_store = (
        ModelRegistry(name, uri=uri, var=Path("var")),
        ModelStore(Path("var"), name, DatosPaciente.digest),
    )
    for number in range(ROUNDS):
        state = read_alias(registry, PRODUCTION)
        together.wait(_SECONDS)
        try:
            move_alias(AliasChange("promote", version, "a race"), state, registry, model_store)
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
    rounds = []
    while not winners.empty():
        rounds.append(winners.get())
    json.dump({"winners": rounds, "exits": [racer.exitcode for racer in racers]}, sys.stdout)
