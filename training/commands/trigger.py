"""`python -m training trigger`: run the pipeline if recent patients or outcomes differ from the training data.

For cron or any scheduler, in the folder of `params.yaml`, at any interval: the pipeline is started at most once in
`trigger.period_days`, also by concurrent runs. Recent predictions are compared with the training data of the model in
production, whose distribution is in that model's bundle. The output has figures only, no value of a patient.

Exit code 0: nothing to do, or trained and in production. Otherwise the exit code of the pipeline, or that of a database
or registry that cannot be read.
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sqlalchemy.engine import URL

from shared.artifacts.bundle import PRODUCTION, Bundle, open_bundle
from shared.files import locked, replace_file
from shared.patient import Patient
from training.config import FILE, Trigger, read_parameters
from training.context import TrainingContext
from training.errors import BusyError, ParametersError, RegistryError, StageFailedError
from training.monitoring.drift import DriftFigure, RecentPredictions, agreement
from training.monitoring.predictions_db import (
    MOST_ROWS,
    PredictionFilter,
    RecentPrediction,
    open_predictions,
    parse_patient,
)
from training.registry.promotion import sync_links
from training.stage_runner import log_line

_FOLDER = "trigger"
_REPORT = "report.json"
_MOST_NAMED = 20
"""Ids of unreadable rows in the report and the output."""
_START_LOG = "started.jsonl"


def main(_: argparse.Namespace, context: TrainingContext) -> str:
    """Compare, write the report, and run the pipeline if a figure is beyond its limit; return a summary."""
    limits = read_parameters().trigger
    if limits is None:
        message = f"{FILE}: trigger: missing; docs/guides/training.md has its keys"
        raise ParametersError(message)
    production = _open_production(context)
    now = dt.datetime.now(dt.UTC)
    database_url = context.settings.database()
    since = now - dt.timedelta(days=limits.days)
    compared_with = asyncio.run(compare_recent(database_url, context.patient, production, limits, since))
    recent, figures = compared_with.recent, compared_with.figures
    folder = context.settings.var / _FOLDER
    _print_figures(figures, folder / _REPORT)
    _print_unreadable(compared_with.unreadable)
    beyond = [figure.name for figure in figures if figure.beyond]
    started = bool(beyond) and claim_start(folder, now, limits, beyond)
    version = production.manifest.version
    report = {
        "time": now.isoformat(),
        "version": version,
        "predictions": recent.predictions,
        "unreadable": len(compared_with.unreadable),
        "unreadable_ids": compared_with.unreadable[:_MOST_NAMED],
        "findings": [figure.model_dump() for figure in figures],
        "started": started,
    }
    _write_report(folder, report)
    compared = f"{recent.predictions:,} predictions of {limits.days} days compared with version {version}"
    if not beyond:
        return f"{compared}: nothing beyond its limit"
    if not started:
        return f"{compared}: beyond its limit: {', '.join(beyond)}; started within {limits.period_days:g} days already"
    log_line("trigger", f"{compared}: beyond its limit: {', '.join(beyond)}; starting the pipeline")
    ended = subprocess.run([sys.executable, "-m", "training", "pipeline"], check=False)
    if ended.returncode == BusyError.exit_code:
        withdraw_start(folder, now)
        _write_report(folder, report | {"started": False})
    if ended.returncode:
        raise StageFailedError("the pipeline", ended.returncode)
    return "the pipeline ran"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recent predictions, their figures, and the ids of rows that cannot be read: no patient or model gives such."""

    recent: RecentPredictions
    figures: list[DriftFigure]
    unreadable: list[str]


