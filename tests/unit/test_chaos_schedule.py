"""The schedule of faults: determined by the seed, with every fault healed at the end."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from chaos.faults.injection import STARTING, Fault, NotNowError
from chaos.faults.schedule import Schedule


class Log:
    """A system that records its faults, and those that are active."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken: set[str] = set()
        self.busy = 0


@asynccontextmanager
async def fault(log: Log, _: random.Random, name: str) -> AsyncIterator[str]:
    log.done.append(name)
    log.broken.add(name)
    yield name
    log.broken.remove(name)


@asynccontextmanager
async def busy_at_first(log: Log, rng: random.Random, name: str) -> AsyncIterator[str]:
    if log.busy:
        log.busy -= 1
        raise NotNowError
    async with fault(log, rng, name) as target:
        yield target


@asynccontextmanager
async def never(log: Log, _: random.Random) -> AsyncIterator[str]:
    raise NotNowError
    yield str(log)  # makes it a generator


KILLS = {name: (weight, partial(fault, name=name)) for name, weight in {"kill-a": 9, "kill-b": 3, "kill-c": 1}.items()}


async def kinds(seed: int) -> list[str]:
    log = Log()
    await Schedule(log, random.Random(seed), KILLS, {}).run(kills=300, seconds=0.01, in_turn=True)  # noqa: S311 - repeatable
    return log.done


async def test_a_seed_chooses_the_kills_and_how_often_is_by_weight() -> None:
    once = await kinds(1)
    assert once == await kinds(1)
    assert once != await kinds(2)
    assert once.count("kill-a") > once.count("kill-b") > once.count("kill-c") > 0


async def test_what_lasts_is_healed_when_the_run_is_over() -> None:
    log = Log()
    held = {"stop-a": partial(fault, name="stop-a")}
    schedule = Schedule(log, random.Random(1), KILLS, held)  # noqa: S311 - repeatable
    await schedule.run(kills=3, seconds=0.05)
    assert "stop-a" in log.done
    assert not log.broken
    assert schedule.killed == 3
    stop = next(each for each in schedule.injected if each.kind == "stop-a")
    assert stop.over == stop.healed > stop.start
    kill = next(each for each in schedule.injected if each.kind != "stop-a")
    assert kill.over == kill.start


async def test_a_kill_waits_for_its_victim() -> None:
    log = Log()
    log.busy = 3
    waiting = {"kill-a": (1000, partial(busy_at_first, name="kill-a")), "kill-b": (1, partial(fault, name="kill-b"))}
    await Schedule(log, random.Random(1), waiting, {}).run(kills=1, seconds=0.01)  # noqa: S311 - repeatable
    assert log.done == ["kill-a"]


async def test_a_kill_of_a_starting_process_is_not_waited_for() -> None:
    log = Log()
    chance: dict[str, tuple[int, Fault[Log]]] = {STARTING: (1000, never), "kill-b": (1, partial(fault, name="kill-b"))}
    await Schedule(log, random.Random(1), chance, {}).run(kills=2, seconds=0.01)  # noqa: S311 - repeatable
    assert log.done == ["kill-b", "kill-b"]


async def test_a_system_that_does_not_come_back_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.faults.schedule._GIVE_UP_SECONDS", 0.01)
    gone: dict[str, tuple[int, Fault[Log]]] = {"kill-a": (1, never)}
    with pytest.RaisesGroup(pytest.RaisesExc(TimeoutError, match="nothing was at work")):
        await Schedule(Log(), random.Random(1), gone, {}).run(kills=1, seconds=0.01)  # noqa: S311 - repeatable
