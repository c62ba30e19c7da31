"""One bad replica of inference behind HAProxy: few requests fail at first, then none."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import RevisedThyroid, make_bundle
from tests.support.faulty_network import Proxy, proxied
from tests.support.haproxy import haproxy
from tests.support.load import load
from tests.support.ports import free_ports
from tests.support.processes import Process, running
from tests.support.waiting import until

FIRST_SECONDS = 5
MOST_FAILED = 0.005
MORE = 100


@dataclass(frozen=True, slots=True)
class Replica:
    """One of two replicas, still good: its process, its port, the network to it, and the folder of a replacement."""

    process: Process
    port: int
    network: Proxy
    folder: Path
    stack: AsyncExitStack


async def hangs(replica: Replica) -> None:
    replica.stack.callback(replica.process.kill)  # before anything waits for its connections to end
    os.kill(replica.process.popen.pid, signal.SIGSTOP)


async def is_cut_off(replica: Replica) -> None:
    replica.network.cut()


async def answers_500(replica: Replica) -> None:
    """Replace it by a server that looks healthy and computes nothing."""

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def broken(_: web.Request) -> web.Response:
        return web.json_response({"error": "broken"}, status=500)

    instead = web.Application()
    instead.router.add_get("/{path:.*}", healthy)
    instead.router.add_post("/{path:.*}", broken)
    runner = web.AppRunner(instead)
    await runner.setup()
    replica.stack.push_async_callback(runner.cleanup)
    await asyncio.to_thread(replica.process.kill)
    await web.TCPSite(runner, "127.0.0.1", replica.port).start()


async def comes_back_with_another_class(replica: Replica) -> None:
    folder = replica.folder / "other"
    folder.mkdir()
    make_bundle(folder / "var", RevisedThyroid)
    settings = {"PREDECIR_PACIENTE": "tests.support.bundles:RevisedThyroid", "PORT": str(replica.port)}
    await asyncio.to_thread(replica.process.kill)
    await asyncio.to_thread(replica.stack.enter_context, running("services.inference", folder, settings))


@asynccontextmanager
async def gateway_over_two_replicas(folder: Path) -> AsyncIterator[tuple[Process, Replica]]:
    """Run a gateway, HAProxy and two replicas of inference; yields the gateway and one of the replicas."""
    ports = free_ports(2)
    async with AsyncExitStack() as stack:
        processes = []
        for port in ports:
            home = folder / str(port)
            home.mkdir()
            make_bundle(home / "var", DatosPaciente)
            processes.append(stack.enter_context(running("services.inference", home, {"PORT": str(port)})))
        network = stack.enter_context(proxied(ports[0]))
        balancer = stack.enter_context(haproxy(folder, "models", [network.port, ports[1]]))
        gateway = stack.enter_context(running("services.gateway", folder, {"INFERENCE_URL": balancer.url}))

        async def ready() -> bool:
            return (await asyncio.to_thread(gateway.get, "/health/ready")).status_code == 200

        await until(ready, seconds=60)
        yield gateway, Replica(processes[0], ports[0], network, folder, stack)


@pytest.mark.parametrize("turns_bad", [hangs, is_cut_off, answers_500, comes_back_with_another_class])
async def test_a_bad_replica_fails_few_requests_at_first_and_then_none(
    tmp_path: Path, turns_bad: Callable[[Replica], Awaitable[None]]
) -> None:
    async with gateway_over_two_replicas(tmp_path) as (gateway, replica):
        async with load(gateway.url) as requests:
            await requests.more(MORE)
            bad = time.monotonic()
            await turns_bad(replica)
            await until(lambda: time.monotonic() > bad + FIRST_SECONDS, seconds=60)
            await requests.more(MORE)
        failed, asked = requests.failed(bad, bad + FIRST_SECONDS)
        assert failed <= MOST_FAILED * asked
        assert requests.failed(bad + FIRST_SECONDS)[0] == 0
