"""Loading of a model: rejections with their reasons, and recovery without a restart."""

import os
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from services.inference.app import Inference, open_inference
from services.inference.serving.loading import UnusableModelError, load_model
from services.inference.serving.model import Probabilities, Rows
from services.inference.serving.onnx_model import OnnxModel
from services.inference.settings import InferenceSettings
from shared.artifacts.bundle import ONNX, Bundle, open_bundle
from shared.contracts.scoring import ModelUnavailableError
from shared.diseases.thyroid import DatosPaciente
from tests.support.bundles import PacienteDePrueba, make_bundle, random_rows, reseal
from tests.support.waiting import until

ROWS = random_rows(PacienteDePrueba, 50, seed=9)
ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def running(var: Path, registry: CollectorRegistry | None = None) -> AsyncIterator[Inference]:
    settings = InferenceSettings(PREDECIR_VAR=var, inference_poll_seconds=0.02)
    async with open_inference(settings, registry or CollectorRegistry(), PacienteDePrueba) as inference:
        yield inference


def opened(folder: Path) -> Bundle:
    return open_bundle(folder, folder.parents[2] / "keys/bundle.pub", patient_digest=PacienteDePrueba.digest)


@pytest.mark.parametrize("serves", ["onnx", "pickle"])
async def test_a_sound_bundle_serves_from_the_start(tmp_path: Path, serves: Literal["onnx", "pickle"]) -> None:
    make_bundle(tmp_path, PacienteDePrueba, version="3", serves=serves)
    registry = CollectorRegistry()
    async with running(tmp_path, registry) as inference:
        assert inference.part.unready() == {}
        assert inference.scorer.unavailable() is None
        score = await inference.scorer.score(ROWS[0])
    assert score.model.version == "3"
    assert sum(score.probabilities) == pytest.approx(1)
    labels = {"name": "prueba", "version": "3", "digest": score.model.digest}
    assert registry.get_sample_value("inference_model", labels) == 1
    assert registry.get_sample_value("inference_model_loaded") == 1


async def test_onnx_and_pickle_give_the_same_answers(tmp_path: Path) -> None:
    kinds: tuple[Literal["onnx", "pickle"], ...] = ("onnx", "pickle")
    answers = []
    for serves in kinds:
        make_bundle(tmp_path, PacienteDePrueba, version=serves, serves=serves)
        async with running(tmp_path) as inference:
            answers.append(np.array([(await inference.scorer.score(row)).probabilities for row in ROWS]))
    onnx, pickled = answers
    assert np.abs(onnx - pickled).max() < 1e-6
    assert np.ptp(onnx, axis=0).min() > 0.1  # they differ from row to row


async def test_without_a_model_it_is_unready_and_serves_as_soon_as_there_is_one(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    async with running(tmp_path, registry) as inference:
        reason = inference.part.unready()["modelo"].message
        assert "train a model first" in reason
        with pytest.raises(ModelUnavailableError, match="train a model first"):
            await inference.scorer.score(ROWS[0])
        assert registry.get_sample_value("inference_model_loaded") == 0
        make_bundle(tmp_path, PacienteDePrueba)
        await until(lambda: inference.scorer.unavailable() is None)
        assert inference.part.unready() == {}
        assert len((await inference.scorer.score(ROWS[0])).probabilities) == 2


async def test_a_tampered_model_never_serves(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba)
    model = folder / ONNX
    model.write_bytes(model.read_bytes() + b"\0")
    registry = CollectorRegistry()
    async with running(tmp_path, registry) as inference:
        await until(lambda: (registry.get_sample_value("inference_load_failures_total") or 0) >= 3)
        assert "SHA-256" in inference.part.unready()["modelo"].message


async def test_a_rejection_is_logged_once_and_not_at_every_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = CollectorRegistry()
    async with running(tmp_path, registry):
        await until(lambda: (registry.get_sample_value("inference_load_failures_total") or 0) >= 3)
    logged = capsys.readouterr()
    assert (logged.out + logged.err).count("model_refused") == 1


async def test_a_model_for_another_patient_class_never_serves(tmp_path: Path) -> None:
    class OtroPaciente(PacienteDePrueba):
        peso: float | None = None

    make_bundle(tmp_path, OtroPaciente)
    async with running(tmp_path) as inference:
        assert "PREDECIR_PACIENTE" in inference.part.unready()["modelo"].message


@pytest.mark.parametrize("serves", ["onnx", "pickle"])
def test_a_model_that_misses_its_golden_rows_is_rejected(tmp_path: Path, serves: Literal["onnx", "pickle"]) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba, serves=serves, golden_error=1e-4)
    with pytest.raises(UnusableModelError, match="golden"):
        load_model(opened(folder))


