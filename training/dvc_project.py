"""DVC project of the current folder: this repository's own, or one written for a disease in its own folder."""

import inspect
import json
import os
from pathlib import Path

from shared.patient import Patient
from training.config import read_yaml
from training.data.pointer import POINTER, check_raw_data
from training.data.raw import RAW
from training.errors import DataError, ParametersError

ROOT = Path(__file__).resolve().parents[1]
STAGES = Path("dvc.yaml")

_MARK = "# Written by training"
"""Start of every dvc.yaml that the pipeline has written, whatever its release."""
_GENERATED = f"{_MARK} pipeline, and again at every run; without this line it is yours.\n"
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


def write_project(patient: type[Patient], path: str) -> bool:
    """Write the files that DVC needs to run the stages here for `patient`, which is imported by `path`.

    Files of the folder's owner stay as they are. Returns whether the pipeline runs here for the first time.
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
    """Check that the folder's own dvc.yaml, if it has one, is for the patient class with import path `path`.

    Raises:
        ParametersError: it is for another class, as this repository's own is for thyroid disease, or not YAML.

    """
    owner = _variables(read_yaml(STAGES)).get("patient") if _has_own_stages() else None
    if owner not in {None, path}:
        message = (
            f"{STAGES} here is for PREDECIR_PACIENTE={owner}, not {path}; give each disease a folder of its own "
            "and name its parameters: PREDECIR_PARAMS=FOLDER/params.yaml"
        )
        raise ParametersError(message)


def needs_pull(*, newest: bool = False) -> bool:
    """Return whether DVC must pull the raw data: they are missing, or `newest` is set and DVC tracks them.

    Raises:
        DataError: they are missing and DVC does not track them, or they differ from the file that DVC tracks: DVC would
            take that for an intended change.

    """
    tracked = POINTER.exists()
    if RAW.exists():
        if tracked and not newest:
            check_raw_data()
        return newest and tracked
    if tracked:
        return True
    message = f"{RAW}: not there; put the data into {Path.cwd() / RAW}, one row per patient, with a header line"
    raise DataError(message)


def generated(file: Path) -> bool:
    """Return whether `file` is a dvc.yaml that the pipeline overwrites at every run."""
    return file.name == STAGES.name and file.exists() and file.read_text(encoding="utf-8").startswith(_MARK)


def _has_own_stages() -> bool:
    return STAGES.exists() and not generated(STAGES)


def _variables(stages: object) -> dict[str, str]:
    """Return the `vars` of a dvc.yaml, a list of one-key mappings."""
    entries = stages.get("vars", []) if isinstance(stages, dict) else []
    return {str(key): str(value) for entry in entries if isinstance(entry, dict) for key, value in entry.items()}


def _stages(patient: type[Patient], path: str) -> str:
    """Return this repository's dvc.yaml with its variables set for `patient`; all diseases have the same stages."""
    text = (ROOT / STAGES).read_text(encoding="utf-8")
    values = {
        "code": os.path.relpath(ROOT),
        "patient": path,
        "patient_file": os.path.relpath(inspect.getfile(patient)),
    }
    for name, default in _variables(read_yaml(ROOT / STAGES)).items():
        quoted = json.dumps(values[name], ensure_ascii=False)  # a JSON string is a YAML string
        text = text.replace(f"  - {name}: {default}\n", f"  - {name}: {quoted}\n")
    return _GENERATED + text[text.index("vars:") :]
