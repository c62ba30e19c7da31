"""`python -m training pipeline [--unless-served] [STAGE]` (`make train`): run the stages whose inputs changed.

The folder has `params.yaml` and `data/raw.csv` of one disease; `PREDECIR_PACIENTE` names its patient class. DVC decides
which stages run. Each stage prints its progress and a summary. The exit code is that of the stage that failed.
With `--unless-served`, nothing runs if a model for that class is in production here; one that was lost or damaged is
downloaded from the registry. STAGE ends the run after that stage, for a scheduler with one task per stage; `pull` only
fetches the data.
"""

import argparse
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.store import ModelStore
from shared.patient import PatientClassError
from training.config import FILE, read_parameters
from training.context import TrainingContext
from training.data.pointer import POINTER, TrackedFile, changed_data, tracked_file
from training.data.raw import RAW
from training.dvc_project import check_owner, needs_pull, write_project
from training.errors import (
    BusyError,
    DataError,
    DvcFileError,
    ParametersError,
    RegistryError,
    StageFailedError,
    TrainingError,
)
from training.registry.promotion import sync_links
from training.stage_runner import INTERRUPTED, heartbeat, log_line

T = TypeVar("T")
_PULL = "pull"
_BUSY = "DVC has locked this folder, most likely for another run of the pipeline; try again when that has ended"
_RWLOCK = ".dvc/tmp/rwlock"
_REMEDIES = {
    _RWLOCK: "a power cut or a full disk leaves it so; delete it if no other run of the pipeline is active here",
    "dvc.lock": "restore it from version control, or delete it: then every stage runs again",
}
"""What to do about a damaged file that DVC writes, by the end of its name in DVC's message."""
_UNSAVED = "unsaved files"
"""In DVC's message for data that it does not overwrite, since neither its cache nor a remote has them."""
_INTERRUPTED = {INTERRUPTED, -signal.SIGINT}
"""Exit codes of a stage after Ctrl-C: its own, or that of a process that SIGINT killed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--unless-served", action="store_true", help="do nothing if a model is in production here")
    parser.add_argument("until", nargs="?", metavar="STAGE", help="last stage to run; `pull`: only fetch the data")


def main(arguments: argparse.Namespace, context: TrainingContext) -> str:
    """Check settings, parameters and data, then run the stages with DVC; return a summary."""
    settings = context.settings
    _check_parameter_file()
    if arguments.unless_served and _is_usable(context) and (served := _describe_served(context)):
        return served
    pull = _check_inputs(context, newest=arguments.until == _PULL)
    patient = context.patient
    log_line("pipeline", f"{patient.disease.name} in {Path.cwd()}")
    if write_project(patient, settings.predecir_paciente):
        log_line("pipeline", "first run here: wrote dvc.yaml, and .dvc/ for DVC's own files")
    site = Path("var/dvc/site").resolve()
    (site / "repo").mkdir(parents=True, exist_ok=True)  # DVC would make it, and var/ above it, world-writable
    os.environ.update(_stage_environment(site))
    return _run_stages(arguments.until, pull=pull)


def _is_usable(context: TrainingContext) -> bool:
    """Return whether there is a patient class; `_check_inputs` names its faults."""
    try:
        return bool(context.patient)
    except PatientClassError:
        return False


def _check_inputs(context: TrainingContext, *, newest: bool) -> bool:
    """Check patient class, parameters and data; return whether the data must be pulled.

    One error names everything that is wrong. The rows are read here only if something else is wrong: `prepare` reads
    them in a moment.

    Raises:
        PatientClassError, ParametersError, DataError: the only thing that is wrong, or all of them in one.

    """
    errors: list[TrainingError | PatientClassError] = []

    def attempted(check: Callable[[], T]) -> T | None:
        try:
            return check()
        except (TrainingError, PatientClassError) as error:
            errors.append(error)
            return None

    patient = attempted(lambda: context.patient)
    attempted(lambda: check_owner(context.settings.predecir_paciente))
    parameters = attempted(read_parameters)
    if patient and parameters:
        attempted(partial(parameters.check_names, patient.disease.classes, patient.features))
    pull = attempted(lambda: needs_pull(newest=newest))
    if errors and patient and RAW.exists():
        from training.data.preparation import prepare  # noqa: PLC0415 - NumPy, which the other checks do not need

        attempted(partial(prepare, RAW, patient))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        message = "\n".join(map(str, errors))
        raise DataError(message) if all(isinstance(error, DataError) for error in errors) else ParametersError(message)
    return bool(pull)


def _describe_served(context: TrainingContext) -> str | None:
    """Name the version in production, downloaded again if it was lost or damaged here; None if there is none."""
    if version := _served_version(context.model_store):
        return f"version {version} is in production"
    if not context.registry_exists:
        return None
    try:
        sync_links(context.model_registry, context.model_store)
    except RegistryError as error:
        log_line("pipeline", f"the version in production cannot be fetched: {error}")
    if version := _served_version(context.model_store):
        return f"version {version} is in production; it was lost or damaged here and was fetched from the registry"
    return None


def _served_version(model_store: ModelStore) -> str | None:
    """Return the version in production here, if it can serve the patient class of `model_store`."""
    link = model_store.folder / PRODUCTION
    version = link.readlink().name if link.is_symlink() else ""
    return version if version and model_store.opened(version) else None


def _check_parameter_file() -> None:
    path = os.environ.get("PREDECIR_PARAMS", FILE.name)
    if Path(path).name != FILE.name:
        message = f"PREDECIR_PARAMS={path}: the file must be called {FILE.name}, in a folder of its own per disease"
        raise ParametersError(message)


def _stage_environment(site: Path) -> dict[str, str]:
    """Return the environment of DVC and the stages: this Python first, all state in this folder, no telemetry."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_SITE_CACHE_DIR": str(site),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
        "SHELL": shutil.which("bash") or "/bin/sh",  # runs the stages; dash would not keep SIGINT blocked
    }


