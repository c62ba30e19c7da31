"""How a stage ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

import pytest

from shared.artifacts.errors import BundleTamperedError
from training.errors import DataError
from training.stage_runner import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no data"), 65, "no data"),
        (BundleTamperedError("no key of ours"), 69, "no key of ours"),
        (
            OSError(errno.ENOSPC, "No space left on device", "var/model.pkl"),
            69,
            "var/model.pkl: No space left on device",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), 69, "No space left on device"),
    ],
)
def test_what_can_go_wrong_is_one_line_and_an_exit_code(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> NoReturn:
        raise error

    assert run("stage", fail) == code
    assert capsys.readouterr().err == f"stage: {line}\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stage", lambda: str((tmp_path / "none/model.pkl").write_bytes(b"model"))) == 69
    assert capsys.readouterr().err == f"stage: {tmp_path}/none/model.pkl: No such file or directory\n"
