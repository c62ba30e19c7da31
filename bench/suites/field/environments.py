"""An environment of its own for each of the others, from requirements pinned with hashes: var/bench/NAME."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

REQUIREMENTS = Path(__file__).parent / "requirements"
OURS = "predecir"
"""The environment that has what this system needs at run time, and nothing that training or tests need."""
_UV = str(Path(sys.executable).parent / "uv")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where one of them is installed."""

    name: str
    folder: Path
    requirements: tuple[Path, ...]

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.commands / "python")

    @property
    def commands(self) -> Path:
        """The folder of its commands, python among them."""
        return self.folder / "bin"

    def version(self, package: str) -> str:
        """Say which version of `package` is pinned."""
        pinned = "".join(path.read_text() for path in self.requirements)
        found = re.search(rf"^{package}(?:\[[^]]*\])?==([^ ]+)", pinned, re.MULTILINE)
        if found is None:
            raise LookupError(f"bench/suites/field/requirements/{self.name}.txt: no {package}")
        return found.group(1)

    @property
    def mib(self) -> float:
        """What it takes of the disk, in MiB: blocks, not lengths."""
        files = (path.lstat() for path in self.folder.rglob("*"))
        return sum(each.st_blocks for each in files) * 512 / 2**20


def environment(name: str) -> Environment:
    """Make the environment `name`, or find it if it was made from the same requirements."""
    pinned = [REQUIREMENTS / f"{name}.txt"]
    if name == OURS:
        pinned = [ROOT / "requirements" / f"{service}.txt" for service in ("gateway", "inference", "recorder")]
    made = Environment(name, ROOT / "var" / "bench" / name, tuple(pinned))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in pinned)).hexdigest()
    stamp = made.folder / "made-from"
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"environment: installing {name} into {made.folder.relative_to(ROOT)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", made.folder], check=True)
        install = [_UV, "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "--python", made.python]
        subprocess.run([*install, *(f"--requirements={path}" for path in pinned)], check=True)
        stamp.write_text(digest)
    return made
