"""The progress line of the Makefile: printed while a command runs, gone with it, exit code unchanged."""

import shutil
import subprocess
from pathlib import Path

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
