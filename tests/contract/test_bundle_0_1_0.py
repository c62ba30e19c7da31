"""Compatibility: today's code opens, loads and serves a bundle that version 0.1.0 made."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from services.inference.app import alone
from services.inference.serving.loading import load_model
from services.inference.settings import InferenceSettings
from shared.artifacts.bundle import open_bundle
from shared.patient import Patient, load_patient
from shared.web.hosting import http_app
from tests.support.bundles import reseal

BUNDLE = Path(__file__).parent / "golden/bundle-0.1.0"
PUBLIC_KEY = BUNDLE / "bundle.pub"


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Patient]]:
    """The patient class as it was then, imported as an operator's PREDECIR_PACIENTE names it."""
    (tmp_path / "code").mkdir()
    shutil.copy(BUNDLE / "anemia.py.txt", tmp_path / "code/anemia.py")
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield load_patient("anemia:DatosPaciente")
    del sys.modules["anemia"]


def test_the_bundle_opens_under_its_key_for_its_class(patient: type[Patient]) -> None:
    bundle = open_bundle(BUNDLE, PUBLIC_KEY, patient_digest=patient.digest)
    assert bundle.digest == "a5c1de3778f7bb3ca9660a277761b0b79b102c91323c0e82240d1d9ca9e022d7"
    assert patient.digest == "c55f6a59765ff7b97c920349d5eacd75702c585d4c0a79297c297fc4d0b7e7e4"
    assert list(bundle.files) == ["model.pkl", "model.onnx", "card.html"]
    assert bundle.facts.plausible_at == 0.89577
    assert bundle.manifest.model_dump_json(indent=1).encode() == (BUNDLE / "manifest.json").read_bytes()
    assert bundle.manifest.reference is not None
    assert bundle.manifest.reference.cases == 299


@pytest.mark.parametrize("serves", ["onnx", "pickle"])
def test_both_forms_of_the_model_give_its_golden_rows(
    tmp_path: Path, patient: type[Patient], serves: Literal["onnx", "pickle"]
) -> None:
    folder, key = tmp_path / "models/anemia/1", PUBLIC_KEY
    shutil.copytree(BUNDLE, folder)
    if serves == "pickle":  # the model's bytes stay; only a key of ours can sign another choice
        reseal(folder, serves=serves)
        key = tmp_path / "keys/bundle.pub"
    bundle = open_bundle(folder, key, patient_digest=patient.digest)
    golden, model = bundle.manifest.golden, load_model(bundle).model
    assert model.platform == {"onnx": "onnx_onnxv1", "pickle": "sklearn_pickle"}[serves]
    answers = model.probabilities(np.array(golden.rows, dtype=np.float32))
    assert np.abs(answers - golden.probabilities).max() < 1e-5


async def test_a_running_service_serves_the_bundle(tmp_path: Path, patient: type[Patient]) -> None:
    golden = open_bundle(BUNDLE, PUBLIC_KEY, patient_digest=patient.digest).manifest.golden
    (tmp_path / "keys").mkdir()
    shutil.copy(PUBLIC_KEY, tmp_path / "keys")
    settings = InferenceSettings(
        PREDECIR_VAR=tmp_path, predecir_paciente="anemia:DatosPaciente", inference_bundle=BUNDLE
    )
    registry = CollectorRegistry()
    async with alone(settings, registry) as parts:
        transport = httpx.ASGITransport(app=http_app("inference", *parts, registry=registry))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            tensor = {"name": "paciente", "datatype": "FP32", "shape": [32, 6], "data": golden.rows}
            response = await client.post("/v2/models/anemia/infer", json={"inputs": [tensor]})
            assert (await client.get("/health/ready")).status_code == 200
            assert "anemia" in (await client.get("/v2/models/anemia/card")).text
    answers = np.array(response.json()["outputs"][0]["data"]).reshape(32, 3)
    assert np.abs(answers - golden.probabilities).max() < 1e-5
