"""Faults of the system, as context managers: entering injects the fault, leaving heals it.

A fault whose target is just being started raises `NotNowError` on entering.
"""

import random
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

import asyncpg
import psutil

from chaos.stack import SupervisedStack
from chaos.stopping import in_thread
from chaos.supervised import Supervised
from chaos.surroundings import LEGS
from tests.support.faulty_network import Proxy, link_faults
from tests.support.postgres import PostgresServer
from tests.support.rabbitmq import RabbitServer
from tests.support.waiting import until

Broken = TypeVar("Broken")
Fault = Callable[[Broken, random.Random], AbstractAsyncContextManager[str]]
"""A function that injects a fault into a system; its context yields the name of the target."""


_RECOVERY_SECONDS = 120
_ALARM_CALLS = 3
_AT_WORK = 0.5
"""Seconds of readiness after which a process counts as at work."""


class Supervision(Protocol):
    """A system whose processes are restarted when they end."""

    @property
    def processes(self) -> Sequence[Supervised]:
        """All its processes."""


class NotNowError(Exception):
    """Raised if the fault has no target at this moment."""


@asynccontextmanager
async def process_killed(broken: Supervision, rng: random.Random, kind: str) -> AsyncIterator[str]:
    """Kill a process that is at work; its supervisor restarts it."""
    targets = [each for each in broken.processes if each.name.startswith(kind) and (each.ready_seconds or 0) > _AT_WORK]
    yield _killed(targets, rng)


@asynccontextmanager
async def starter_killed(broken: Supervision, rng: random.Random) -> AsyncIterator[str]:
    """Kill a process that is still starting: it may be reading its outbox, or migrating tables."""
    yield _killed([each for each in broken.processes if each.pid and each.ready_seconds is None], rng)


def _killed(targets: Sequence[Supervised], rng: random.Random) -> str:
    if not targets or not (target := rng.choice(targets)).send(signal.SIGKILL):
        raise NotNowError
    return target.name


@asynccontextmanager
async def _broker_killed(stack: SupervisedStack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "broker"):
        await in_thread(stack.around.rabbit.kill)
        await in_thread(stack.around.rabbit.start)
    yield "broker"


@asynccontextmanager
async def _database_killed(stack: SupervisedStack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "database"):
        await in_thread(stack.around.postgres.kill)
        await in_thread(stack.around.postgres.start)
    yield "database"


@asynccontextmanager
async def _session_killed(stack: SupervisedStack, rng: random.Random) -> AsyncIterator[str]:
    """Kill one process of PostgreSQL: the server ends the others and recovers by itself."""
    async with _server(stack, "database"):
        try:
            rng.choice(psutil.Process(stack.around.postgres.pid).children()).kill()
        except (psutil.NoSuchProcess, IndexError):
            raise NotNowError from None
        # Locked until the server is up: a second kill during recovery would end it for good.
        await until(lambda: in_thread(_answers, stack.around.postgres), seconds=_RECOVERY_SECONDS)
    yield "database"


def _answers(postgres: PostgresServer) -> bool:
    with suppress(OSError, asyncpg.PostgresError):
        return postgres.query("postgres", "SELECT true") == [True]
    return False


@asynccontextmanager
async def _broker_restarted(stack: SupervisedStack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "broker"):
        await in_thread(stack.around.rabbit.stop)
        try:
            yield "broker"
        finally:
            await in_thread(stack.around.rabbit.start)


@asynccontextmanager
async def _database_restarted(stack: SupervisedStack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "database"):
        await in_thread(stack.around.postgres.stop)
        try:
            yield "database"
        finally:
            await in_thread(stack.around.postgres.start)


@asynccontextmanager
async def _broker_alarm(stack: SupervisedStack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "broker"):
        await _alarmed(stack, on=True)
        try:
            yield "broker"
        finally:
            await _alarmed(stack, on=False)


async def _alarmed(stack: SupervisedStack, *, on: bool) -> None:
    """Raise or clear the alarm. The command may hang while other faults are active; it can be repeated."""
    for _ in range(_ALARM_CALLS):
        with suppress(subprocess.TimeoutExpired):
            await in_thread(stack.around.rabbit.alarm, on=on)
            return
    raise TimeoutError("chaos: RabbitMQ neither raises nor clears an alarm")


