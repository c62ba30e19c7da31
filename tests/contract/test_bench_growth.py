"""The growth benchmark on sizes that take seconds: it measures what its page and pictures show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.growth import batch, database, features, replicas
from bench.plots import draw

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_database_is_filled_and_asked(tmp_path: Path) -> None:
    found = await database.growing("SQLite", f"sqlite:///{tmp_path}/p.db", [6_000, 11_500])
    assert [each["rows"] for each in found] == [6_000, 11_500]
    assert all(each["inserts_rate"] > 0 and min(each["p50_ms"].values()) > 0 for each in found)
    shown = found + [each | {"database": "PostgreSQL"} for each in found]
    page = "\n".join(database.page(shown))
    assert "| PostgreSQL, 11,500 |" in page
    assert "11,500 rows" in database.headline(shown) or "with 11,500" in database.headline(shown)
    draw(tmp_path / "rows.svg", *database.panels(shown))
    assert ">PostgreSQL<" in (tmp_path / "rows.svg").read_text()


def test_the_page_of_replicas_has_what_each_part_costs(tmp_path: Path) -> None:
    run = {"rate": 4000.0, "p50_ms": 5.25, "p99_ms": 20.0, "rows_per_call": 12.34}
    found = [run | {"replicas": count, "cpu_us": {"gateway": 170.0, "balancer": 20.0 + count}} for count in (1, 4)]
    assert "| 4 | 4,000 | 5.25 | 20.00 | 12.3 | 170 | 24 |" in replicas.page(found)
    draw(tmp_path / "replicas.svg", *replicas.panels(found))
    assert ">balancer<" in (tmp_path / "replicas.svg").read_text()


def test_the_page_of_features_and_of_batches_has_their_figures(tmp_path: Path) -> None:
    run = {"rate": 4000.0, "p50_ms": 5.25, "p99_ms": 20.0, "cpu_us": 175.0}
    sized = [{"features": size, "local": run, "ceiling": run | {"rate": 8000.0}} for size in (1, 64)]
    batched = [{"rows": size, "onnx_us": 12.0 * size, "pickle_us": 1700.0} for size in (1, 1000)]
    assert "| 64 | 4,000 | 5.25 | 20.00 | 175 | 8,000 | 175 |" in features.page(sized)
    assert "| 1,000 | 12,000.0 | 12.0 | 1,700.0 | 1.7 |" in batch.page(batched)
    draw(tmp_path / "both.svg", *features.panels(sized), *batch.panels(batched))
    assert ">pickle<" in (tmp_path / "both.svg").read_text()
