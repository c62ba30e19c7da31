"""Bundles on disk, for serving: `<var>/models/<name>/<version>/`, and the links `staging` and `production` beside them.

A version appears complete or not at all, and a link changes in one rename: whoever follows it at any moment, and after
any crash, finds a whole bundle. Several processes may write the same model_store: one at a time does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.artifacts.bundle import (
    MANIFEST,
    BundleError,
    BundleMismatchError,
    BundleMissingError,
    BundleTamperedError,
    open_bundle,
    open_manifest,
)
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from shared.artifacts.bundle import Bundle, Manifest

_LOCK_SECONDS = 60
"""How long to wait for another process that writes; the largest bundle is on the disk long before."""
_LOCK_STEP = 0.05


class ModelStoreError(Exception):
    """The model_store cannot be written; one line that says what and why."""


class ModelStore:
    """The published versions of one model, under `var`, as serving finds them."""

    def __init__(self, var: Path, name: str, patient_digest: str) -> None:
        """Keep bundles of model `name` in `var`; only those for `patient_digest` count."""
        self.folder = var / "models" / name
        self._public_key = var / "keys" / "bundle.pub"
        self._patient_digest = patient_digest

    def opened(self, version: str) -> Bundle | None:
        """Open `version`, or None if it is not there or does not verify."""
        try:
            return self.check(self.folder / version, version)
        except BundleError:
            return None

    def key(self) -> bytes:
        """Give the public key that bundles must be signed under, as its file has it; empty if there is none."""
        try:
            return self._public_key.read_bytes()
        except OSError:
            return b""

    def refusal(self, bundle: Path, version: str) -> str | None:
        """Say why the folder `bundle` must not be published as `version`, or None if it may be."""
        try:
            self.check(bundle, version)
        except BundleMismatchError:
            return "was trained for another patient class or release"
        except BundleTamperedError:
            return f"is not signed by {self._public_key}"
        except BundleMissingError as error:
            if self.key():
                return f"is incomplete in the registry ({str(error).replace(f'{bundle}/', '')})"
            return f"cannot be verified ({error})"
        except BundleError as error:
            return f"cannot be verified ({error})"
        return None

    def check(self, bundle: Path, version: str) -> Bundle:
        """Open the folder `bundle`, to be published as `version`.

        Raises:
            BundleError: it must not be.

        """
        opened = open_bundle(bundle, self._public_key, patient_digest=self._patient_digest)
        _check_version(bundle, opened.manifest, version)
        return opened

    def check_manifest(self, bundle: Path, version: str) -> Manifest:
        """Open the manifest in the folder `bundle`, whatever else is there; raises what `check` raises."""
        manifest, _ = open_manifest(bundle, self._public_key, patient_digest=self._patient_digest)
        _check_version(bundle, manifest, version)
        return manifest

    def publish(self, bundle: Path, version: str) -> None:
        """Copy the folder `bundle` to its place as `version`, durably; what was there before is replaced.

        If that bundle is there already and verifies, it is left alone: somebody may be loading it.

        Raises:
            ModelStoreError: the disk does not let us.

        """
        partial, target = self.folder / f".{version}.partial", self.folder / version
        with self._writing(target):
            if _same(bundle, target) and self.opened(version) is not None:
                return
            _remove(partial)
            try:
                _copy(bundle, partial)
            except OSError:
                _remove(partial)  # it may be what fills the disk
                raise
            _remove(target)  # left by a crash, or by a registry that is gone; a version in use is never published again
            failpoint("store.publish")
            partial.rename(target)
            _sync(self.folder)

    def point(self, alias: str, version: str) -> None:
        """Make the link `alias` lead to `version`, in one rename.

        Raises:
            ModelStoreError: the disk does not let us.

        """
        link, fresh = self.folder / alias, self.folder / f".{alias}.fresh"
        with self._writing(link):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(version)
            failpoint("store.link")
            fresh.replace(link)
            _sync(self.folder)

    def prune(self, most: int) -> None:
        """Remove the oldest versions, so that `most` stay beside those that links lead to, and what a crash left.

        Raises:
            ModelStoreError: the disk does not let us.

        """
        with self._writing(self.folder):
            for partial in self.folder.glob(".*.partial"):
                _remove(partial)
            entries = [entry for entry in self.folder.iterdir() if not entry.name.startswith(".")]
            linked = {entry.readlink().name for entry in entries if entry.is_symlink()}
            loose = [entry for entry in entries if not entry.is_symlink() and entry.name not in linked]
            for version in sorted(loose, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)[most:]:
                _remove(version)

    @contextmanager
    def _writing(self, what: Path) -> Iterator[None]:
        """Write to the model store while nobody else does; trouble with the disk is told as trouble with `what`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".lock").open("w") as lock:
                _lock(lock)
                yield
        except OSError as error:
            message = f"{what}: cannot be written ({error.strerror})"
            raise ModelStoreError(message) from error


def _check_version(bundle: Path, manifest: Manifest, version: str) -> None:
    if manifest.version != version:
        message = f"{bundle}: sealed as version {manifest.version}, not {version}"
        raise BundleTamperedError(message)


def _same(one: Path, other: Path) -> bool:
    try:
        return (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()
    except OSError:
        return False


def _lock(file: IO[str]) -> None:
    """Wait for whoever holds `file`, but not for ever: a process that was stopped holds it too."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                message = f"another process has been writing there for {_LOCK_SECONDS} s"
                raise TimeoutError(errno.ETIMEDOUT, message) from None
            time.sleep(_LOCK_STEP)
        else:
            return


def _copy(bundle: Path, folder: Path) -> None:
    folder.mkdir()
    for source in sorted(bundle.iterdir()):
        _write(folder / source.name, source.read_bytes())
        failpoint("store.copy")
    _sync(folder)


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
