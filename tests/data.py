"""The thyroid data for tests: straight from DVC's remote in the repository, whether or not they were pulled."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def thyroid_csv() -> Path:
    """Give the file that `data/raw.csv.dvc` names, as the remote keeps it."""
    [out] = yaml.safe_load((ROOT / "data/raw.csv.dvc").read_text())["outs"]
    digest = str(out["md5"])
    return ROOT / "data/remote/files/md5" / digest[:2] / digest[2:]
