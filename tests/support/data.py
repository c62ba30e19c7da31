"""The thyroid data for tests: read from DVC's remote in the repository, also if they were not pulled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def thyroid_csv() -> Path:
    """Return the file that `data/raw.csv.dvc` names, in the remote."""
    [out] = yaml.safe_load((ROOT / "data/raw.csv.dvc").read_text())["outs"]
    digest = str(out["md5"])
    return ROOT / "data/remote/files/md5" / digest[:2] / digest[2:]


def dvc_project(folder: Path) -> Path:
    """Write DVC's files of a clone of this repository into `folder`, without the remote in the repository."""
    for name in (".dvc/config", "data/raw.csv.dvc", "dvc.yaml", "dvc.lock", "params.yaml", ".dvcignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    return folder


def dvc(folder: Path, *words: str, prefix: tuple[str, ...] = ()) -> None:
    """Run `dvc words…` in `folder`; `prefix` is a command that execs it."""
    quiet = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "site")}
    command = [*prefix, sys.executable, "-m", "dvc", *words, "--quiet"]
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | quiet, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
