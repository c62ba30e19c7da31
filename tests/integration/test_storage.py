"""Data and models on an S3 server, with the settings in docs/operations/running.md."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support.anemia import environment, lay_down
from tests.support.data import dvc, dvc_project, thyroid_csv
from tests.support.model_registry import model_registry
from tests.support.paths import ROOT

BUCKET = "predecir"


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """A client of an S3 server with one bucket; the environment names that server meanwhile."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "predecir")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "of-no-worth")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()
    server.stop()


def keys(storage: Any, folder: str) -> list[str]:  # noqa: ANN401 - boto3 has no types
    found = storage.list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/")
    return [entry["Key"] for entry in found.get("Contents", [])]


def test_data_that_one_site_pushes_are_pulled_into_a_fresh_clone(storage: Any, tmp_path: Path) -> None:  # noqa: ANN401
    here, there = dvc_project(tmp_path / "here"), dvc_project(tmp_path / "there")
    for folder in (here, there):
        dvc(folder, "remote", "add", "--local", "--default", "site", f"s3://{BUCKET}/data")
    committed = (here / ".dvc/config").read_bytes()
    (here / "data/raw.csv").write_bytes(thyroid_csv().read_bytes())
    dvc(here, "commit", "data/raw.csv.dvc")
    dvc(here, "push")
    assert len(keys(storage, "data")) == 1
    dvc(there, "pull")
    assert (there / "data/raw.csv").read_bytes() == thyroid_csv().read_bytes()
    assert (there / ".dvc/config").read_bytes() == committed


def test_a_damaged_object_in_s3_is_not_trained_on(storage: Any, tmp_path: Path) -> None:  # noqa: ANN401
    folder = dvc_project(tmp_path)
    dvc(folder, "remote", "add", "--local", "--default", "site", f"s3://{BUCKET}/damaged")
    content = thyroid_csv().read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    key = f"damaged/files/md5/{digest[:2]}/{digest[2:]}"
    storage.put_object(Bucket=BUCKET, Key=key, Body=content[: len(content) // 2])
    command = [sys.executable, "-m", "training", "pipeline"]
    given = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=180)
    assert ended.returncode == 65, ended.stdout + ended.stderr
    assert f"delete s3://{BUCKET}/{key}, then `dvc push`" in ended.stderr
    assert not (folder / "data/raw.csv").exists()


def run(name: str, folder: Path, registry: str) -> subprocess.CompletedProcess[str]:
    """Run a training command with the registry's address, and without any setting of its storage."""
    unknown = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    given = unknown | environment(folder) | {"MLFLOW_TRACKING_URI": registry}
    command = [sys.executable, "-m", "training", name]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=180)


def train(folder: Path, registry: str) -> str:
    ended = run("pipeline", folder, registry)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_bundle_goes_through_the_registry_to_s3_and_comes_back(storage: Any, tmp_path: Path) -> None:  # noqa: ANN401
    folder = lay_down(tmp_path / "anemia")
    production = folder / "var/models/anemia/production/manifest.json"
    with model_registry(tmp_path, artifacts=f"s3://{BUCKET}/models") as registry:
        assert "version 1, " in train(folder, registry.url)
        kept = {key.rpartition("/")[2] for key in keys(storage, "models") if "/bundle/" in key}
        assert {"manifest.json", "manifest.sig", "model.onnx", "model.pkl"} <= kept
        manifest = production.read_bytes()
        shutil.rmtree(folder / "var/models")
        assert "version 1 again" in train(folder, registry.url)
        assert production.read_bytes() == manifest
        shutil.rmtree(folder / "var/models")
        assert run("trigger", folder, registry.url).returncode == 69, "nothing was ever recorded here"
    assert production.read_bytes() == manifest
    assert not (folder / "var/mlartifacts").exists()
