"""`python -m training pipeline`, which is `make train`: run the stages whose inputs changed, in the current folder.

The folder holds `params.yaml` and `data/raw.csv` of one disease, whose class `PREDECIR_PACIENTE` names. DVC decides
what has to run; each stage says what it did on a line of its own, and the exit code is that of the stage that failed.
With `--unless-served`, nothing runs if a model for that class is in production here already; one that was lost or
damaged is fetched from the registry. A stage's name as argument ends the run after that stage, for a scheduler that
shows each as a task of its own; `pull` only fetches the data.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.artifacts.bundle import PRODUCTION
from training.config import FILE, read_parameters
from training.data.raw import RAW
from training.dvc_project import check_data, check_owner, lay_out
from training.errors import BusyError, DataError, ParametersError, RegistryError, StageFailedError, TrainingError
from training.registry.promotion import follow
from training.stage_runner import INTERRUPTED, log_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from shared.artifacts.store import ModelStore
    from training.context import TrainingContext

_PULL = "pull"
_BUSY = "DVC is at work in this folder, for another run of the pipeline most likely; try again when that is done"
_INTERRUPTED = {INTERRUPTED, -2}
"""Exit codes of a stage after Ctrl-C: it says so, or SIGINT ended it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--unless-served", action="store_true", help="not if a model is in production here already")
    parser.add_argument("until", nargs="?", metavar="STAGE", help="end after this stage; pull: after fetching the data")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Check everything that can be checked at once, then let DVC run; returns the summary."""
    settings, patient = context.settings, context.patient
    _check_name(os.environ)
    if arguments.unless_served and (said := _standing(context)):
        return said
    check_owner(settings.predecir_paciente)
    parameters = read_parameters()
    parameters.check_classes(patient.disease.classes)
    parameters.check_bands(patient.features)
    parameters.check_columns(patient.columns)
    pull = check_data(anew=arguments.until == _PULL)
    log_line("pipeline", f"{patient.disease.name} in {Path.cwd()}")
    if lay_out(patient, settings.predecir_paciente):
        log_line("pipeline", "first run here: wrote dvc.yaml, and .dvc/ for DVC's own files")
    site = Path("var/dvc/site").resolve()
    (site / "repo").mkdir(parents=True, exist_ok=True)  # DVC would make it, and var/ above it, writable for everyone
    os.environ.update(_quiet(os.environ, site))
    return _reproduce(arguments.until, pull=pull)


def _standing(context: TrainingContext) -> str | None:
    """Say what serves without training, after fetching from the registry what is lost or damaged here; else None."""
    if version := _served(context.model_store):
        return f"version {version} is in production"
    if not context.registry_exists:
        return None
    try:
        follow(context.registry, context.model_store)
    except RegistryError as error:
        log_line("pipeline", f"what is in production cannot be fetched: {error}")
    if version := _served(context.model_store):
        return (
            f"version {version} is in production; it was lost or damaged here, and is fetched from the registry again"
        )
    return None


def _served(model_store: ModelStore) -> str | None:
    """Give the version in production here, if it can serve the patient class of `model_store`."""
    link = model_store.folder / PRODUCTION
    version = link.readlink().name if link.is_symlink() else ""
    return version if version and model_store.opened(version) else None


def _check_name(environment: Mapping[str, str]) -> None:
    given = environment.get("PREDECIR_PARAMS", FILE.name)
    if Path(given).name != FILE.name:
        message = f"PREDECIR_PARAMS={given}: the file must be called {FILE.name}, in a folder of its own per disease"
        raise ParametersError(message)


def _quiet(environment: Mapping[str, str], site: Path) -> dict[str, str]:
    """Environment for DVC and the stages: our Python first, all state in this folder, nothing reported to anyone."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}",
        "DVC_SITE_CACHE_DIR": str(site),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
        "SHELL": shutil.which("bash") or "/bin/sh",  # starts the stages; dash, unlike it, would let SIGINT through
    }


def _reproduce(until: str | None, *, pull: bool) -> str:
    # Imported here: a second, which a wrong parameter should not cost, and it reads the environment set above.
    from dvc.exceptions import DvcException, ReproductionError  # noqa: PLC0415
    from dvc.lock import LockError  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # what it would say is raised, too
    try:
        with Repo(".") as repo:
            if pull:
                _pull(repo)
            if until == _PULL:
                return f"{RAW} is here"
            with _interrupts_held_back():
                ran = {stage.addressing for stage in repo.reproduce(until)}
            stages = [stage.addressing for stage in repo.index.stages if stage.cmd]
            asked = stages[: stages.index(until) + 1] if until else stages
    except ReproductionError as error:
        raise BusyError(_BUSY) if isinstance(error.__cause__, LockError) else _failure(error) from error
    except LockError as error:
        raise BusyError(_BUSY) from error
    except DvcException as error:
        message = f"DVC: {_one_line(error)}"
        raise TrainingError(message) from error
    return f"done{_unchanged([stage for stage in asked if stage not in ran])}"


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let processes start with SIGINT blocked: a stage that is still being imported could only end with a traceback.

    They unblock it themselves (`training.stage_runner`). Ours is taken by a thread that was there before.
    """
    done = threading.Event()
    threading.Thread(target=done.wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        done.set()


def _pull(repo: Any) -> None:  # noqa: ANN401 - DVC has no types
    from dvc.exceptions import DvcException  # noqa: PLC0415
    from dvc.lock import LockError  # noqa: PLC0415

    started = time.perf_counter()
    try:
        repo.pull(targets=[f"{RAW}.dvc"])
    except LockError:
        raise
    except DvcException as error:
        message = f"{RAW}: DVC cannot pull it from its remote ({_one_line(error)}); see .dvc/config"
        raise DataError(message) from error
    log_line("pull", f"{RAW}, {RAW.stat().st_size / 1e6:.1f} MB ({time.perf_counter() - started:.1f} s)")


def _failure(error: Exception) -> BaseException:
    """Tell what made DVC stop: a stage that ended with a code, and has said why, or DVC itself."""
    cause = error.__cause__ or error
    ended = re.search(r"-m training (\w+), exited with (-?\d+)$", str(cause))
    if ended is None:
        return TrainingError(f"DVC: {_one_line(cause)}")
    stage, code = ended[1], int(ended[2])
    return KeyboardInterrupt() if code in _INTERRUPTED else StageFailedError(stage, code)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _unchanged(stages: list[str]) -> str:
    return f"; nothing changed for {', '.join(stages)}" if stages else ""
