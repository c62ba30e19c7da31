"""The shelf that models are published on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.shelf import Shelf
from training.stage import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_disk_that_does_not_let_us_is_one_line_and_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")

    def stage() -> str:
        Shelf(tmp_path, "prueba", "d" * 64).publish(tmp_path, "1")
        return "published"

    assert run("register", stage) == 69
    assert capsys.readouterr().err == f"register: {tmp_path}/models/prueba/1: cannot be written (Not a directory)\n"
