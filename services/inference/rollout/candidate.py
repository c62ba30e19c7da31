"""Candidates: versions that may serve, with a fingerprint of their files that shows whether they have changed."""

import os
from dataclasses import dataclass
from pathlib import Path

from shared.artifacts.bundle import Bundle
from shared.files import file_version


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The public key and the files of a folder, by name and version: any change makes it another."""

    folder: Path
    files: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version in a folder. `bundle`, if it is set, holds the bytes that were checked."""

    fingerprint: Fingerprint
    bundle: Bundle | None = None

    @property
    def version(self) -> str:
        """The name of the version."""
        return self.fingerprint.folder.name


def fingerprint(folder: Path, public_key: Path) -> Fingerprint:
    """Take the fingerprint of the folder that `folder` leads to; without files if there is no such folder."""
    folder = Path(os.path.realpath(folder))  # resolved once: a promotion in between must not mix two versions
    try:
        paths = [public_key, *sorted(folder.iterdir())]
    except OSError:
        paths = []  # the error is raised when the bundle is opened
    return Fingerprint(folder, tuple((path.name, file_version(path)) for path in paths))
