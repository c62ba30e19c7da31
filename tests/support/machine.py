"""The machine that measures: processor, versions and load for the reports, and the time of one fsync."""

import os
import platform
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

_PAGE_BYTES = 4096
_FSYNCS = 200
_BETWEEN_FSYNCS = 0.1
"""Seconds between two appends of `fsyncs`, long enough not to slow down the disk."""
_LIBRARIES = ("fastapi", "starlette", "uvicorn", "pydantic", "scikit-learn", "onnxruntime", "sqlalchemy")


def machine() -> dict[str, Any]:
    """Return date, processor, load, system, commit and library versions of this run."""
    processor = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def describe(conditions: dict[str, Any], command: str = "make bench") -> str:
    """Return the sentence for the top of a page that `command` wrote under `conditions`, a result of `machine`."""
    libraries = ", ".join(f"{name} {number}" for name, number in conditions["libraries"].items())
    return (
        f"Written by `{command}` on {conditions['date']}: {conditions['processor']}, {conditions['cores']} cores, "
        f"{conditions['system']}, Python {conditions['python']}, commit {conditions['commit']}; {libraries}. "
        f"Load average of the machine before: {conditions['load_before']:.1f}."
    )


def fsync_ms(folder: Path) -> float:
    """Return the median time of an append of one page with fdatasync in `folder`, in milliseconds."""
    with (folder / "fsync").open("wb", buffering=0) as file:
        return statistics.median(_append(file) for _ in range(_FSYNCS))


@contextmanager
def fsyncs(folder: Path) -> Iterator[list[float]]:
    """Append a page with fdatasync ten times a second in a thread; yields the list of times, in milliseconds."""
    times: list[float] = []
    done = threading.Event()

    def append() -> None:
        with (folder / "fsyncs").open("wb", buffering=0) as file:
            times.append(_append(file))
            while not done.wait(_BETWEEN_FSYNCS):
                times.append(_append(file))

    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()


def _append(file: FileIO) -> float:
    """Append a page; return the time of write and fdatasync, in milliseconds."""
    file.write(bytes(_PAGE_BYTES))
    started = time.perf_counter()
    os.fdatasync(file.fileno())
    return (time.perf_counter() - started) * 1000
