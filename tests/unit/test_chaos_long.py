"""The long run: the arguments of each part, and the index of the reports."""

import os
import subprocess
from pathlib import Path

import pytest

from chaos.long import ALONE, LANES, PROOF, Part, Running, indexed
from tests.support.paths import ROOT

PARTS = {part.name: part for lane in (*LANES, ALONE) for part in lane}


def test_a_rehearsal_is_the_same_in_little(tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    assert PARTS["chaos"].words(30, report)[3:7] == ["--seconds", "1800", "--kills", "1000"]
    assert PARTS["chaos"].words(3, report)[3:7] == ["--seconds", "180", "--kills", "100"]
    assert PARTS["failpoints"].words(0.1, report)[3:] == ["--hits", "1", "--report", str(report)]


def test_the_index_quotes_headlines_and_can_be_written_again(tmp_path: Path) -> None:
    page = (PROOF / "README.md").read_text()
    (tmp_path / "chaos.md").write_text("# Faults\n\n**0 lost in 12 kills**: 34 answers.\n\n**Later**\n")
    once = indexed(page, tmp_path)
    [row] = [line for line in once.splitlines() if "(chaos.md)" in line]
    assert row.endswith("| **0 lost in 12 kills**: 34 answers. |")
    assert indexed(once, tmp_path) == once
    assert "(chaos.md)" not in indexed(once, tmp_path / "none")


def test_the_index_leaves_what_was_written_by_hand(tmp_path: Path) -> None:
    page = (PROOF / "README.md").read_text()
    by_hand = page.partition("<!-- reports")[0]
    assert indexed(page, tmp_path).startswith(by_hand)
    assert "R18" in by_hand


@pytest.mark.parametrize("obeys", [True, False], ids=["ends on SIGTERM", "ignores SIGTERM"])
def test_a_hung_part_is_stopped_at_its_deadline_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, obeys: bool
) -> None:
    ignoring = "" if obeys else "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    (tmp_path / "hung.py").write_text(f"import signal\n{ignoring}print('began', flush=True)\nsignal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("chaos.long.ROOT", tmp_path)
    lanes = [[Part("stuck", "Stuck", "hung", spare=0.03), Part("next", "Next", "hung", spare=0)]]
    assert not Running(stop_seconds=0.5).side_by_side(lanes, 0.0001, tmp_path)
    errors = capsys.readouterr().err.splitlines()
    assert [error.partition(": no end within ")[0] for error in errors] == ["chaos.long: stuck", "chaos.long: next"]
    assert errors[0].endswith(f"; stopped; see {tmp_path}/var/chaos/stuck.log")


def test_a_deadline_leaves_room_for_a_busy_machine() -> None:
    assert PARTS["failpoints"].deadline(30) == 105 * 60
    assert PARTS["overload"].deadline(0.1) > 15 * 60


@pytest.mark.parametrize(
    ("target", "last"),
    [
        (["chaos-long"], "-m chaos.long"),
        (["chaos-long", "PARTS=soak local"], "-m chaos.long soak local"),
        (["bench"], "-m bench all"),
        (["bench", "PARTS=growth limits"], "-m bench growth limits"),
    ],
    ids=str,
)
def test_make_runs_all_parts_or_the_chosen_ones(target: list[str], last: str) -> None:
    words, plain = ["make", "--dry-run", *target], {"PATH": os.environ["PATH"]}
    said = subprocess.run(words, cwd=ROOT, env=plain, capture_output=True, text=True, check=True).stdout
    assert said.rstrip().endswith(last)