async def compare_recent(  # noqa: PLR0913, PLR0917 - each is one fact of the comparison
    database_url: URL,
    patient: type[Patient],
    production: Bundle,
    limits: Trigger,
    since: dt.datetime,
    most_rows: int = MOST_ROWS,
) -> Comparison:
    """Compare predictions recorded since `since`, the newest `most_rows`, with the training data of `production`.

    Raises:
        DatabaseError: the database cannot be read.
        RegistryError: the bundle of `production` has no distribution of its training data.

    """
    manifest = production.manifest
    if manifest.reference is None:
        message = f"version {manifest.version} has no distribution of its training data; train it again (`make train`)"
        raise RegistryError(message)
    recent = RecentPredictions(manifest.reference)
    selected = PredictionFilter(manifest.name, manifest.patient_digest, since)
    unreadable: list[str] = []
    async with open_predictions(database_url, most_rows) as database:
        async for chunk in database.predictions(selected):
            encoded = [(row, _encoded(patient, row, production.digest, recent.classes)) for row in chunk]
            unreadable += [row.id for row, numbers in encoded if numbers is None]
            recent.add(
                [numbers for _, numbers in encoded if numbers is not None],
                [row.output for row, numbers in encoded if numbers is not None and row.digest == production.digest],
            )
        agreed, without_set = await database.doctors_agreed(selected, production.digest)
    figures = [*recent.figures(limits), agreement(sum(agreed), len(agreed), limits)]
    return Comparison(recent, figures, list(dict.fromkeys([*unreadable, *without_set])))


def _encoded(
    patient: type[Patient], row: RecentPrediction, production: str, classes: Collection[str]
) -> list[float] | None:
    """Return the encoded inputs of a row, or None if no patient has them, or no model of `production` its output."""
    if row.digest == production and row.output not in classes:
        return None
    try:
        return parse_patient(patient, row.inputs).encode()
    except Exception:  # noqa: BLE001 - a disease's own rules may raise anything on data that they did not foresee
        return None


def claim_start(folder: Path, now: dt.datetime, limits: Trigger, reasons: list[str]) -> bool:
    """Append a start to the log in `folder` unless it has one within the period; return whether it was appended.

    Of concurrent callers one succeeds. A start counts whatever the pipeline's result, unless it is withdrawn.

    Raises:
        RegistryError: the folder or the log cannot be used.

    """
    with _locked_log(folder) as log:
        starts = log.read().splitlines()
        if starts:
            last = dt.datetime.fromisoformat(json.loads(starts[-1])["started"])
            if now - last < dt.timedelta(days=limits.period_days):
                return False
        log.write(json.dumps({"started": now.isoformat(), "reasons": reasons}) + "\n")
        log.flush()
        os.fsync(log.fileno())
    return True


def withdraw_start(folder: Path, now: dt.datetime) -> None:
    """Remove the start of `now` from the log: the pipeline was busy with another run and did nothing.

    Raises:
        RegistryError: the log cannot be used.

    """
    with _locked_log(folder) as log:
        *before, last = log.read().splitlines(keepends=True)
        if json.loads(last)["started"] == now.isoformat():
            log.truncate(len("".join(before).encode()))


@contextmanager
def _locked_log(folder: Path) -> Iterator[TextIO]:
    """Open the log of starts for reading and appending, under an exclusive lock."""
    path = folder / _START_LOG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(path), path.open("a+", encoding="utf-8") as log:
            log.seek(0)
            yield log
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path}: cannot be used ({error}); it has one line of JSON for each start of the pipeline"
        raise RegistryError(message) from None


def _open_production(context: TrainingContext) -> Bundle:
    """Open the bundle in production; with a registry on a server, update the links first."""
    model_store = context.model_store
    if context.settings.mlflow_tracking_uri is not None:
        sync_links(context.model_registry, model_store)
    patient, link = context.patient, model_store.folder / PRODUCTION
    return open_bundle(link, model_store.public_key, patient_digest=patient.digest, name=patient.disease.name)


def _print_figures(figures: list[DriftFigure], report: Path) -> None:
    """Print the figures that have enough values, and how many have too few."""
    known = [figure for figure in figures if figure.figure is not None]
    for figure in known:
        log_line("trigger", figure.summary)
    if few := len(figures) - len(known):
        log_line("trigger", f"too few  for {few} of {len(figures)} figures; {report} names them")


def _print_unreadable(ids: list[str]) -> None:
    """Print how many rows cannot be read, and the first of their ids."""
    if ids:
        named = ", ".join(ids[:_MOST_NAMED]) + (", …" if len(ids) > _MOST_NAMED else "")
        log_line("trigger", f"predicciones: {len(ids):,} rows cannot be read and do not count: {named}")


def _write_report(folder: Path, report: dict[str, object]) -> None:
    """Replace the report of the last run."""
    path = folder / _REPORT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(report, indent=1).encode() + b"\n")
    except OSError as error:
        raise RegistryError(f"{path}: cannot be written ({error.strerror})") from None
