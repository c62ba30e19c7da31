"""deploy/train: the arguments of the training job."""

import subprocess
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "deploy" / "train"


def train(*arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(TRAIN), *arguments], env={"PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("arguments", [("rollback", "--reason", "too many alarms"), ("history",)])
def test_other_commands_are_passed_on_unchanged(arguments: tuple[str, ...], tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    command, *rest = arguments
    assert train(*arguments, path=str(tmp_path)).stdout.splitlines() == ["-m", "training", command, *rest]


@pytest.mark.parametrize("argument", ["rolback", "python", "anew"])
def test_an_unknown_argument_trains_nothing(argument: str, tmp_path: Path) -> None:
    done = train(argument, path=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"train: {argument}: unknown; ")
    assert len(done.stderr.splitlines()) == 1
