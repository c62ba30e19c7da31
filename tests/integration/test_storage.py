"""Data and models on S3: a server that speaks it, reached by the settings that docs/operations.md names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.data import dvc, dvc_project, thyroid_csv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "predecir"


@pytest.fixture(scope="module")
def storage() -> Iterator[Any]:
    """A client of an S3 server with one bucket; the server is what the environment names meanwhile."""
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
