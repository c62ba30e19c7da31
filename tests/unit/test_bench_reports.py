"""The reports of the benchmarks: reproducible plots, and a complete index."""

import importlib.util
import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.lib.plots import bars, draw, lines, stacked
from bench.lib.reports import FOLDER, PARTS, index


def test_a_plot_has_labels_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    panels = (
        lines("Growth", "rows", "rows/s", {"SQLite": [(1e4, 3e4), (1e6, 2e4)]}, log="x"),
        bars("Rate", "requests/s", {"ceiling": 8371, "local": 6368.2}),
        stacked("Time", "µs", {"alone": {"HTTP": 40, "fsync": 200}, "together": {"HTTP": 30}}),
    )
    for name in ("first.svg", "second.svg"):
        draw(tmp_path / name, *panels)
    picture = (tmp_path / "first.svg").read_bytes()
    assert picture == (tmp_path / "second.svg").read_bytes()
    for word in ("Growth", "rows/s", "SQLite", "requests/s", "6,368", "µs", "fsync"):
        assert f">{word}<" in picture.decode()


def test_the_index_lists_every_part_measured_or_not(tmp_path: Path) -> None:
    first, second = PARTS[:2]
    (tmp_path / f"{first.name}.json").write_text(json.dumps({"headline": "Faster than before."}))
    (tmp_path / f"{first.name}.svg").write_text("<svg/>")
    page = index(tmp_path)
    assert f"## [{first.title}]({first.name}.md)\n\nFaster than before.\n\n![{first.title}]({first.name}.svg)\n" in page
    assert f"## {second.title}\n\nNot measured yet.\n" in page


def test_every_part_is_a_program_and_the_committed_index_names_it() -> None:
    page = (FOLDER / "README.md").read_text()
    for part in PARTS:
        assert importlib.util.find_spec(f"bench.suites.{part.name}") is not None
        assert part.title in page


def test_without_a_part_they_are_listed_and_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {part.name:8} {part.title}\n" in said for part in PARTS)


def test_a_part_that_does_not_exist_is_named_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["local", "lokal"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("bench: there is no part lokal; choose among: all local ")
    assert said.out == ""
