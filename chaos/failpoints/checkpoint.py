"""Kills of the local profile during a checkpoint, while SQLite writes pages from its WAL into the file.

SQLite runs a checkpoint inside a commit, so no line of our code can be a failpoint. strace kills the process at the
third page instead: in WAL mode only a checkpoint writes to the file itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.failpoints.retrying_client import RetryingClient
from chaos.failpoints.serving import Profile, recorded_before, settle
from chaos.failpoints.tally import Tally
from tests.support.zygote import Zygote, zygote

FILES = {"outbox.checkpoint": "var/gateway/outbox.db", "database.checkpoint": "predicciones.db"}
_STRACE = Path("/usr/bin/strace")
_PAGE = 3


def hit(failpoint: str, hits: int, untraced: Zygote, profile: Profile, modules: tuple[str, ...]) -> Tally:
    """Send requests until the process dies in a checkpoint, restart it, repeat; then compare answers and rows."""
    tally, client, before = Tally(failpoint, profile.place), RetryingClient(failpoint), set(recorded_before(profile))
    file, trace = profile.folder / FILES[failpoint], profile.folder / "trace"
    whole(tally, client, untraced, profile)  # creates the files
    with traced(file, trace, modules) as ending:
        for _ in range(hits):
            process = tally.start(ending, [profile.service], profile.folder, profile.environment)
            if (url := process.url()) is not None:
                client.send_until_cut(url)
            tally.hit(process, trace=trace)
            whole(tally, client, untraced, profile)
    settle(tally, client, untraced, profile, before)
    return tally


def whole(tally: Tally, client: RetryingClient, untraced: Zygote, profile: Profile) -> None:
    """Start the process without a tracer, complete all open requests, and kill it."""
    process = tally.start(untraced, [profile.service], profile.folder, profile.environment)
    client.finish(process.listens())
    process.kill()


@contextmanager
def traced(file: Path, trace: Path, modules: tuple[str, ...]) -> Iterator[Zygote]:
    """Run a zygote whose processes die at the third page that they write to `file`."""
    if not _STRACE.exists():
        pytest.fail(f"no {_STRACE}: install Debian's package `strace`", pytrace=False)
    calls = ("-e", "trace=pwrite64", "-e", f"inject=pwrite64:signal=SIGKILL:when={_PAGE}")
    with zygote(*modules, prefix=(str(_STRACE), "-D", "-f", "-q", "-P", str(file), *calls, "-o", str(trace))) as ending:
        yield ending
