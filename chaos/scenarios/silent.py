"""Doctors beside a thousand silent clients: `python -m chaos.scenarios.silent`.

A gateway with inference, behind HAProxy with the whole deployed file. A doctor's requests arrive at random times, by
turns undisturbed and beside clients that stop in the middle of a request; the times until their answers are compared.
On a busy machine run it as `chrt -r 1 … --folder /dev/shm`: other programs' CPU and disk are then in no figure.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import aiohttp

from chaos.stopping import stoppable
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import make_bundle
from tests.support.haproxy import haproxy_deployed
from tests.support.load import PATIENT
from tests.support.paths import ROOT
from tests.support.processes import clean_environment, running
from tests.support.waiting import until_now

_RATE = 100
_SETTLE_SECONDS = 6.0
"""Until all silent clients are connected, and until the last is gone."""


@dataclass(slots=True)
class _Answers:
    """Milliseconds from the planned moment of each request to its answer, and the number of each status."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def described(self) -> str:
        times = sorted(self.times)
        p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
        return f"{json.dumps(self.statuses)} p50 {p50:.1f} ms, p99 {p99:.1f} ms"

    def p99(self) -> float:
        return sorted(self.times)[int(len(self.times) * 0.99)]


def main() -> int:
    """Print both distributions and their ratio; return 1 if a doctor's request was not answered."""
    parser = argparse.ArgumentParser(prog="chaos.scenarios.silent", description="Ask beside silent clients.")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="where the outbox is (default: the system's temporary folder)")
    arguments = parser.parse_args()
    undisturbed, beside = _Answers(), _Answers()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, ExitStack() as opened:
        port, key = _system(Path(name), opened)
        for _ in range(arguments.turns):
            asyncio.run(_ask(port, key, arguments.seconds, undisturbed))
            span = str(_SETTLE_SECONDS + arguments.seconds)
            command = [sys.executable, "-m", "chaos.load.silent", str(port), str(arguments.clients), span]
            with subprocess.Popen(command, cwd=ROOT) as silent:  # noqa: S603 - our own module
                asyncio.run(asyncio.sleep(_SETTLE_SECONDS))
                asyncio.run(_ask(port, key, arguments.seconds, beside))
                silent.wait()
    print(f"undisturbed: {undisturbed.described()}")
    print(f"beside {arguments.clients} silent clients: {beside.described()}")
    print(f"p99, beside to undisturbed: {beside.p99() / undisturbed.p99():.2f}")
    return int(set(undisturbed.statuses | beside.statuses) != {HTTPStatus.OK.value})


def _system(folder: Path, opened: ExitStack) -> tuple[int, str]:
    """Start inference, a gateway and HAProxy in `folder`; return HAProxy's port and a doctor's key."""
    homes = {name: folder / name for name in ("inference", "gateway", "haproxy")}
    for home in homes.values():
        home.mkdir()
    make_bundle(homes["inference"] / "var", DatosPaciente)
    create = [sys.executable, "-m", "services.gateway", "keys", "create", "--role", "medico"]
    created = subprocess.run(  # noqa: S603 - our own module
        create, cwd=homes["gateway"], env=clean_environment(None), capture_output=True, text=True, check=True
    )
    inference = opened.enter_context(running("services.inference", homes["inference"]))
    settings = {"INFERENCE_URL": inference.url, "LOG_LEVEL": "warning"}
    gateway = opened.enter_context(running("services.gateway", homes["gateway"], settings))
    until_now(lambda: gateway.get("/health/ready").status_code == HTTPStatus.OK)
    balancer = opened.enter_context(haproxy_deployed(homes["haproxy"], [gateway.port]))
    until_now(lambda: balancer.process.get("/health/ready").status_code == HTTPStatus.OK)
    return balancer.clear, created.stdout.strip()


async def _ask(port: int, key: str, seconds: float, answers: _Answers) -> None:
    """Send requests for `seconds`, at random times that do not depend on the answers."""
    loop = asyncio.get_running_loop()
    headers = {"Authorization": f"Bearer {key}"}

    async def one(moment: float) -> None:
        await asyncio.sleep(moment - loop.time())
        async with session.post("/predecir", json=PATIENT) as response:
            await response.read()
        answers.times.append(1000 * (loop.time() - moment))
        answers.statuses[response.status] += 1

    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:
        moment, end = loop.time(), loop.time() + seconds
        async with asyncio.TaskGroup() as tasks:
            while (moment := moment + random.expovariate(_RATE)) < end:
                tasks.create_task(one(moment))


if __name__ == "__main__":
    sys.exit(stoppable(main))