@asynccontextmanager
async def process_stopped(broken: Supervision, rng: random.Random, kind: str) -> AsyncIterator[str]:
    """Stop (SIGSTOP) one of the processes that are ready, and continue it at the end."""
    targets = [each for each in broken.processes if each.name.startswith(kind) and each.ready_seconds is not None]
    if not targets:
        raise NotNowError
    target = rng.choice(targets)
    try:
        process = psutil.Process(target.pid)
    except psutil.NoSuchProcess:  # killed just now
        raise NotNowError from None
    with _hung([process]):
        yield target.name


@asynccontextmanager
async def _server_stopped(
    stack: SupervisedStack,
    _: random.Random,
    name: str,
    server: Callable[[SupervisedStack], RabbitServer | PostgresServer],
) -> AsyncIterator[str]:
    async with _server(stack, name):
        leader = psutil.Process(server(stack).pid)
        with _hung([leader, *leader.children(recursive=True)]):
            yield name


@asynccontextmanager
async def _network(
    stack: SupervisedStack, _: random.Random, leg: str, become: Callable[[Proxy], None]
) -> AsyncIterator[str]:
    """Break one leg; `become` is the fault of its connections."""
    proxy = stack.around.legs[leg]
    await in_thread(become, proxy)
    try:
        yield leg
    finally:
        await in_thread(proxy.heal)


@asynccontextmanager
async def _disk_full(stack: SupervisedStack, _: random.Random) -> AsyncIterator[str]:
    await in_thread(stack.around.disk.fill)
    try:
        yield "gateway-2"
    finally:
        stack.around.disk.free()


@asynccontextmanager
async def _clock_stepped(stack: SupervisedStack, _: random.Random, seconds: int) -> AsyncIterator[str]:
    """Set the clock of one gateway and one recorder; setting it right at the end is another step."""
    stack.around.clock.set(seconds)
    try:
        yield "gateway-1"
    finally:
        stack.around.clock.set(0)


@asynccontextmanager
async def _server(stack: SupervisedStack, name: str) -> AsyncIterator[None]:
    """Lock a server, so that no other fault stops it while it starts."""
    lock = stack.around.starting[name]
    if lock.locked():
        raise NotNowError
    async with lock:
        yield


@contextmanager
def _hung(processes: list[psutil.Process]) -> Iterator[None]:
    try:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


_STEPS = {"hour-ahead": 3600, "hour-behind": -3600, "month-ahead": 30 * 86400}
_LINKS = link_faults(late=0.2, slow=100_000, short=20_000)

STARTING = "kill-starting"

KILLS: Mapping[str, tuple[int, Fault[SupervisedStack]]] = {
    "kill-gateway": (27, partial(process_killed, kind="gateway")),
    "kill-recorder": (22, partial(process_killed, kind="recorder")),
    "kill-inference": (18, partial(process_killed, kind="inference")),
    STARTING: (8, starter_killed),
    "kill-balancer": (13, partial(process_killed, kind="balancer")),
    "kill-session": (6, _session_killed),
    "kill-database": (4, _database_killed),
    "kill-broker": (2, _broker_killed),
}
"""Kills (`kill -9`) with their weights: high for replicated services that start within a second, low for the broker."""

HELD: Mapping[str, Fault[SupervisedStack]] = {
    "stop-gateway": partial(process_stopped, kind="gateway"),
    "stop-inference": partial(process_stopped, kind="inference"),
    "stop-recorder": partial(process_stopped, kind="recorder"),
    "stop-balancer": partial(process_stopped, kind="balancer"),
    "stop-broker": partial(_server_stopped, name="broker", server=lambda stack: stack.around.rabbit),
    "stop-database": partial(_server_stopped, name="database", server=lambda stack: stack.around.postgres),
    "restart-broker": _broker_restarted,
    "restart-database": _database_restarted,
    "alarm-broker": _broker_alarm,
    "disk-full": _disk_full,
    **{f"clock-{name}": partial(_clock_stepped, seconds=seconds) for name, seconds in _STEPS.items()},
    **{
        f"network-{name}-{leg}": partial(_network, leg=leg, become=become)
        for name, become in _LINKS.items()
        for leg in LEGS
    },
}
"""Faults that last for some seconds and are then healed."""
