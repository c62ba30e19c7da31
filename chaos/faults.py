"""What is done to the system: each fault is entered, held for a while, and left healed.

A fault that cannot be had right now, since its target is being started just then, raises `NotNowError` on entering.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from chaos.stack import Stack
    from tests.postgres import PostgresServer
    from tests.rabbitmq import RabbitServer

    Fault = Callable[[Stack, random.Random], AbstractAsyncContextManager[str]]
    """Gives what it hit while it lasts."""


class NotNowError(Exception):
    """There is nothing that this fault could be done to at this moment."""


@asynccontextmanager
async def _process_killed(stack: Stack, rng: random.Random, kind: str) -> AsyncIterator[str]:
    """Kill one of the processes that run; whoever supervises it starts it again."""
    found = [process for process in stack.processes if process.name.startswith(kind) and process.pid]
    if not found or not (target := rng.choice(found)).send(signal.SIGKILL):
        raise NotNowError
    yield target.name


@asynccontextmanager
async def _broker_killed(stack: Stack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "broker"):
        await asyncio.to_thread(stack.rabbit.kill)
        await asyncio.to_thread(stack.rabbit.start)
    yield "broker"


@asynccontextmanager
async def _database_killed(stack: Stack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "database"):
        await asyncio.to_thread(stack.postgres.kill)
        await asyncio.to_thread(stack.postgres.start)
    yield "database"


@asynccontextmanager
async def _session_killed(stack: Stack, rng: random.Random) -> AsyncIterator[str]:
    """Kill one process of PostgreSQL: the others end too, and it recovers by itself."""
    async with _server(stack, "database"):
        try:
            children = psutil.Process(stack.postgres.pid).children()
            rng.choice(children).kill()
        except (psutil.NoSuchProcess, IndexError, FileNotFoundError):
            raise NotNowError from None
    yield "database"


@asynccontextmanager
async def _broker_restarted(stack: Stack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "broker"):
        await asyncio.to_thread(stack.rabbit.stop)
        try:
            yield "broker"
        finally:
            await asyncio.to_thread(stack.rabbit.start)


@asynccontextmanager
async def _database_restarted(stack: Stack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "database"):
        await asyncio.to_thread(stack.postgres.stop)
        try:
            yield "database"
        finally:
            await asyncio.to_thread(stack.postgres.start)


@asynccontextmanager
async def _broker_alarm(stack: Stack, _: random.Random) -> AsyncIterator[str]:
    async with _server(stack, "broker"):
        await asyncio.to_thread(stack.rabbit.alarm, on=True)
        try:
            yield "broker"
        finally:
            await asyncio.to_thread(stack.rabbit.alarm, on=False)


@asynccontextmanager
async def _process_stopped(stack: Stack, rng: random.Random, kind: str) -> AsyncIterator[str]:
    """Let one of the processes that run hang."""
    found = [process for process in stack.processes if process.name.startswith(kind) and process.pid]
    if not found:
        raise NotNowError
    target = rng.choice(found)
    with _hung([psutil.Process(target.pid)]):
        yield target.name


@asynccontextmanager
async def _server_stopped(
    stack: Stack, _: random.Random, name: str, server: Callable[[Stack], RabbitServer | PostgresServer]
) -> AsyncIterator[str]:
    async with _server(stack, name):
        leader = psutil.Process(server(stack).pid)
        with _hung([leader, *leader.children(recursive=True)]):
            yield name


@asynccontextmanager
async def _server(stack: Stack, name: str) -> AsyncIterator[None]:
    """Have a server to oneself: nobody else stops it while it starts."""
    lock = stack.starting[name]
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


KILLS: Mapping[str, tuple[int, Fault]] = {
    "kill-gateway": (30, partial(_process_killed, kind="gateway")),
    "kill-recorder": (25, partial(_process_killed, kind="recorder")),
    "kill-inference": (20, partial(_process_killed, kind="inference")),
    "kill-balancer": (13, partial(_process_killed, kind="balancer")),
    "kill-session": (6, _session_killed),
    "kill-database": (4, _database_killed),
    "kill-broker": (2, _broker_killed),
}
"""`kill -9`, with how often each is chosen: what is replicated and starts within a second often, the broker seldom."""

HELD: Mapping[str, Fault] = {
    "stop-gateway": partial(_process_stopped, kind="gateway"),
    "stop-inference": partial(_process_stopped, kind="inference"),
    "stop-recorder": partial(_process_stopped, kind="recorder"),
    "stop-balancer": partial(_process_stopped, kind="balancer"),
    "stop-broker": partial(_server_stopped, name="broker", server=lambda stack: stack.rabbit),
    "stop-database": partial(_server_stopped, name="database", server=lambda stack: stack.postgres),
    "restart-broker": _broker_restarted,
    "restart-database": _database_restarted,
    "alarm-broker": _broker_alarm,
}
"""What lasts for some seconds and then ends."""
