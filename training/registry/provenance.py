"""Provenance of this process: its commit and its libraries, for the manifest of a version and for `reproduce`."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from training.dvc_project import generated

_WRITTEN = ("dvc.lock", ".dvc/**", ".dvcignore", ".gitignore")
"""Files that DVC and the pipeline write, in this folder or in that of another disease. No model is made from them."""
_UNKNOWN = "unknown"
_LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "skl2onnx")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model's answers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def code_commit() -> tuple[str, bool | None]:
    """Return the commit of this code and whether files differ from it; "unknown" and None if git does not track it.

    Files that the pipeline itself writes do not count: no model is made from them.
    An image and a source archive have no repository; `GIT_COMMIT` may name the commit that they were built from, with
    -dirty if files differed.
    """
    git, here = shutil.which("git"), Path(__file__).resolve()
    if git is None or not _is_tracked(git, here):
        built = os.environ.get("GIT_COMMIT", _UNKNOWN)
        return built.removesuffix("-dirty"), None if built == _UNKNOWN else built.endswith("-dirty")
    root = here.parents[2]
    head = subprocess.run([git, "-C", root, "rev-parse", "HEAD", "--show-toplevel"], capture_output=True, check=False)  # noqa: S603
    written = [f":(top,exclude,glob)**/{name}" for name in _WRITTEN]
    status = subprocess.run(  # noqa: S603
        [git, "-C", root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", ":(top)", *written],
        capture_output=True,
        check=False,
    )
    if head.returncode or status.returncode:
        return _UNKNOWN, None
    commit, top = os.fsdecode(head.stdout).splitlines()
    changed = [Path(top, entry[3:]) for entry in os.fsdecode(status.stdout).split("\0") if entry]
    return commit, not all(generated(file) for file in changed)


def _is_tracked(git: str, file: Path) -> bool:
    """Return whether a repository tracks `file`; an archive may be unpacked inside of another repository."""
    command = [git, "-C", str(file.parent), "ls-files", "--error-unmatch", file.name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