class SameScores:
    """Answers every row with the same numbers, one per class."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = numbers

    def predict_proba(self, rows: Rows) -> Probabilities:
        return np.tile(self._numbers, (len(rows), 1))


def scoring(folder: Path, *numbers: float) -> Bundle:
    """Return a bundle whose model answers `numbers`, as it did in training."""
    made = make_bundle(folder, PacienteDePrueba, serves="pickle", pickled=pickle.dumps(SameScores(*numbers)))
    golden = opened(made).manifest.golden
    answers = [list(numbers)] * len(golden.rows)
    reseal(made, golden=golden.model_copy(update={"probabilities": answers}))
    return opened(made)


@pytest.mark.parametrize("numbers", [(0.0, 0.0), (0.6, 0.6), (2.0, -1.0), (-0.001, 1.001), (94.0, 6.0)])
def test_a_model_whose_answers_are_no_probabilities_is_rejected(tmp_path: Path, numbers: tuple[float, float]) -> None:
    with pytest.raises(UnusableModelError, match="from 0 to 1 and sum to 1; refused"):
        load_model(scoring(tmp_path, *numbers))


@pytest.mark.parametrize("numbers", [(0.0, 1.0), (0.25, 0.75), (-1e-7, 1.0000001), (0.3333, 0.6666)])
def test_probabilities_may_be_rounded(tmp_path: Path, numbers: tuple[float, float]) -> None:
    assert load_model(scoring(tmp_path, *numbers)).model.facts.version == "1"


def test_signed_bytes_that_are_no_model_raise_one_sentence(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba, serves="pickle", pickled=b"no pickle")
    with pytest.raises(UnusableModelError, match="does not load"):
        load_model(opened(folder))


def test_a_pickled_model_computes_in_one_thread(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba, serves="pickle")
    program = (
        "import sys, pathlib, threadpoolctl\n"
        "from services.inference.serving.loading import load_model\n"
        "from shared.artifacts.bundle import open_bundle\n"
        "folder, key = map(pathlib.Path, sys.argv[1:3])\n"
        "load_model(open_bundle(folder, key, patient_digest=sys.argv[3]))\n"
        "print({each['num_threads'] for each in threadpoolctl.threadpool_info() if each['user_api'] == 'openmp'})\n"
    )
    arguments = (str(folder), str(tmp_path / "keys" / "bundle.pub"), PacienteDePrueba.digest)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(ROOT)
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout == "{1}\n"


def test_a_patient_gets_the_same_bits_in_every_batch(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, DatosPaciente)
    bundle = open_bundle(folder, tmp_path / "keys" / "bundle.pub", patient_digest=DatosPaciente.digest)
    model = OnnxModel(bundle.files[ONNX], bundle.facts)
    rows = np.array(random_rows(DatosPaciente, 500, seed=3), dtype=np.float32)
    together = model.probabilities(rows)
    for size in (1, 2, 3, 5, 7, 64):
        apart = [model.probabilities(rows[start : start + size]) for start in range(0, len(rows), size)]
        assert (np.concatenate(apart) == together).all()


def test_serving_onnx_leaves_scikit_learn_out_of_memory(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path, PacienteDePrueba)
    script = (
        "import sys; from pathlib import Path; from services.inference.serving.loading import load_model;"
        "from shared.artifacts.bundle import open_bundle;"
        f"load_model(open_bundle(Path({str(folder)!r}), Path({str(tmp_path)!r}) / 'keys/bundle.pub',"
        f" patient_digest={PacienteDePrueba.digest!r}));"
        "print([name for name in ('sklearn', 'scipy', 'pandas', 'skl2onnx', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
