"""The server stack as an operator runs it: by `make up` in a fresh copy of the repository, on a free port."""

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.waiting import until_now

ROOT = Path(__file__).parent.parent.parent
PROJECT = f"predecir-test-{hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:8]}"
"""Project name of this checkout: another checkout may run its own stack on the same engine."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The commit that the copy of the repository states, since it has no git."""
_UP_SECONDS = 1200
_COMMAND_SECONDS = 180


@dataclass(frozen=True, slots=True)
class ComposeStack:
    """A running stack."""

    folder: Path
    environment: Mapping[str, str]
    url: str
    tls_url: str

    def make(self, target: str) -> None:
        self._run("make", target, seconds=_UP_SECONDS)

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`; the error of a failed start has the logs of all containers."""
        try:
            return self._run("docker", "compose", *arguments)
        except AssertionError as error:
            if arguments[0] == "up":
                error.add_note(self._run("docker", "compose", "ps", "--all", "--format", "{{.Name}} {{.Status}}"))
                error.add_note(self._run("docker", "compose", "logs", "--no-color", "--timestamps", "--tail=60"))
            raise

    def docker(self, *arguments: str) -> str:
        return self._run("docker", *arguments)

    def up(self, **replicas: int) -> None:
        """Bring every service to its replicas, started and healthy, as an operator would."""
        scale = [f"--scale={service}={count}" for service, count in replicas.items()]
        self.compose("up", "-d", "--wait", "--no-build", "--no-recreate", *scale)

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "-q", service).split()

    def health(self, container: str) -> str:
        return self.docker("inspect", "--format", "{{.State.Health.Status}}", container).strip()

    def sql(self, question: str) -> list[str]:
        """Return the rows of a query on PostgreSQL, one line each, with columns separated by |."""
        return self.compose(
            *("exec", "-T", "postgres", "psql", "-U", "postgres", "-d", "mlops_db", "-Atc"), question
        ).splitlines()

    def key(self, role: str) -> str:
        created = self.compose(
            *("exec", "-T", "gateway", "python", "-m", "services.gateway", "keys", "create", "--role", role)
        )
        return created.strip()

    @contextmanager
    def client(self, role: str) -> Iterator[httpx.Client]:
        """Yield a client with a key of `role`, once a gateway knows the key."""
        headers = {"Authorization": f"Bearer {self.key(role)}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=20) as client:
            until_now(lambda: client.get("/docs").status_code == httpx.codes.OK, seconds=60, every=1)
            yield client

    def _run(self, *command: str, seconds: float = _COMMAND_SECONDS) -> str:
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env={**_shell(), **self.environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-4000:]}"
        return ended.stdout


def _shell() -> dict[str, str]:
    """Return the environment of this process without settings of the stack: they would replace those of its `.env`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREDECIR_")}


@contextmanager
def running_stack(folder: Path) -> Iterator[ComposeStack]:
    """Start the stack from nothing in `folder`, and remove it with its volumes at the end."""
    _copy_repository(folder)
    port, tls_port = _free_port(), _free_port()
    environment = {
        "COMPOSE_PROJECT_NAME": PROJECT,
        "PREDECIR_IMAGES": PROJECT,
        "PREDECIR_PORT": str(port),
        "PREDECIR_TLS_PORT": str(tls_port),
        "COMPOSE_PROGRESS": "quiet",
        "GIT_COMMIT": COMMIT,
    }
    stack = ComposeStack(folder, environment, f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}")
    try:
        stack.make("up")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout=5")


def _copy_repository(folder: Path) -> None:
    """Copy the files that git tracks or would add: no secrets, no state, no environment of the original."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port
