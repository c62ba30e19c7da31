"""The rig told to stop in the midst of it: nothing that it started runs on, and nothing of it lies about."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from chaos.stopping import STOPPED
from tests.support.paths import ROOT
from tests.support.waiting import until_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS = 240
LOOK_SECONDS = 0.25
"""A look reads the command of every process there is."""


class Run:
    """One command of the rig; its servers keep their files in `temporary`."""

    def __init__(self, process: subprocess.Popen[bytes], temporary: Path) -> None:
        self.process, self.temporary = process, temporary
        self.started: dict[int, psutil.Process] = {}

    def look(self) -> list[str]:
        """Remember all that it started; returns their commands."""
        with suppress(psutil.NoSuchProcess):
            found = [*psutil.Process(self.process.pid).children(recursive=True), *self.detached()]
            self.started |= {each.pid: each for each in found}
        return [command(each) for each in self.started.values()]

    def detached(self) -> list[psutil.Process]:
        """Find what works in the temporary folder, whoever its parent is, such as PostgreSQL."""
        return [each for each in psutil.process_iter() if str(self.temporary) in command(each)]

    def left(self) -> list[str]:
        """Give what runs of all that it ever started, as far as we saw, and the folders of its servers."""
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
    """Run `python -m words…` with a folder of its own for what is temporary."""
    temporary = Path(tempfile.mkdtemp(prefix="predecir-stopping-"))
    temporary.chmod(0o755)  # PostgreSQL, which root may not run, has to come by
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


def test_who_stops_the_rig_stops_all_that_it_started() -> None:
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


def test_parts_of_a_long_run_that_is_told_to_stop_end_before_it(tmp_path: Path) -> None:
    with run(["chaos.long", "overload", "--into", str(tmp_path)]) as rig:
        until_now(
            lambda: runs(rig.look(), "services.local", "chaos.load.arrivals"), seconds=SECONDS, every=LOOK_SECONDS
        )
        rig.process.terminate()
        assert rig.process.wait(SECONDS) == STOPPED
        assert rig.left() == []


def test_parts_of_a_long_run_that_is_killed_end_soon(tmp_path: Path) -> None:
    with run(["chaos.long", "soak", "failpoints", "--into", str(tmp_path)]) as rig:
        until_now(
            lambda: runs(rig.look(), *SERVER, "chaos.failpoints", "tests.support.zygote"),
            seconds=SECONDS,
            every=LOOK_SECONDS,
        )
        rig.process.kill()
        until_now(lambda: not rig.left(), seconds=SECONDS, every=LOOK_SECONDS)
