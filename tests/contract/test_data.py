"""The data come with the repository: one `dvc pull` away, without a network."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_pull_needs_nothing_but_the_repository(tmp_path: Path) -> None:
    for name in (".dvc/config", "data/raw.csv.dvc", "dvc.yaml", "dvc.lock", "params.yaml", ".dvcignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "data/remote", tmp_path / "data/remote")
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    quiet = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    offline = ["unshare", "--net", "--map-root-user", sys.executable, "-m", "dvc", "pull", "--quiet"]
    ended = subprocess.run(
        offline, cwd=tmp_path, env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    [promised] = re.findall(r"SHA-256 of `raw.csv`: `(\w+)`", (ROOT / "data/README.md").read_text())
    assert hashlib.sha256((tmp_path / "data/raw.csv").read_bytes()).hexdigest() == promised