def _run_stages(until: str | None, *, pull: bool) -> str:
    # Imported here: it takes a second, which a wrong parameter should not cost, and reads the environment set above.
    from dvc.exceptions import DvcException  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # its messages are raised as exceptions, too
    try:
        with Repo(".", config=_dvc_configuration()) as repo:
            if pull:
                _pull(repo)
            if until == _PULL:
                return f"{RAW} is up to date"
            with _blocked_interrupts(), heartbeat("pipeline", pause=_has_child):
                ran = {stage.addressing for stage in repo.reproduce(until)}
            stages = [stage.addressing for stage in repo.index.stages if stage.cmd]
            selected = stages[: stages.index(until) + 1] if until else stages
    except DvcException as error:
        raise _failure(error) from error
    unchanged = ", ".join(stage for stage in selected if stage not in ran)
    return f"done; nothing changed for {unchanged}" if unchanged else "done"


def _dvc_configuration() -> dict[str, dict[str, bool]]:
    """Return what differs from .dvc/config: in a source archive there is no git for DVC to work with."""
    from dvc.scm import SCM, SCMError  # noqa: PLC0415

    try:
        SCM(".").close()
    except SCMError:
        return {"core": {"no_scm": True}}
    return {}


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Start child processes with SIGINT blocked: bash and a starting Python would end with their own messages.

    A stage unblocks it (`training.stage_runner`). SIGINT to this process is taken by a thread that started before.
    """
    done = threading.Event()
    threading.Thread(target=done.wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        done.set()


def _has_child() -> bool:
    """Return whether a stage is running, which prints its own lines."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _pull(repo: Any) -> None:  # noqa: ANN401 - DVC has no types
    """Fetch the raw data and compute their digest, which DVC does not: it names an object by its digest.

    A damaged copy is deleted, and also its object in DVC's cache, which the next pull would take. It may have come from
    there, so a second one is fetched from the remote.

    Raises:
        DataError: the remote has no such file, or a damaged one.

    """
    started = time.perf_counter()
    log_line(_PULL, f"fetching {RAW} from the DVC remote")
    with heartbeat(_PULL):
        _fetch(repo)
        tracked = tracked_file()
        if tracked and not tracked.is_here():
            log_line(_PULL, f"not the file of {POINTER}: a damaged copy; fetching it again")
            _delete_copies(repo, tracked)
            _fetch(repo)
            if not tracked.is_here():
                _delete_copies(repo, tracked)
                raise DataError(_damaged(repo, tracked))
    log_line(_PULL, f"{RAW}, {RAW.stat().st_size / 1e6:.1f} MB ({time.perf_counter() - started:.1f} s)")


def _fetch(repo: Any) -> None:  # noqa: ANN401 - as above
    from dvc.exceptions import CheckoutError, DvcException  # noqa: PLC0415
    from dvc.lock import LockError  # noqa: PLC0415

    try:
        repo.pull(targets=[str(POINTER)])
    except LockError:
        raise
    except DvcException as error:
        if _UNSAVED in str(error):
            raise changed_data() from error
        reason = "it has no such file, or a damaged one" if isinstance(error, CheckoutError) else _one_line(error)
        message = f"{RAW}: DVC cannot pull it from its remote ({reason}); see .dvc/config"
        raise DataError(message) from error


def _delete_copies(repo: Any, tracked: TrackedFile) -> None:  # noqa: ANN401 - as above
    cache = repo.cache.legacy if tracked.dos2unix else repo.cache.local
    for copy in (RAW, Path(cache.oid_to_path(tracked.md5))):
        copy.unlink(missing_ok=True)


def _damaged(repo: Any, tracked: TrackedFile) -> str:  # noqa: ANN401 - as above
    remote = repo.cloud.get_remote(tracked.remote)
    objects = remote.legacy_odb if tracked.dos2unix else remote.odb
    place = objects.fs.unstrip_protocol(objects.oid_to_path(tracked.md5))
    return (
        f"{RAW}: the DVC remote has a damaged copy, which was deleted here and not used; "
        f"delete {place}, then `dvc push` where the right file is"
    )


def _failure(error: Exception) -> BaseException:
    """Return the exception for what stopped DVC: another run, a stage that has printed its error, Ctrl-C, or itself."""
    from dvc.exceptions import ReproductionError  # noqa: PLC0415
    from dvc.lock import LockError  # noqa: PLC0415

    cause = (error.__cause__ or error) if isinstance(error, ReproductionError) else error
    if isinstance(cause, LockError):
        return BusyError(_busy(str(cause)))
    if ended := re.search(r"-m training (\w+), exited with (-?\d+)$", str(cause)):
        stage, code = ended[1], int(ended[2])
        return KeyboardInterrupt() if code in _INTERRUPTED else StageFailedError(stage, code)
    message = f"DVC: {_one_line(cause)}"
    for file, remedy in _REMEDIES.items():
        if f"{file}'" in message:
            return DvcFileError(f"{message}; {remedy}")
    return TrainingError(message)


def _busy(message: str) -> str:
    """Name the processes for which DVC's file `rwlock` locks a stage; a process started since may have their ID."""
    processes = ", ".join(f"{pid} ({command})" for pid, command in re.findall(r"\(PID (\d+)\): (.*)", message))
    if not processes:
        return _BUSY
    return (
        f"DVC has locked files of this folder for process {processes}; try again when that has ended, "
        f"or delete {_RWLOCK} if that process is another program now"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())  # DVC colours addresses, also in a file
