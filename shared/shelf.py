"""Bundles on disk, for serving: `<var>/models/<name>/<version>/`, and the links `staging` and `production` beside them.

A version appears complete or not at all, and a link changes in one rename: whoever follows it at any moment, and after
any crash, finds a whole bundle.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from shared.bundle import BundleError, BundleMismatchError, BundleMissingError, BundleTamperedError, open_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from shared.bundle import Bundle


class ShelfError(Exception):
    """The shelf cannot be written; one line that says what and why."""


class Shelf:
    """The published versions of one model, under `var`, as serving finds them."""

    def __init__(self, var: Path, name: str, patient_digest: str) -> None:
        """Keep bundles of model `name` in `var`; only those for `patient_digest` count."""
        self.folder = var / "models" / name
        self._public_key = var / "keys" / "bundle.pub"
        self._patient_digest = patient_digest

    def opened(self, version: str) -> Bundle | None:
        """Open `version`, or None if it is not there or does not verify."""
        try:
            return self._open(self.folder / version, version)
        except BundleError:
            return None

    def refusal(self, bundle: Path, version: str) -> str | None:
        """Say why the folder `bundle` must not be published as `version`, or None if it may be."""
        try:
            self._open(bundle, version)
        except BundleMismatchError:
            return "was trained for another patient class or release"
        except BundleTamperedError:
            return f"is not signed by {self._public_key}"
        except BundleMissingError:
            return "is incomplete in the registry"
        return None

    def _open(self, folder: Path, version: str) -> Bundle:
        bundle = open_bundle(folder, self._public_key, patient_digest=self._patient_digest)
        if bundle.manifest.version != version:
            message = f"{folder}: sealed as version {bundle.manifest.version}, not {version}"
            raise BundleTamperedError(message)
        return bundle

    def publish(self, bundle: Path, version: str) -> None:
        """Copy the folder `bundle` to its place as `version`, durably; what was there before is replaced.

        Raises:
            ShelfError: the disk does not let us.

        """
        partial, target = self.folder / f".{version}.partial", self.folder / version
        try:
            _remove(partial)
            partial.mkdir(parents=True)
            for source in sorted(bundle.iterdir()):
                _write(partial / source.name, source.read_bytes())
            _sync(partial)
            _remove(target)  # left by a crash, or by a registry that is gone; a version in use is never published again
            partial.rename(target)
            _sync(self.folder)
        except OSError as error:
            message = f"{target}: cannot be written ({error.strerror})"
            raise ShelfError(message) from error

    def point(self, alias: str, version: str) -> None:
        """Make the link `alias` lead to `version`, in one rename.

        Raises:
            ShelfError: the disk does not let us.

        """
        link, fresh = self.folder / alias, self.folder / f".{alias}.fresh"
        try:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(version)
            fresh.replace(link)
            _sync(self.folder)
        except OSError as error:
            message = f"{link}: cannot be written ({error.strerror})"
            raise ShelfError(message) from error


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
