"""The growth benchmark on sizes that take seconds: it measures what its page and pictures show."""

from pathlib import Path

from bench.lib.plots import draw
from bench.suites.growth import backlog, batch, database, features, replicas
from services.gateway.outbox.outbox import Outbox
from shared.contracts.events import read_event
from tests.support.machine import fsyncs


async def test_a_database_is_filled_and_queried(tmp_path: Path) -> None:
    found = await database.growing("SQLite", f"sqlite:///{tmp_path}/p.db", [6_000])
    assert [each["rows"] for each in found] == [6_000]
    assert found[0]["inserts_rate"] > 0
    assert min(found[0]["p50_ms"].values()) > 0
    shown = found + [each | {"database": "PostgreSQL"} for each in found]
    page = "\n".join(database.page(shown))
    assert "| PostgreSQL, 6,000 |" in page
    assert "with 6,000" in database.headline(shown)
    draw(tmp_path / "rows.svg", *database.panels(shown))
    assert ">PostgreSQL<" in (tmp_path / "rows.svg").read_text()


async def test_a_filled_outbox_is_one_that_a_gateway_takes_over(tmp_path: Path) -> None:
    backlog.fill(tmp_path / "outbox.db", 50)
    outbox = await Outbox.open(tmp_path / "outbox.db", keep_answers=60)
    segments = await outbox.segments(1000)
    assert (outbox.pending, outbox.state.answered) == (50, 50)
    deliveries = [delivery for segment in segments for delivery in segment]
    assert [delivery.seq for delivery in deliveries] == list(range(1, 51))
    assert len({read_event(delivery.body).id for delivery in deliveries}) == 50
    await outbox.close()


def test_every_fsync_beside_a_run_is_timed(tmp_path: Path) -> None:
    with fsyncs(tmp_path) as waited:
        pass
    assert min(waited) > 0
    assert (tmp_path / "fsyncs").stat().st_size == 4096 * len(waited)


def test_the_page_of_a_backlog_has_its_rates(tmp_path: Path) -> None:
    run = {"rate": 4000.0, "p50_ms": 5.25, "p99_ms": 20.0, "cpu_us": 175.0, "ready_seconds": 0.84}
    found = [run | {"backlog": size, "file_mb": size / 1000, "drain_rate": 900.0} for size in (0, 1_000_000)]
    assert "| 1,000,000 | 4,000 | 5.25 | 20.00 | 175 | 0.8 | 1,000 | 900 |" in backlog.page(found)
    draw(tmp_path / "backlog.svg", *backlog.panels(found))
    assert ">drained<" in (tmp_path / "backlog.svg").read_text()


def test_the_page_of_replicas_has_what_each_part_costs(tmp_path: Path) -> None:
    run = {
        "rate": 4000.0,
        "p50_ms": 5.25,
        "p99_ms": 20.0,
        "rows_per_call": 12.34,
        "others_cores": 0.5,
        "fsync_ms": 6.54,
    }
    found = [run | {"replicas": count, "cpu_us": {"gateway": 170.0, "balancer": 20.0 + count}} for count in (1, 4)]
    assert "| 4 | 4,000 | 5.25 | 20.00 | 12.3 | 0.50 | 6.5 | 170 | 24 |" in replicas.page(found)
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
