"""A zygote: a process that has imported our code once and forks others, which start without imports.

`python -m tests.support.zygote MODULE…` imports the modules, then reads requests, one JSON object a line, and answers
each with another. A forked process is like `python -m` except for the imports: it has its own environment, folder and
exit code. All are killed when the zygote's input ends.
"""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from tests.support import plain_http
from tests.support.processes import LISTENING, service_environment
from tests.support.waiting import until_now

_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Forked:
    """A process that a zygote forked; its stdout and stderr are files."""

    zygote: "Zygote"
    pid: int
    output: Path

    def code(self) -> int | None:
        """Return its exit code, minus the signal that ended it, or None while it runs."""
        found: int | None = self.zygote.ask({"code": self.pid})
        return found

    def ended(self, seconds: float = _SECONDS) -> int:
        """Wait until it ends; return its exit code."""
        until_now(lambda: self.code() is not None, seconds=seconds)
        code = self.code()
        assert code is not None
        return code

    def url(self) -> str | None:
        """Return its URL, or None if it does not listen yet."""
        found = LISTENING.search(Path(f"{self.output}.out").read_text())
        return None if found is None else found[1]

    def listens(self) -> str:
        """Wait until it listens; return its URL."""
        until_now(lambda: self.url() is not None or self.code() is not None, seconds=_SECONDS)
        url = self.url()
        assert url is not None, f"it ended before it listened:\n{self.errors()}"
        return url

    def get(self, path: str) -> httpx.Response:
        return plain_http.get(self.listens() + path, timeout=_SECONDS)

    def errors(self) -> str:
        return Path(f"{self.output}.err").read_text()

    def kill(self) -> None:
        """End it, if it has not ended by itself."""
        if self.code() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()


class Zygote:
    """The parent of all `start`ed processes. May be used by several threads."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._turn = threading.Lock()
        self._numbers = count()

    def start(self, words: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> Forked:
        """Start `python -m words…` in `folder`."""
        output = folder / f"forked-{next(self._numbers)}"
        request = {"words": words, "folder": str(folder), "environment": service_environment(environment)}
        return Forked(self, self.ask({**request, "output": str(output)}), output)

    @contextmanager
    def running(self, service: str, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Forked]:
        """Run a service meanwhile, from when it listens."""
        process = self.start([service], folder, environment)
        try:
            process.listens()
            yield process
        finally:
            process.kill()

    def ask(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what its kind of request is answered with
        with self._turn:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        assert answer, "the zygote ended"
        return json.loads(answer)


@contextmanager
def zygote(*modules: str, prefix: Sequence[str] = ()) -> Iterator[Zygote]:
    """Run a zygote that has imported `modules`; `prefix` is a command that runs it, such as a tracer."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.support.zygote", *modules],
        env=service_environment({"OPENBLAS_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # closes the pipes, which ends it, and waits
        yield Zygote(process)


def _serve(modules: Sequence[str]) -> None:
    for module in modules:
        import_module(module)
    codes: dict[int, int | None] = {}
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "code" in request:
                answer = _code(codes, request["code"])
            else:
                answer = _fork(request)
                codes[answer] = None
            sys.stdout.write(f"{json.dumps(answer)}\n")
            sys.stdout.flush()
    finally:
        for pid in codes:
            if _code(codes, pid) is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _code(codes: dict[int, int | None], pid: int) -> int | None:
    if codes[pid] is None:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            codes[pid] = os.waitstatus_to_exitcode(status)
    return codes[pid]


def _fork(request: Mapping[str, Any]) -> int:
    names = (os.devnull, f"{request['output']}.out", f"{request['output']}.err")
    opened = [os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) for name in names]
    pid = os.fork()
    if pid:
        for descriptor in opened:
            os.close(descriptor)
        return pid
    code: int | str | None = 1
    try:
        for number, descriptor in enumerate(opened):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = list(request["words"])
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as the interpreter itself does at its end
        sys.excepthook(*sys.exc_info())
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve(sys.argv[1:])
