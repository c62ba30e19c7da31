"""A RabbitMQ server for tests: on free ports of loopback, with its own node and cookie, and removed at the end."""

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

from tests.support.ports import free_ports
from tests.support.waiting import until_now

_BINARIES = Path("/usr/lib/rabbitmq/bin")
_START_SECONDS = 60
_STARTED = "Server startup complete"


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
                [_BINARIES / "rabbitmq-server"],
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
        command = [str(_BINARIES / "rabbitmqctl"), "--quiet", *arguments]
        result = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if result.returncode:
            pytest.fail(f"rabbitmqctl {arguments[0]} failed: {result.stdout}{result.stderr}", pytrace=False)
        return result.stdout

    def management(self) -> str:
        """Enable the management API, if it is not; return its URL without a login."""
        command = [str(_BINARIES / "rabbitmq-plugins"), "--quiet", "enable", "rabbitmq_management"]
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
        # The Erlang machine is the leader's only process group; its shell wrapper would turn SIGTERM into a slow call.
        os.killpg(process.pid, signum)
        try:
            process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(self.stop_seconds)


@contextmanager
def rabbit_server() -> Iterator[RabbitServer]:
    """Run a server with its state in a temporary folder."""
    if not (_BINARIES / "rabbitmq-server").exists():
        message = f"no RabbitMQ server in {_BINARIES}: install Debian's package `rabbitmq-server`"
        pytest.fail(message, pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="predecir-rabbitmq-"))
    port, management, dist, epmd = free_ports(4)
    server = RabbitServer(folder, port, management, _environment(folder, port=port, dist=dist, epmd=epmd))
    try:
        cookie = folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (folder / "rabbitmq.conf").write_text(
            f"default_user = {server.user}\ndefault_pass = {server.password}\n"
            f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
            "disk_free_limit.absolute = 1MB\nlog.console = true\nlog.console.level = info\nlog.file = false\n"
        )
        try:
            server.start()
            yield server
        finally:
            server.stop()
            # The port mapper outlives its nodes; this one was started by ours, on a port of its own.
            command = ["epmd", "-kill"]
            subprocess.run(command, env=server.environment, capture_output=True, timeout=_START_SECONDS, check=False)
    finally:
        shutil.rmtree(folder)


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
