"""Interruption of the rig: no process that it started survives, and no temporary folder remains."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from chaos.stopping import STOPPED
from tests.support.paths import ROOT
from tests.support.waiting import until_now

SECONDS = 240
LOOK_SECONDS = 0.25
"""Seconds between two looks, each of which reads the command line of every process."""


class Run:
    """One command of the rig; its servers keep their files in `temporary`."""

    def __init__(self, process: subprocess.Popen[bytes], temporary: Path) -> None:
        self.process, self.temporary = process, temporary
        self.started: dict[int, psutil.Process] = {}

    def look(self) -> list[str]:
        """Remember all processes that it started; return their commands."""
        with suppress(psutil.NoSuchProcess):
            found = [*psutil.Process(self.process.pid).children(recursive=True), *self.detached()]
            self.started |= {each.pid: each for each in found}
        return [command(each) for each in self.started.values()]

    def detached(self) -> list[psutil.Process]:
        """Return the processes that work in the temporary folder, of any parent, such as PostgreSQL."""
        return [each for each in psutil.process_iter() if str(self.temporary) in command(each)]

    def left(self) -> list[str]:
        """Return the commands of its observed processes that still run, and the folders of its servers."""
        running = [command(each) for each in (*self.started.values(), *self.detached()) if lives(each)]
        return running + [str(path) for path in self.temporary.glob("predecir-*")]


def command(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@contextmanager
def run(words: Sequence[str]) -> Iterator[Run]:
    """Run `python -m words…` with its own temporary folder."""
    temporary = Path(tempfile.mkdtemp(prefix="predecir-stopping-"))
    temporary.chmod(0o755)  # PostgreSQL runs as another user and needs access
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    running = Run(process, temporary)
    try:
        yield running
    finally:
        running.look()
        process.kill()
        for each in running.started.values():
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        shutil.rmtree(temporary, ignore_errors=True)


def runs(started: Sequence[str], *wanted: str) -> bool:
    return all(any(each in words for words in started) for each in wanted)


SERVER = ("services.gateway", "services.recorder", "chaos.load.client", "beam", "postgres")


def test_stopping_the_rig_stops_all_its_processes() -> None:
    with run(["chaos", "--seconds", "600", "--kills", "600"]) as rig:
        until_now(lambda: runs(rig.look(), *SERVER), seconds=SECONDS, every=LOOK_SECONDS)
        rig.process.terminate()
        assert rig.process.wait(SECONDS) == STOPPED
        until_now(lambda: not rig.left(), seconds=SECONDS, every=LOOK_SECONDS)


def test_a_rig_that_is_stopped_while_it_starts_ends_and_leaves_nothing() -> None:
    with run(["chaos", "--seconds", "600", "--kills", "600"]) as rig:
        until_now(lambda: runs(rig.look(), "beam"), seconds=SECONDS, every=LOOK_SECONDS)
        rig.process.terminate()
        assert rig.process.wait(SECONDS) == STOPPED
        until_now(lambda: not rig.left(), seconds=SECONDS, every=LOOK_SECONDS)


def test_a_stopped_long_run_ends_after_its_parts(tmp_path: Path) -> None:
    with run(["chaos.long", "overload", "--into", str(tmp_path)]) as rig:
        until_now(
            lambda: runs(rig.look(), "services.local", "chaos.load.arrivals"), seconds=SECONDS, every=LOOK_SECONDS
        )
        rig.process.terminate()
        assert rig.process.wait(SECONDS) == STOPPED
        assert rig.left() == []


def test_the_parts_of_a_killed_long_run_end_soon(tmp_path: Path) -> None:
    with run(["chaos.long", "soak", "failpoints", "--into", str(tmp_path)]) as rig:
        until_now(
            lambda: runs(rig.look(), *SERVER, "chaos.failpoints", "tests.support.zygote"),
            seconds=SECONDS,
            every=LOOK_SECONDS,
        )
        rig.process.kill()
        until_now(lambda: not rig.left(), seconds=SECONDS, every=LOOK_SECONDS)
