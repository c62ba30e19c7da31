"""A PostgreSQL server for tests: started on a free port of loopback, and removed at the end."""

import asyncio
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import psutil
import pytest

from tests.support.ports import free_ports

_BINARIES = Path("/usr/lib/postgresql")
_END_SECONDS = 30
_QUERY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server; each test creates its own database on it."""

    binaries: Path
    data: Path
    port: int
    password: str
    durable: bool

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def runs(self) -> bool:
        """Return whether the process exists; it may still be starting."""
        try:
            # The file outlives a killed server, and its process id may be another process's by now.
            return str(self.data) in psutil.Process(self.pid).cmdline()
        except (FileNotFoundError, psutil.NoSuchProcess):
            return False

    def url(self, database: str) -> str:
        """Return the `DATABASE_URL` of `database`."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database; return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.query("postgres", f"CREATE DATABASE {name}")
        return name

    def query(self, database: str, *statements: str) -> list[Any]:
        """Run `statements` over a new connection; return the first column of the last one's rows."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url(database), command_timeout=_QUERY_SECONDS)
            try:
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return [row[0] for row in await connection.fetch(statements[-1])]
            finally:
                await connection.close(timeout=_QUERY_SECONDS)

        # In a thread: the caller's own event loop may be running.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, run()).result()

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server, cutting its connections; `immediate` writes nothing more to the disk."""
        _run(self.binaries / "pg_ctl", "stop", "--pgdata", self.data, f"--mode={mode}", "--wait", cwd=self.data)

    def kill(self) -> None:
        """Kill the server and all its processes at once, as a power cut does."""
        leader = psutil.Process(self.pid)
        leader.suspend()  # a stopped server starts no process that is missing from this list
        processes = [*leader.children(recursive=True), leader]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=_END_SECONDS)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        if not self.durable:
            options += " -c fsync=off"
        log = self.data / "server.log"
        command = ("start", "--pgdata", self.data, "--log", log, "--wait", "--options", options)
        _run(self.binaries / "pg_ctl", *command, cwd=self.data)


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """One database of a server."""

    server: PostgresServer
    name: str

    @property
    def url(self) -> str:
        """Its `DATABASE_URL`."""
        return self.server.url(self.name)

    def query(self, *statements: str) -> list[Any]:
        """Run `statements`; return the first column of the last one's rows."""
        return self.server.query(self.name, *statements)


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Make a cluster in a temporary folder and run it; as `postgres` when we are root, which PostgreSQL refuses.

    Unless it is to be `durable`, its commits do not wait for the disk.
    """
    found = sorted(_BINARIES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.fail(f"no PostgreSQL server under {_BINARIES}: install Debian's package `postgresql`", pytrace=False)
    binaries = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="predecir-postgres-"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        [port] = free_ports(1)
        server = PostgresServer(binaries, folder / "data", port, secrets.token_hex(16), durable)
        secret = folder / "password"
        secret.write_text(server.password)
        arguments = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync", "--pwfile", secret)
        _run(binaries / "initdb", "--pgdata", server.data, *arguments, cwd=folder)
        secret.unlink()
        try:
            server.start()
            yield server
        finally:
            if server.runs():
                server.stop("immediate")  # nobody needs its data
    finally:
        shutil.rmtree(folder)


def _run(*command: str | Path, cwd: Path) -> None:
    user = "postgres" if os.geteuid() == 0 else None
    # No pipes: the server would inherit them, and reading to their end would wait for it.
    with tempfile.TemporaryFile() as said:
        result = subprocess.run(command, stdout=said, stderr=said, cwd=cwd, user=user, check=False)
        if result.returncode:
            said.seek(0)
            pytest.fail(f"{command[0]} failed: {said.read().decode(errors='replace')}", pytrace=False)
