"""Progress lines, error lines and exit codes of a command."""

import errno
import threading
from pathlib import Path
from typing import NoReturn

import pytest

from shared.artifacts.errors import BundleTamperedError
from tests.support.waiting import until_now
from training.errors import DataError
from training.stage_runner import heartbeat, log_line, run


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
def test_an_error_is_one_line_and_an_exit_code(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> NoReturn:
        raise error

    assert run("stage", fail) == code
    assert capsys.readouterr().err == f"stage: {line}\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stage", lambda: str((tmp_path / "none/model.pkl").write_bytes(b"model"))) == 69
    assert capsys.readouterr().err == f"stage: {tmp_path}/none/model.pkl: No such file or directory\n"


def test_a_silent_stage_prints_a_heartbeat_until_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []

    def has_beaten(times: int) -> bool:
        shown.append(capsys.readouterr().out)
        return "".join(shown).count("train     running for 0 s\n") >= times

    with heartbeat("train", seconds=0.01):
        until_now(lambda: has_beaten(3))
    capsys.readouterr()
    log_line("train", "done")
    assert capsys.readouterr().out == "train     done\n"
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_stage_that_prints_needs_no_heartbeat(capsys: pytest.CaptureFixture[str]) -> None:
    with heartbeat("train", seconds=60):
        log_line("train", "fold 1 of 3")
    assert capsys.readouterr().out == "train     fold 1 of 3\n"


def test_a_paused_heartbeat_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    checks: list[None] = []

    def pause() -> bool:
        checks.append(None)
        return True

    with heartbeat("pipeline", seconds=0.01, pause=pause):
        until_now(lambda: len(checks) > 2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("character", ["\x1b", "\r", "\x9b", "\x00", "\u202e", "\u2028"])
def test_a_text_of_the_registry_cannot_control_the_terminal(character: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> NoReturn:
        raise DataError(f"said{character}[2J")

    log_line("promote", f"said{character}[2J\nand more")
    assert run("promote", fail) == 65
    printed = capsys.readouterr()
    assert printed.out == "promote   said\N{REPLACEMENT CHARACTER}[2J\nand more\n"
    assert printed.err.startswith("promote: said")
    assert character not in printed.err
