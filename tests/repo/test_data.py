"""The data are part of the repository: one `dvc pull` away, without a network."""

import hashlib
import re
import shutil
from pathlib import Path

from tests.support.data import ROOT, dvc, dvc_project


def test_a_pull_needs_nothing_but_the_repository(tmp_path: Path) -> None:
    folder = dvc_project(tmp_path)
    shutil.copytree(ROOT / "data/remote", folder / "data/remote")
    dvc(folder, "pull", prefix=("unshare", "--net", "--map-root-user"))
    [promised] = re.findall(r"SHA-256 of `raw.csv`: `(\w+)`", (ROOT / "data/README.md").read_text())
    assert hashlib.sha256((folder / "data/raw.csv").read_bytes()).hexdigest() == promised


def test_training_reads_no_key_of_a_request() -> None:
    """Who asked must not become a feature of a model, nor a figure of drift."""
    sources = {path: path.read_text() for path in (ROOT / "training").rglob("*.py")}
    assert len(sources) > 50
    assert [str(path) for path, text in sources.items() if re.search("clave_?id|key_id", text)] == []
