"""The rollout by the link of the model store: swaps while it serves, and rejections of versions that must not serve."""

import shutil
from pathlib import Path

import pytest

from shared.artifacts.bundle import MANIFEST, ONNX, Golden
from shared.artifacts.store import ModelStore
from tests.support.bundles import PacienteDePrueba, make_bundle, point_production, reseal
from tests.support.inference import ROW, running
from tests.support.waiting import until


async def test_a_promotion_swaps_the_model_and_a_rollback_swaps_it_back(tmp_path: Path) -> None:
    first = make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        before = (await service.inference.scorer.score(ROW)).probabilities
        make_bundle(tmp_path, PacienteDePrueba, version="2", seed=1)
        await until(lambda: service.shows("2"))
        assert (await service.inference.scorer.score(ROW)).probabilities != before
        point_production(first)
        await until(lambda: service.shows("1"))
        assert (await service.inference.scorer.score(ROW)).probabilities == before


async def test_the_state_has_the_serving_model_and_the_version_in_production(tmp_path: Path) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        state = await service.state()
        score = await service.inference.scorer.score(ROW)
    assert state["sirve"].pop("desde").endswith("Z")
    assert state == {
        "sirve": {"nombre": "prueba", "version": "1", "digest": score.model.digest, "plataforma": "onnx_onnxv1"},
        "produccion": "1",
        "rechazada": None,
        "registro": None,
    }


async def test_the_card_of_a_forced_version_begins_with_that(tmp_path: Path) -> None:
    page = b"<!doctype html><html><body><main><p>Ficha</p></main></body></html>"
    first = make_bundle(tmp_path, PacienteDePrueba, version="1", card=page)
    async with running(tmp_path) as service:
        assert await service.inference.cards.card() == page
        store = ModelStore(tmp_path, PacienteDePrueba.disease.name, PacienteDePrueba.digest)
        store.note_forced("2", "recall.enfermo, subgroups.edad.<18.accuracy")
        make_bundle(tmp_path, PacienteDePrueba, version="2", seed=1, card=page)
        await until(lambda: service.shows("2"))
        card = await service.inference.cards.card()
        assert card is not None
        assert b'<main>\n<p class="lead" role="note"><strong>Versi\xc3\xb3n forzada.</strong>' in card
        assert b"<code>recall.enfermo, subgroups.edad.&lt;18.accuracy</code>" in card
        assert card.endswith(b"<p>Ficha</p></main></body></html>")
        point_production(first)
        await until(lambda: service.shows("1"))
        assert await service.inference.cards.card() == page


async def test_the_state_without_a_model_has_the_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        state = await service.state()
    assert (state["sirve"], state["produccion"]) == (None, None)
    assert "train a model first" in state["rechazada"]["motivo"]


async def test_a_tampered_version_is_rejected_once_and_the_old_one_serves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    second = make_bundle(tmp_path, PacienteDePrueba, version="2", seed=1)
    point_production(second.parent / "1")
    async with running(tmp_path) as service:
        sound = (second / ONNX).read_bytes()
        (second / ONNX).write_bytes(sound + b"\0")
        point_production(second)
        await until(lambda: service.refused("2") == 1)
        state = await service.state()
        assert (state["sirve"]["version"], state["produccion"]) == ("1", "2")
        assert "SHA-256" in state["rechazada"]["motivo"]
        assert await service.version() == "1"
        assert service.inference.part.unready() == {}
        (second / ONNX).write_bytes(sound)
        await until(lambda: service.shows("2"))
        assert service.refused("2") is None
        assert (await service.state())["rechazada"] is None
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("model_refused") == 1


async def test_a_rejected_version_is_not_loaded_again_until_it_changes(tmp_path: Path) -> None:
    bad = make_bundle(tmp_path, PacienteDePrueba, version="2", golden_error=1e-3)
    first = make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        for _ in range(3):
            point_production(bad)
            await until(lambda: service.refused("2") == 1)
            point_production(first)
            await until(lambda: service.refused("2") is None)
        assert service.failures() == 1


async def test_a_version_sealed_as_another_model_never_serves(tmp_path: Path) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        second = make_bundle(tmp_path / "other", PacienteDePrueba, version="2", seed=1)
        shutil.copytree(second, tmp_path / "models/prueba/2")
        reseal(tmp_path / "models/prueba/2", name="otra")
        point_production(tmp_path / "models/prueba/2")
        await until(lambda: service.refused("2") == 1)
        assert "models/prueba/2: sealed as model otra, not prueba" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"


async def test_a_version_that_answers_otherwise_than_in_training_is_rejected(tmp_path: Path) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        make_bundle(tmp_path, PacienteDePrueba, version="2", golden_error=1e-3)
        await until(lambda: service.refused("2") == 1)
        assert "golden" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"


@pytest.mark.parametrize("rows", [[], [[1.0, 2.0], [3.0]]])
async def test_a_signed_manifest_with_unusable_golden_rows_is_rejected(tmp_path: Path, rows: list[list[float]]) -> None:
    second = make_bundle(tmp_path, PacienteDePrueba, version="2", seed=1)
    reseal(second, golden=Golden(rows=rows, probabilities=[]))
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        point_production(second)
        await until(lambda: service.refused("2") == 1)
        assert "golden" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"


async def test_an_incomplete_version_is_retried_until_it_is_complete(tmp_path: Path) -> None:
    second = make_bundle(tmp_path, PacienteDePrueba, version="2", seed=1)
    aside = second.rename(tmp_path / "aside")
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        point_production(second)
        await until(lambda: service.failures() > 2)
        assert await service.version() == "1"
        aside.rename(second)
        await until(lambda: service.shows("2"))


async def test_a_model_deleted_from_the_disk_keeps_serving(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        shutil.rmtree(folder)
        await until(lambda: service.refused("1") == 1)
        assert f"{folder / MANIFEST}: not there" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"


async def test_rewriting_the_same_bundle_is_no_swap(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        since = (await service.state())["sirve"]["desde"]
        content = (folder / MANIFEST).read_bytes()
        (folder / MANIFEST).unlink()
        await until(lambda: service.refused("1") == 1)
        (folder / MANIFEST).write_bytes(content)
        await until(lambda: service.refused("1") is None)
        assert (await service.state())["sirve"]["desde"] == since


async def test_a_damaged_public_key_is_reported_and_the_old_model_serves(tmp_path: Path) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    async with running(tmp_path) as service:
        (tmp_path / "keys/bundle.pub").write_text("no key")
        await until(lambda: service.refused("1") == 1)
        assert "not an Ed25519 public key" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"


async def test_a_public_key_that_was_away_is_read_again(tmp_path: Path) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="1")
    key, aside = tmp_path / "keys/bundle.pub", tmp_path / "aside"
    async with running(tmp_path) as service:
        key.rename(aside)
        await until(lambda: service.refused("1") == 1)
        assert f"{key}: not there" in (await service.state())["rechazada"]["motivo"]
        assert await service.version() == "1"
        aside.rename(key)
        await until(lambda: service.refused("1") is None)
