"""A RabbitMQ server for tests: on free ports of loopback, with its own node and cookie, and removed at the end.

It is Debian's package, or, if `TEST_RABBITMQ_IMAGE` names one, a container image of the local Docker engine.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tests.support.paths import ROOT
from tests.support.ports import free_ports
from tests.support.waiting import until_now

IMAGE_VARIABLE = "TEST_RABBITMQ_IMAGE"
_BINARIES = Path("/usr/lib/rabbitmq/bin")
_START_SECONDS = 60
_STARTED = "Server startup complete"
_IN_IMAGE = f'PATH={_BINARIES}:$PATH; exec "$@"'
"""Debian's programs of the same names on PATH, which an image of Debian's package has too, change the user."""


@dataclass(slots=True)
class RabbitServer:
    """A running server; each test has its own prefix for its queues."""

    folder: Path
    port: int
    management_port: int
    environment: dict[str, str]
    user: str = "predecir"
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    stop_seconds: float = 30
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of(self.user, self.password)

    def url_of(self, user: str, password: str) -> str:
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/"

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server and wait until it serves."""
        log = self.folder / "server.log"
        log.unlink(missing_ok=True)
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                self._server(),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        process = self._process
        until_now(lambda: _STARTED in log.read_text() or process.poll() is not None, seconds=_START_SECONDS)
        if process.poll() is not None:
            pytest.fail(f"RabbitMQ ended at its start: {log.read_text()}", pytrace=False)

    def revive(self) -> None:
        """Start the server if it has ended."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def stop(self) -> None:
        """Stop the server as an operator would; one that has not stopped within `stop_seconds` is killed."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server, as a power cut does."""
        self._end(signal.SIGKILL)

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; return what it printed."""
        command = [*self._tool("rabbitmqctl"), "--quiet", *arguments]
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if result.returncode:
            pytest.fail(f"rabbitmqctl {arguments[0]} failed: {result.stdout}{result.stderr}", pytrace=False)
        return result.stdout

    def management(self) -> str:
        """Enable the management API, if it is not; return its URL without a login."""
        command = [*self._tool("rabbitmq-plugins"), "--quiet", "enable", "rabbitmq_management"]
        subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, timeout=60, check=True)
        return f"http://127.0.0.1:{self.management_port}"

    def messages(self, queue: str) -> int:
        """Return the number of messages in `queue`, delivered or not."""
        rows = (line.split("\t") for line in self.ctl("list_queues", "name", "messages").splitlines())
        return int(next(count for name, count in rows if name == queue))

    def alarm(self, kind: Literal["disk", "memory"] = "disk", *, on: bool) -> None:
        """Raise or clear an alarm, by what counts as a full disk or as too much memory."""
        if kind == "disk":
            self.ctl("set_disk_free_limit", "1000000GB" if on else "1MB")
        else:
            self.ctl("set_vm_memory_high_watermark", "0" if on else "0.4")

    def _end(self, signum: int) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        self._signal(process, signum)
        try:
            process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            self._signal(process, signal.SIGKILL)
            process.wait(self.stop_seconds)

    def _server(self) -> list[str]:
        """Return the command that runs the server until it ends."""
        return [str(_BINARIES / "rabbitmq-server")]

    def _tool(self, name: str) -> list[str]:
        """Return the command that runs a tool of the running server."""
        return [str(_BINARIES / name)]

    def _signal(self, process: subprocess.Popen[bytes], signum: int) -> None:
        # The Erlang machine is the leader's only process group; its shell wrapper would turn SIGTERM into a slow call.
        os.killpg(process.pid, signum)

    def remove(self) -> None:
        """Stop the server and what it started."""
        self.stop()
        # The port mapper outlives its nodes; this one was started by ours, on a port of its own.
        command = ["epmd", "-kill"]
        subprocess.run(command, env=self.environment, capture_output=True, timeout=_START_SECONDS, check=False)


@dataclass(slots=True)
class RabbitContainer(RabbitServer):
    """A server in a container of the local Docker engine: its network, user and files are those of the tests."""

    image: str = ""
    _starts: int = 0

    @property
    def pid(self) -> int | None:
        """Process id of the running server."""
        found = self._docker("inspect", "--format", "{{.State.Pid}}", self._name)
        return int(found.stdout) if found.returncode == 0 else None

    @property
    def _name(self) -> str:
        return f"{self.folder.name}-{self._starts}"

    def _server(self) -> list[str]:
        self._starts += 1  # the engine removes a container some time after its end, and its name with it
        options = [
            *("--rm", "--name", self._name, "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}"),
            *("--volume", f"{self.folder}:{self.folder}", "--workdir", str(self.folder), "--entrypoint", "sh"),
        ]
        inside = (f"--env={name}={value}" for name, value in self.environment.items() if name != "PATH")
        return ["docker", "run", *options, *inside, self.image, "-c", _IN_IMAGE, "sh", "rabbitmq-server"]

    def _tool(self, name: str) -> list[str]:
        return ["docker", "exec", self._name, "sh", "-c", _IN_IMAGE, "sh", name]

    def _signal(self, process: subprocess.Popen[bytes], signum: int) -> None:
        del process  # the client; the engine has the server
        self._docker("kill", "--signal", str(int(signum)), self._name)

    def remove(self) -> None:
        self.stop()

    def _docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_START_SECONDS, check=False)


@contextmanager
def rabbit_server() -> Iterator[RabbitServer]:
    """Run a server with its state in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="predecir-rabbitmq-"))
    port, management, dist, epmd = free_ports(4)
    server = _made(folder, port, management, _environment(folder, port=port, dist=dist, epmd=epmd))
    try:
        cookie = folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (folder / "rabbitmq.conf").write_text(
            f"default_user = {server.user}\ndefault_pass = {server.password}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
            f"max_message_size = {largest_message()}\n"
            "disk_free_limit.absolute = 1MB\nlog.console = true\nlog.console.level = info\nlog.file = false\n"
        )
        try:
            server.start()
            yield server
        finally:
            server.remove()
    finally:
        shutil.rmtree(folder)


def largest_message() -> int:
    """Return the bytes that the deployed broker accepts in one message."""
    settings = (ROOT / "deploy/rabbitmq.conf").read_text().splitlines()
    return int(next(line for line in settings if line.startswith("max_message_size")).split("=")[1])


def _made(folder: Path, port: int, management: int, environment: dict[str, str]) -> RabbitServer:
    if image := os.environ.get(IMAGE_VARIABLE):
        return RabbitContainer(folder, port, management, environment, image=image)
    if not (_BINARIES / "rabbitmq-server").exists():
        message = f"no RabbitMQ server in {_BINARIES}: install Debian's package `rabbitmq-server`"
        pytest.fail(message, pytrace=False)
    return RabbitServer(folder, port, management, environment)


def _environment(folder: Path, *, port: int, dist: int, epmd: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"{folder.name}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_ALLOW_INPUT": "1",  # the Erlang machine in our process group, without a shell in between
        "RABBITMQ_SERVER_START_ARGS": "-noinput",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
    }
