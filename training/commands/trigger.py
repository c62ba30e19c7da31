"""`python -m training trigger`: look at what was recorded lately, and start the pipeline if it has changed too much.

For cron or any scheduler, in the folder of `params.yaml`, as often as one likes: it starts the pipeline at most once in
`trigger.period_days`, whoever else runs it at the same time. It compares with what the model in production learned
from, which that model's bundle carries. Figures only: no value of a patient is shown or written.

Exit code 0: nothing to do, or trained and in production; otherwise that of the pipeline, or of what could not be read.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from shared.artifacts.bundle import PRODUCTION, open_bundle
from shared.artifacts.errors import BundleError
from shared.files import locked, replace_file
from training.config import FILE, read_parameters
from training.errors import BusyError, ParametersError, RegistryError, StageFailedError
from training.monitoring.drift import Recent, agreement
from training.monitoring.predictions_db import Asked, read_patient, recorded
from training.registry.promotion import follow
from training.stage_runner import log_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from shared.artifacts.bundle import Bundle
    from shared.patient import Patient
    from training.config import Trigger
    from training.context import TrainingContext
    from training.monitoring.drift import Finding

_FOLDER = "trigger"
_REPORT = "report.json"
_LEDGER = "started.jsonl"


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Look, report, and start the pipeline if it is due; returns the summary."""
    settings = context.settings
    limits = read_parameters().trigger
    if limits is None:
        message = f"{FILE}: trigger: missing; docs/guides/training.md has its keys"
        raise ParametersError(message)
    production = _production(context)
    version = production.manifest.version
    now = dt.datetime.now(dt.UTC)
    since = now - dt.timedelta(days=limits.days)
    database_url = settings.database_url.get_secret_value()
    recent, findings = asyncio.run(look(database_url, context.patient, production, limits, since))
    told = [finding for finding in findings if finding.figure is not None]
    for finding in told:
        log_line("trigger", str(finding))
    if few := len(findings) - len(told):
        log_line(
            "trigger", f"too few  for {few} of {len(findings)} figures; {settings.var / _FOLDER / _REPORT} names them"
        )
    beyond = [finding.name for finding in findings if finding.beyond]
    folder = settings.var / _FOLDER
    started = bool(beyond) and claim(folder, now, limits, beyond)
    report = {
        "time": now.isoformat(),
        "version": version,
        "predictions": recent.predictions,
        "findings": [finding.model_dump() for finding in findings],
        "started": started,
    }
    _report(folder, report)
    seen = f"{recent.predictions:,} predictions of {limits.days} days against version {version}"
    if not beyond:
        return f"{seen}: nothing beyond its limit"
    if not started:
        return f"{seen}: beyond its limit: {', '.join(beyond)}; started within {limits.period_days:g} days already"
    log_line("trigger", f"{seen}: beyond its limit: {', '.join(beyond)}; starting the pipeline")
    ended = subprocess.run([sys.executable, "-m", "training", "pipeline"], check=False)
    if ended.returncode == BusyError.exit_code:
        withdraw(folder, now)
        _report(folder, report | {"started": False})
    if ended.returncode:
        raise StageFailedError("the pipeline", ended.returncode)
    return "the pipeline ran"


async def look(
    database_url: str, patient: type[Patient], production: Bundle, limits: Trigger, since: dt.datetime
) -> tuple[Recent, list[Finding]]:
    """Compare what was recorded since `since` with what `production` learned from.

    Raises:
        SettingsError: `database_url` is none.
        DatabaseError: it cannot be read, or holds what cannot have been recorded.
        RegistryError: `production` does not say what it learned from.

    """
    manifest = production.manifest
    if manifest.reference is None:
        message = f"version {manifest.version} does not say what it learned from; train it again (`make train`)"
        raise RegistryError(message)
    recent = Recent(manifest.reference)
    asked = Asked(manifest.name, manifest.patient_digest, since)
    async with recorded(database_url) as database:
        async for chunk in database.predictions(asked):
            recent.add(
                _encoded(patient, [inputs for inputs, _, _ in chunk]),
                [output for _, output, digest in chunk if digest == production.digest],
            )
        outcomes = await database.outcomes(asked, production.digest)
    return recent, [*recent.findings(limits), agreement(sum(outcomes), len(outcomes), limits)]


def _encoded(patient: type[Patient], inputs: list[str]) -> list[list[float]]:
    return [read_patient(patient, text).encode() for text in inputs]


def claim(folder: Path, now: dt.datetime, limits: Trigger, reasons: list[str]) -> bool:
    """Enter a start into the ledger in `folder`, unless there was one within the period; says whether it was entered.

    Of several that ask at once, one gets it. A start counts whatever came of it, unless it is withdrawn.

    Raises:
        RegistryError: the folder or the ledger cannot be used.

    """
    with _locked(folder) as ledger:
        started = ledger.read().splitlines()
        if started:
            last = dt.datetime.fromisoformat(json.loads(started[-1])["started"])
            if now - last < dt.timedelta(days=limits.period_days):
                return False
        ledger.write(json.dumps({"started": now.isoformat(), "reasons": reasons}) + "\n")
        ledger.flush()
        os.fsync(ledger.fileno())
    return True


def withdraw(folder: Path, now: dt.datetime) -> None:
    """Take the start of `now` out of the ledger again: another run of the pipeline was in its way, and it did nothing.

    Raises:
        RegistryError: the ledger cannot be used.

    """
    with _locked(folder) as ledger:
        *before, last = ledger.read().splitlines(keepends=True)
        if json.loads(last)["started"] == now.isoformat():
            ledger.truncate(len("".join(before).encode()))


@contextmanager
def _locked(folder: Path) -> Iterator[TextIO]:
    """Open the ledger for reading and appending, alone."""
    path = folder / _LEDGER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path), path.open("a+", encoding="utf-8") as ledger:
            ledger.seek(0)
            yield ledger
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path}: cannot be used ({error}); it holds a line of JSON for each start of the pipeline"
        raise RegistryError(message) from None


def _production(context: TrainingContext) -> Bundle:
    """Give the model in production; where the registry is a server, it is asked which one that is."""
    settings, model_store = context.settings, context.model_store
    if settings.mlflow_tracking_uri is not None:
        follow(context.registry, model_store)
    public = settings.var / "keys/bundle.pub"
    try:
        return open_bundle(model_store.folder / PRODUCTION, public, patient_digest=context.patient.digest)
    except BundleError as error:
        raise RegistryError(str(error)) from None


def _report(folder: Path, report: dict[str, object]) -> None:
    """Replace the last report by `report`."""
    path = folder / _REPORT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(report, indent=1).encode() + b"\n")
    except OSError as error:
        message = f"{path}: cannot be written ({error.strerror})"
        raise RegistryError(message) from None
