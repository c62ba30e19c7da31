"""With what code and which libraries this process runs: part of every version, and of every look back."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

_LIBRARIES = ("numpy", "onnxruntime", "scikit-learn", "skl2onnx")


def library_versions() -> dict[str, str]:
    """Give the versions of Python and of the libraries that a model's answers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}


def code_commit() -> tuple[str, bool | None]:
    """Give the commit of this code, and whether files differ from it; "unknown" and None outside git.

    An image has no git, but may say in `GIT_COMMIT` from which commit it was built, with -dirty if files differed.
    """
    git, root = shutil.which("git"), Path(__file__).parents[2]
    if git is None:
        built = os.environ.get("GIT_COMMIT", "unknown")
        return built.removesuffix("-dirty"), None if built == "unknown" else built.endswith("-dirty")
    head = subprocess.run([git, "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S603
    status = subprocess.run([git, "-C", root, "status", "--porcelain"], capture_output=True, text=True, check=False)  # noqa: S603
    if head.returncode or status.returncode:
        return "unknown", None
    return head.stdout.strip(), bool(status.stdout.strip())
