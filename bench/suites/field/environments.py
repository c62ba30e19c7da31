"""Environments of the other tools, one each in var/bench/NAME, from requirements pinned with hashes."""

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

REQUIREMENTS = Path(__file__).parent / "requirements"
OURS = "predecir"
"""The environment with this system's run-time requirements, without those of training and tests."""
_UV = str(Path(sys.executable).parent / "uv")


@dataclass(frozen=True, slots=True)
class Environment:
    """The virtual environment of one tool."""

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
        """Return the pinned version of `package`."""
        pinned = "".join(path.read_text() for path in self.requirements)
        match = re.search(rf"^{package}(?:\[[^]]*\])?==([^ ]+)", pinned, re.MULTILINE)
        if match is None:
            raise LookupError(f"bench/suites/field/requirements/{self.name}.txt: no {package}")
        return match.group(1)

    @property
    def mib(self) -> float:
        """Its size on disk in MiB, by allocated blocks."""
        files = (path.lstat() for path in self.folder.rglob("*"))
        return sum(each.st_blocks for each in files) * 512 / 2**20


def environment(name: str) -> Environment:
    """Return the environment `name`; create it unless it exists with the same requirements."""
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
