"""Failpoints: each name stands at one line of the code, an armed one kills its process, an unknown name is an error."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from shared.failpoints import Failpoint, failpoint
from shared.settings import BAD_SETTINGS, ProcessSettings, SettingsError, read_settings
from tests.support.processes import command

ROOT = Path(__file__).parents[2]
PASSING = """
import sys
from shared.failpoints import arm, failpoint
arm(sys.argv[1])
for number in (1, 2, 3):
    failpoint("outbox.write")
    failpoint("outbox.written")
    print(number, flush=True)
"""


def passing(armed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PASSING, armed], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_name_is_one_line_of_the_code_and_no_other_is() -> None:
    code = "".join(
        path.read_text() for folder in ("services", "shared", "training") for path in (ROOT / folder).rglob("*.py")
    )
    assert sorted(re.findall(r'\bfailpoint\("([^"]+)"\)', code)) == sorted(get_args(Failpoint))


@pytest.mark.parametrize(
    ("armed", "passed"), [("outbox.written", ""), ("outbox.write:1", ""), ("outbox.write:3", "1\n2\n")]
)
def test_an_armed_failpoint_kills_its_process_at_the_chosen_pass(armed: str, passed: str) -> None:
    ended = passing(armed)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, passed)
    name = armed.partition(":")[0]
    assert ended.stderr.splitlines() == [
        f'{{"failpoint": "{name}", "event": "{event}", "level": "warning"}}'
        for event in ("failpoint_armed", "failpoint_hit")
    ]


def test_without_the_setting_all_are_passed_alive() -> None:
    assert ProcessSettings().failpoint is None
    for name in get_args(Failpoint):
        failpoint(name)


@pytest.mark.parametrize("wrong", ["outbox.wrote", "outbox.write:0", "outbox.write:x", "outbox.write:-1", ":2"])
def test_an_unknown_failpoint_is_rejected(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("PREDECIR_FAILPOINT", wrong)
    with pytest.raises(SettingsError, match=r"^settings: PREDECIR_FAILPOINT: Value error"):
        read_settings(ProcessSettings)


@pytest.mark.parametrize(
    "words", [("services.recorder",), ("services.recorder", "transfer"), ("training", "history")], ids=" ".join
)
def test_services_and_commands_do_not_start_with_an_unknown_failpoint(tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = command(words, tmp_path, {"PREDECIR_FAILPOINT": "outbox.wrote"})
    assert ended.returncode == BAD_SETTINGS
    assert ended.stderr.count("\n") == 1
    assert "there is no failpoint outbox.wrote" in ended.stderr
