"""The command line `python -m training`."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import until_now
from training.__main__ import COMMANDS, STAGES, main

HEAVY = {"mlflow", "numpy", "onnxruntime", "pandas", "sklearn"}


def modules_after(code: str) -> set[str]:
    """Run `code` in a new process and return the modules that it has imported."""
    report = "import sys; print(sorted(sys.modules))"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return set(ast.literal_eval(ended.stdout.splitlines()[-1]))


def test_help_lists_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n    {name}" not in shown] == []
    assert [code for code in (0, 1, 2, 65, 69, 75, 78, 130) if f"\n  {code} " not in shown] == []


def test_help_imports_no_heavy_library() -> None:
    code = "from training.__main__ import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    assert modules_after(code) & HEAVY == set()


def test_no_command_imports_mlflow_before_it_opens_the_registry() -> None:
    imports = "\n".join(f"import training.commands.{name}" for name in COMMANDS)
    assert "mlflow" not in modules_after(imports)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_describes_it_without_running_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: python -m training {name} ")
    assert COMMANDS[name] in shown


@pytest.mark.parametrize("words", [[], ["retrain"], ["promote"], ["prepare", "now"], ["rollback", "--reason", " "]])
def test_a_wrong_command_line_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: python -m training" in capsys.readouterr().err


def test_an_unknown_command_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["retrain"])
    error = capsys.readouterr().err
    assert "invalid choice: 'retrain'" in error
    assert [name for name in COMMANDS if name not in error] == []


def test_a_stage_announces_itself_and_fails_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare"]) == 65
    shown = capsys.readouterr()
    assert shown.out == f"prepare   stage 1 of {len(STAGES)}: {STAGES['prepare']}\n"
    assert shown.err.startswith("prepare: data/raw.csv: cannot be read")


def test_ctrl_c_during_an_import_ends_without_a_traceback(tmp_path: Path) -> None:
    slow = tmp_path / "numpy"
    slow.mkdir()
    (slow / "__init__.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, "-m", "training", "prepare"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        until_now((tmp_path / "importing").exists)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1]
    assert (process.returncode, error) == (-signal.SIGINT, "")
