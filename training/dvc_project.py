"""The DVC project of the current folder: this repository's own, or one laid out for a disease that lives elsewhere."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from training.data.raw import RAW
from training.errors import DataError, ParametersError

if TYPE_CHECKING:
    from shared.patient import Patient

ROOT = Path(__file__).resolve().parents[1]
STAGES = Path("dvc.yaml")
POINTER = RAW.with_name(f"{RAW.name}.dvc")
"""Where DVC keeps which file the raw data are."""

_GENERATED = "# Written by training pipeline, and again at every run; without this line it is yours.\n"
_CONFIG = """\
[core]
    analytics = false
    check_update = false
    no_scm = true
[cache]
    dir = ../var/dvc/cache
    type = copy
"""
_GITIGNORE = "var/\npredicciones.db*\n.env\n__pycache__/\n"


def lay_out(patient: type[Patient], path: str) -> bool:
    """Write what DVC needs to run our stages here for `patient`, named by `path`; nothing that exists is touched.

    Returns whether this folder is new to the pipeline.
    """
    if _has_own_stages():
        return False
    new = not STAGES.exists()
    STAGES.write_text(_stages(patient, path), encoding="utf-8")
    if not Path(".dvc").exists():
        Path(".dvc").mkdir()
        Path(".dvc/config").write_text(_CONFIG, encoding="utf-8")
        Path(".dvc/.gitignore").write_text("/config.local\n/tmp\n", encoding="utf-8")
    for file, text in ((".dvcignore", (ROOT / ".dvcignore").read_text(encoding="utf-8")), (".gitignore", _GITIGNORE)):
        if not Path(file).exists():
            Path(file).write_text(text, encoding="utf-8")
    return new


def check_owner(path: str) -> None:
    """Refuse a folder whose own dvc.yaml is for a patient class other than the one named by `path`.

    Raises:
        ParametersError: it is, as that of this repository is for its own disease.

    """
    owner = _variables(yaml.safe_load(STAGES.read_text(encoding="utf-8"))).get("patient") if _has_own_stages() else None
    if owner not in {None, path}:
        message = (
            f"{STAGES} here is for PREDECIR_PACIENTE={owner}, not {path}; give each disease a folder of its own "
            "and name its parameters: PREDECIR_PARAMS=FOLDER/params.yaml"
        )
        raise ParametersError(message)


def check_data(*, anew: bool = False) -> bool:
    """Say whether the raw data must be pulled: they are not there, or the newest are wanted (`anew`) and DVC has them.

    Raises:
        DataError: there are none, and nothing says where they are; or they are not those that DVC knows, which it would
            take for a change that was meant.

    """
    known = POINTER.exists()
    if RAW.exists():
        if known and not anew:
            _check_unchanged()
        return anew and known
    if known:
        return True
    message = f"{RAW}: not there; put the data into {Path.cwd() / RAW}, one row per patient, with a header line"
    raise DataError(message)


def _check_unchanged() -> None:
    try:
        [out] = yaml.safe_load(POINTER.read_text(encoding="utf-8"))["outs"]
        digest = out["md5"]
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        message = f"{POINTER}: not as DVC writes it; bring it back from version control"
        raise DataError(message) from None
    if hashlib.md5(RAW.read_bytes(), usedforsecurity=False).hexdigest() != digest:
        dvc = os.path.relpath(Path(sys.executable).with_name("dvc"))
        message = (
            f"{RAW}: not the file of {POINTER}; `{dvc} add {RAW}` if it was meant to change, "
            f"`{dvc} pull --force {POINTER}` to get that file back"
        )
        raise DataError(message)


def generated(file: Path) -> bool:
    """Say whether `file` is a dvc.yaml that the pipeline writes anew at every run."""
    return file.name == STAGES.name and file.exists() and file.read_text(encoding="utf-8").startswith(_GENERATED)


def _has_own_stages() -> bool:
    return STAGES.exists() and not generated(STAGES)


def _variables(stages: object) -> dict[str, str]:
    """Read the `vars` of a dvc.yaml, a list of one-key mappings."""
    listed = stages.get("vars", []) if isinstance(stages, dict) else []
    return {str(key): str(value) for entry in listed if isinstance(entry, dict) for key, value in entry.items()}


def _stages(patient: type[Patient], path: str) -> str:
    """Give our dvc.yaml with its variables set for `patient`: the stages are the same for every disease."""
    text = (ROOT / STAGES).read_text(encoding="utf-8")
    values = {
        "code": os.path.relpath(ROOT),
        "patient": path,
        "patient_file": os.path.relpath(inspect.getfile(patient)),
    }
    for name, ours in _variables(yaml.safe_load(text)).items():
        quoted = json.dumps(values[name], ensure_ascii=False)  # a JSON string is a YAML string
        text = text.replace(f"  - {name}: {ours}\n", f"  - {name}: {quoted}\n")
    return _GENERATED + text[text.index("vars:") :]
