"""The Makefile: its progress line, which changes no exit code, and folders with spaces and quotes."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def make(tmp_path: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run `command` behind PROGRESS; return only after every process that holds its output has ended."""
    probe = tmp_path / "probe.mk"
    shutil.copy(ROOT / "Makefile", tmp_path)  # `include` splits a path at its spaces
    probe.write_text(f"include Makefile\nPROGRESS_SECONDS := 1\nprobe:\n\t@$(call PROGRESS,.) {command}\n")
    return subprocess.run(
        ["make", "-f", str(probe), "probe"], cwd=tmp_path, capture_output=True, text=True, check=False
    )


def test_progress_is_printed_while_a_command_runs(tmp_path: Path) -> None:
    result = make(tmp_path, "sleep 2.5")
    assert result.returncode == 0
    assert result.stdout.startswith("environment: 1 s, ")


def test_progress_keeps_the_exit_code_and_ends_with_the_command(tmp_path: Path) -> None:
    result = make(tmp_path, "exit 3")
    assert result.stdout == ""
    assert "Error 3" in result.stderr


@pytest.mark.parametrize("target", ["run", "train", "params"])
def test_a_folder_with_spaces_and_quotes_is_one_word_for_the_shell(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "Datos clínicos de José's"
    folder.mkdir()
    command = ("make", "--old-file=.venv/.uv", "--old-file=.venv/.run", target)
    values = (f"PREDECIR_PARAMS={folder}/params.yaml", "PY=pwd #")  # prints the folder; the rest is a comment
    result = subprocess.run([*command, *values], cwd=ROOT, capture_output=True, text=True, check=False)
    assert set(result.stdout.splitlines()) == {str(folder)}, result.stderr


def test_the_brokers_tests_run_on_the_image_of_the_stack() -> None:
    command = ["make", "--dry-run", "--old-file=.venv/.uv", "--old-file=.venv/.dev", "test-broker"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["rabbitmq"]["image"]
    default = image.partition(":-")[2].removesuffix("}")
    words = lines.replace("'", "").split()
    assert f"TEST_RABBITMQ_IMAGE={default}" in words
    files = [word for word in words if word.startswith("tests/")]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
