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
_LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "skl2onnx")


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model's answers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def code_commit() -> tuple[str, bool | None]:
    """Return the commit of this code and whether files differ from it; "unknown" and None outside git.

    Files that the pipeline itself writes do not count: no model is made from them.
    An image has no git; its `GIT_COMMIT` may name the commit it was built from, with -dirty if files differed.
    """
    git, root = shutil.which("git"), Path(__file__).parents[2]
    if git is None:
        built = os.environ.get("GIT_COMMIT", "unknown")
        return built.removesuffix("-dirty"), None if built == "unknown" else built.endswith("-dirty")
    head = subprocess.run([git, "-C", root, "rev-parse", "HEAD", "--show-toplevel"], capture_output=True, check=False)  # noqa: S603
    written = [f":(top,exclude,glob)**/{name}" for name in _WRITTEN]
    status = subprocess.run(  # noqa: S603
        [git, "-C", root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", ":(top)", *written],
        capture_output=True,
        check=False,
    )
    if head.returncode or status.returncode:
        return "unknown", None
    commit, top = os.fsdecode(head.stdout).splitlines()
    changed = [Path(top, entry[3:]) for entry in os.fsdecode(status.stdout).split("\0") if entry]
    return commit, not all(generated(file) for file in changed)
