"""CycloneDX bills of materials of our images: Python packages, checked against the lock, and Debian's packages.

`python -m deploy.sbom FOLDER SERVICE=IMAGE…` reads each image with the local Docker engine, and writes
FOLDER/SERVICE.cdx.json (CycloneDX 1.6).
"""

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LOCKS: Mapping[str, Sequence[str]] = {
    "gateway": ("gateway",),
    "inference": ("inference",),
    "recorder": ("recorder",),
    "local": ("gateway", "inference", "recorder"),
    "training": ("run",),
    "mlflow": ("mlflow",),
}
"""The locked requirements that the Dockerfile installs into each image."""

_REQUIREMENTS = Path(__file__).parents[1] / "requirements"
_LOOK = """
import json, platform, subprocess
from importlib.metadata import distributions
from pathlib import Path
release = platform.freedesktop_os_release()
columns = "${Package}\\t${Version}\\t${Architecture}\\n"
debian = subprocess.run(["dpkg-query", "-W", "-f", columns], capture_output=True, text=True, check=True).stdout
installed = distributions(path=[str(p) for p in Path("/opt/venv/lib").glob("python3*/site-packages")])
print(json.dumps({
    "python": platform.python_version(),
    "distribution": release["ID"] + "-" + release.get("VERSION_ID", ""),
    "packages": sorted([each.metadata["Name"], each.version] for each in installed),
    "debian": [line.split("\\t") for line in debian.splitlines()],
}))
"""
"""Runs in the image: prints what is installed, as JSON."""


class NotLockedError(Exception):
    """An image has a package that its lock does not have in that version."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What is installed in an image: names with versions, and for Debian's packages the architecture."""

    python: str
    distribution: str
    packages: Sequence[tuple[str, str]]
    debian: Sequence[tuple[str, str, str]]


def read_lock(text: str) -> set[tuple[str, str]]:
    """Return the normalised name and the version of each package of a file of locked requirements.

    A package may have several versions, for several Pythons.
    """
    return {(_normal(name), version) for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE)}


def bill(service: str, image: str, contents: Contents, locked: Collection[tuple[str, str]]) -> str:
    """Return the bill of materials of `image` as CycloneDX JSON.

    Raises:
        NotLockedError: a Python package is not in `locked`, or in another version.

    """
    strange = [f"{name} {version}" for name, version in contents.packages if (_normal(name), version) not in locked]
    if strange:
        raise NotLockedError(f"{service}: not of its locked requirements: {', '.join(strange)}")
    bom = Bom()
    root = Component(name=f"predecir-{service}", type=ComponentType.CONTAINER, version=image, bom_ref=service)
    components = list(_components(contents))
    bom.metadata.component = root
    bom.components.update(components)
    bom.register_dependency(root, components)
    output: str = JsonV1Dot6(bom).output_as_string(indent=1)
    return output


def _components(contents: Contents) -> Iterable[Component]:
    python = PackageURL("generic", name="python", version=contents.python)
    yield _component(python, ComponentType.PLATFORM)
    for name, version in contents.packages:
        yield _component(PackageURL("pypi", name=_normal(name), version=version), ComponentType.LIBRARY)
    for name, version, architecture in contents.debian:
        qualifiers = {"arch": architecture, "distro": contents.distribution}
        purl = PackageURL("deb", contents.distribution.split("-")[0], name, version, qualifiers)
        yield _component(purl, ComponentType.LIBRARY)


def _component(purl: PackageURL, kind: ComponentType) -> Component:
    return Component(name=purl.name, version=purl.version, type=kind, purl=purl, bom_ref=str(purl))


def _normal(name: str) -> str:
    """Return the normalised name of a Python package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def look(image: str) -> Contents:
    """Return what is installed in `image`.

    Raises:
        subprocess.CalledProcessError: the engine cannot run it.

    """
    command = ["docker", "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", _LOOK]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True)  # noqa: S603 - an image that the caller built
    seen: dict[str, Any] = json.loads(ended.stdout)
    packages = [(name, version) for name, version in seen["packages"]]
    debian = [(name, version, architecture) for name, version, architecture in seen["debian"]]
    return Contents(seen["python"], seen["distribution"], packages, debian)


def main(folder: str, images: Sequence[str]) -> int:
    """Write the bill of each `SERVICE=IMAGE` into `folder`; return the exit code."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for service, _, image in (each.partition("=") for each in images):
        locked: set[tuple[str, str]] = set()
        for name in LOCKS[service]:
            locked |= read_lock((_REQUIREMENTS / f"{name}.txt").read_text())
        contents = look(image)
        try:
            written = bill(service, image, contents, locked)
        except NotLockedError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        path = Path(folder) / f"{service}.cdx.json"
        path.write_text(written + "\n")
        sys.stdout.write(f"{path}: {len(contents.packages)} Python packages, {len(contents.debian)} of Debian\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
