"""`dvc.lock` matches the committed pipeline and its inputs; otherwise run `make train` and commit it."""

import hashlib
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest

from tests.support.data import thyroid_csv
from training.config import read_yaml

ROOT = Path(__file__).parents[2]
STAGES = ("prepare", "check", "train", "evaluate", "register")


def parsed(name: str) -> Any:  # noqa: ANN401 - YAML
    return read_yaml(ROOT / name)


def locked(stage: str) -> dict[str, Any]:
    found: dict[str, Any] = parsed("dvc.lock")["stages"][stage]
    return found


def digest(path: str) -> str:
    file = thyroid_csv() if path == "data/raw.csv" else ROOT / path
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("stage", STAGES)
def test_every_input_is_the_one_that_the_stage_ran_on(stage: str) -> None:
    inputs = {d["path"]: d["md5"] for d in locked(stage)["deps"] if not d["path"].startswith("var/")}
    assert {path: digest(path) for path in inputs} == inputs, "run `make train`, and commit dvc.lock"


@pytest.mark.parametrize("stage", STAGES[1:])
def test_every_parameter_is_the_one_that_the_stage_ran_with(stage: str) -> None:
    ours = parsed("params.yaml")
    used = locked(stage)["params"]["params.yaml"]
    now = {name: reduce(getitem, name.split("."), ours) for name in used}
    assert now == used, "run `make train`, and commit dvc.lock"


def test_what_one_stage_made_is_what_the_next_one_read() -> None:
    made = {out["path"]: out["md5"] for stage in STAGES for out in locked(stage).get("outs", [])}
    read = {d["path"]: d["md5"] for stage in STAGES for d in locked(stage)["deps"] if d["path"].startswith("var/")}
    assert read.items() <= made.items()
