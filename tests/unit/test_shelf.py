"""The shelf that models are published on."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
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


def test_the_oldest_versions_are_let_go_and_those_that_links_lead_to_stay(tmp_path: Path) -> None:
    shelf, bundle = Shelf(tmp_path, "prueba", "d" * 64), tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    for number in range(1, 8):
        shelf.publish(bundle, str(number))
        os.utime(shelf.folder / str(number), (number, number))
    shelf.point("production", "1")
    shelf.point("staging", "7")
    shelf.prune(2)
    assert {path.name for path in shelf.folder.iterdir() if path.name[0] != "."} == {
        *("1", "5", "6", "7"),
        *("production", "staging"),
    }


def test_processes_that_publish_the_same_version_at_once_leave_one_whole(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_bytes(b"x" * 100_000)
    with ThreadPoolExecutor(4) as pool:
        shelves = [Shelf(tmp_path, "prueba", "d" * 64) for _ in range(12)]  # each locks as a process of its own does
        list(pool.map(lambda shelf: shelf.publish(bundle, "1"), shelves))
    assert (tmp_path / "models/prueba/1/manifest.json").read_bytes() == b"x" * 100_000
    assert not list((tmp_path / "models/prueba").glob("*.partial"))
