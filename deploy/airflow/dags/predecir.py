"""Airflow DAGs: the pipeline with one task per step, and the trigger that starts it between its weekly runs.

Every task is a command of this repository in this repository's environment. Airflow has an environment of its own and
imports nothing from here. For a disease in a folder of its own, set `PREDECIR_PACIENTE` and `PREDECIR_PARAMS` in the
scheduler's environment, as for make. Registry, storage and database are set as in `.env.example`.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule, chain

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("PREDECIR_PARAMS", ROOT / "params.yaml")).resolve().parent
START = datetime(2026, 1, 1, tzinfo=UTC)


def command(task: str, words: str, **options: object) -> BashOperator:
    """Return a task that runs `python -m WORDS` in the disease's folder; it fails with the command's exit code."""
    return BashOperator(
        task_id=task,
        bash_command=f"exec python -m {words}",
        cwd=str(FOLDER),
        env={
            "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{FOLDER}",
        },
        append_env=True,
        execution_timeout=timedelta(hours=1),
        **options,
    )


with DAG(
    "predecir",
    description="Pull, check, train, evaluate, gate, promote, report",
    schedule="@weekly",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    tags=["predecir"],
):
    # A step also runs the steps before it, which do nothing unless the data changed meanwhile.
    steps = [command(step, f"training pipeline {step}") for step in ("pull", "check", "train", "evaluate", "register")]
    chain(*steps)
    report = command("report", "training history", trigger_rule=TriggerRule.ALL_DONE)
    passed = EmptyOperator(
        task_id="passed"
    )  # marks the run as failed if a step failed; `report` alone would mark it as a success
    chain(steps[-1], report, passed)
    chain(steps[-1], passed)

with DAG(
    "predecir_trigger",
    description="Start the pipeline early if recent patients or outcomes differ from the training data",
    schedule="@hourly",
    start_date=START,
    catchup=False,
    max_active_runs=1,
    tags=["predecir"],
):
    command("trigger", "training trigger")
