"""What every benchmark runs on and with: the machine, the patients that are asked about, and the model that answers."""

from __future__ import annotations

import csv
import os
import platform
import shutil
import statistics
import subprocess
import threading
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.lib.servers import ROOT
from shared.diseases.thyroid import DatosPaciente
from shared.patient import DiscardedRowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

    from shared.patient import Patient

_PATIENTS = 2000
_BETWEEN_FSYNCS = 0.1
"""Seconds, long enough for the disk not to be slower for them."""
_LIBRARIES = ("fastapi", "starlette", "uvicorn", "pydantic", "scikit-learn", "onnxruntime", "sqlalchemy")


def production() -> Path | None:
    """Find the model in production."""
    found = ROOT / "var" / "models" / DatosPaciente.disease.name / "production"
    return found if found.exists() else None


def give_model(home: Path, model: Path) -> None:
    """Copy `model` and the keys that vouch for it into `home`, where a service will run."""
    shutil.copytree(model.parents[2] / "keys", home / "var" / "keys")
    shutil.copytree(model.parent, home / "var" / "models" / model.parent.name, symlinks=True)


def patients() -> Iterator[Patient]:
    """Give valid patients from the end of the raw data."""
    with (ROOT / "data" / "raw.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[-_PATIENTS:]
    for row in rows:
        try:
            yield DatosPaciente.from_row(row).patient
        except DiscardedRowError:
            continue


def write_patients(path: Path) -> Path:
    """Write `patients`, one a line, as a doctor would send them."""
    path.write_text("\n".join(each.model_dump_json(exclude_defaults=True) for each in patients()) + "\n")
    return path


def fsync_ms(folder: Path) -> float:
    """Median of 200 appends of a page, each with fdatasync."""
    with (folder / "fsync").open("wb", buffering=0) as file:
        return statistics.median(_append(file) for _ in range(200))


@contextmanager
def fsyncs(folder: Path) -> Iterator[list[float]]:
    """Append a page with fdatasync now and then, beside whatever runs; gives the milliseconds that each took."""
    seconds: list[float] = []
    done = threading.Event()

    def append() -> None:
        with (folder / "fsyncs").open("wb", buffering=0) as file:
            seconds.append(_append(file))
            while not done.wait(_BETWEEN_FSYNCS):
                seconds.append(_append(file))

    thread = threading.Thread(target=append)
    thread.start()
    try:
        yield seconds
    finally:
        done.set()
        thread.join()


def _append(file: FileIO) -> float:
    """Append a page; returns the milliseconds until the disk had it."""
    file.write(bytes(4096))
    started = time.perf_counter()
    os.fdatasync(file.fileno())
    return (time.perf_counter() - started) * 1000


def machine() -> dict[str, Any]:
    """Say where and when this runs, and with which libraries."""
    processor = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor,
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def describe(machine: dict[str, Any], command: str = "make bench") -> str:
    """Put `machine` in a sentence, for the top of a page that `command` writes."""
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return (
        f"Written by `{command}` on {machine['date']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, commit {machine['commit']}; {libraries}. "
        f"Load average of the machine before: {machine['load_before']:.1f}."
    )
