"""Reproduction of an answer with the version that gave it, and training that repeats the same bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.builds import MadeUpPatient, Workspace, good_build, write_pipeline_files
from tests.support.training_cases import made_up_cases
from training.commands.reproduce import describe_origin, open_version
from training.errors import RegistryError
from training.monitoring.predictions_db import Prediction
from training.stage_files import CASES, MODEL, ONNX, PLOTS, Metrics, Proof, Training

ROOT = Path(__file__).parents[2]


def answered_by(version: str, digest: str) -> Prediction:
    return Prediction(
        "id", "now", "{}", "sano", "{}", "inventada", version, digest, MadeUpPatient.digest, "g", "h", None, None
    )


def test_a_version_is_opened_from_the_store_or_else_the_registry(workspace: Workspace) -> None:
    workspace.register(good_build())
    bundle = workspace.model_store.opened("1")
    assert bundle is not None
    prediction = answered_by("1", bundle.digest)
    assert open_version(prediction, workspace.context) == bundle
    model = workspace.model_store.folder / "1/model.onnx"
    model.write_bytes(b"tampered")
    assert open_version(prediction, workspace.context) == bundle
    shutil.rmtree(workspace.model_store.folder)
    assert open_version(prediction, workspace.context) == bundle
    assert not workspace.model_store.folder.exists(), "looking back publishes nothing"
    with pytest.raises(RegistryError, match="version 1 here is not the one that answered: its digest is"):
        open_version(answered_by("1", "f" * 64), workspace.context)
    with pytest.raises(
        RegistryError, match="version 9 is not in var/models/inventada, and cannot be read from the model reg"
    ):
        open_version(answered_by("9", bundle.digest), workspace.context)
    shutil.rmtree(workspace.var / "keys")
    with pytest.raises(RegistryError, match="and the one in the registry cannot be verified"):
        open_version(prediction, workspace.context)


def test_the_origin_is_described_in_short_lines(workspace: Workspace) -> None:
    workspace.register(good_build())
    bundle = workspace.model_store.opened("1")
    assert bundle is not None
    lines = describe_origin(answered_by("1", bundle.digest), bundle.manifest)
    assert max(map(len, lines)) < 250
    text = " ".join(line.strip() for line in lines)
    assert [name for name, value in bundle.manifest.parameters.items() if f"{name}={value}" not in text] == []


def made_by(**environment: str) -> dict[str, str]:
    """Run the stages `train` and `evaluate` in a new process; return the digest of each file that they write."""
    both = "import sys; from training.__main__ import main; sys.exit(main(['train']) or main(['evaluate']))"
    subprocess.run(
        [sys.executable, "-c", both],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        check=True,
        timeout=120,
    )
    files = [file for file in CASES.parent.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_any_processor_makes_the_same_files_to_the_last_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pipeline_files(good_build(), made_up_cases())
    first = made_by(PYTHONHASHSEED="1", OMP_NUM_THREADS="1")
    assert {
        str(file) for file in (MODEL, Training.path, ONNX, Metrics.path, Proof.path, PLOTS / "roc.png")
    } <= first.keys()
    beyond_baseline = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    assert made_by(PYTHONHASHSEED="2", OMP_NUM_THREADS="2") == first
    assert made_by(NPY_DISABLE_CPU_FEATURES=" ".join(beyond_baseline)) == first
    assert made_by(GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX2,-FMA", OPENBLAS_CORETYPE="Nehalem") == first
