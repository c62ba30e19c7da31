"""The model store: bundles in `<var>/models/<name>/<version>/`, and the links `staging` and `production` beside them.

A version appears complete or not at all, and is never replaced by another. A link changes in one rename. A reader that
follows a link at any moment, also after a crash, finds a whole bundle. Several processes may write the same store; a
lock lets one write at a time.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from shared.artifacts.bundle import (
    LARGEST_MANIFEST,
    LARGEST_SIGNATURE,
    MANIFEST,
    SIGNATURE,
    Bundle,
    SealedManifest,
    check_manifest,
    open_bundle,
)
from shared.artifacts.errors import (
    BundleError,
    BundleMismatchError,
    BundleMisnamedError,
    BundleMissingError,
    BundleTamperedError,
)
from shared.artifacts.signing import LARGEST_KEY, signature_holds
from shared.failpoints import failpoint
from shared.files import locked, read_regular, replace_file, sync_folder, write_synced

_NOTE = ".forced"
"""End of the name of a version's note on its promotion."""
_LARGEST_NOTE = 64 * 1024
LOCK_SECONDS = 60
"""How long to wait for another process that writes; the largest bundle is written long before."""

FORCED_TAG = "forced_past"
"""Tag of a version in the registry: the gates that it missed when it was forced into production."""
_TAKEN = (
    "another version {version} is there, which recorded answers may name, so it is not overwritten; register this "
    "model under another number, or move {folder} to a place where it is kept"
)


class _Origin(BaseModel):
    version: str | None = None
    run_id: str | None = None


class ModelStoreError(Exception):
    """The model store cannot be written; one line with the path and the reason."""


class VersionTakenError(ModelStoreError):
    """The model store holds another bundle under this version number, which recorded answers may name."""


class ModelStore:
    """The published versions of one model, under `var`, as inference finds them."""

    def __init__(self, var: Path, name: str, patient_digest: str, *, lock_seconds: float = LOCK_SECONDS) -> None:
        """Keep bundles of model `name` in `var`. Only bundles for `patient_digest` are opened."""
        self._name, self.folder = name, var / "models" / name
        self.public_key = var / "keys" / "bundle.pub"
        self._patient_digest, self._lock_seconds = patient_digest, lock_seconds

    def opened(self, version: str) -> Bundle | None:
        """Open `version`; None if it is missing or must not serve."""
        try:
            return self.check(self.folder / version, version)
        except BundleError:
            return None

    def key(self) -> bytes:
        """Return the content of the public key's file, or nothing if it cannot be read."""
        try:
            return read_regular(self.public_key, LARGEST_KEY)
        except OSError:
            return b""

    def rejection(self, error: BundleError, folder: Path) -> str:
        """Return why the bundle in `folder`, fetched from the registry, cannot be published: `error` as a predicate."""
        if isinstance(error, BundleMismatchError):
            return "was trained for another patient class or release"
        if isinstance(error, BundleMisnamedError):
            return f"is {str(error).removeprefix(f'{folder}: ')}"
        if isinstance(error, BundleTamperedError):
            return f"is not signed by {self.public_key}"
        if isinstance(error, BundleMissingError) and self.key():
            return f"is incomplete in the registry ({str(error).replace(f'{folder}/', '')})"
        return f"cannot be verified ({error})"

    def check(self, folder: Path, version: str) -> Bundle:
        """Read and check the bundle in `folder`, which must be sealed as `version` of this model.

        Raises:
            BundleError: it must not be published or serve.

        """
        bundle = open_bundle(folder, self.public_key, patient_digest=self._patient_digest, name=self._name)
        _check_version(bundle, version)
        return bundle

    def check_manifest(self, content: bytes, signature: bytes, version: str, *, origin: str) -> SealedManifest:
        """Check the bytes of a manifest that comes from `origin`, which must be sealed as `version` of it.

        Raises what `check` raises.
        """
        sealed = check_manifest(
            content, signature, self.public_key, patient_digest=self._patient_digest, name=self._name, origin=origin
        )
        _check_version(sealed, version)
        return sealed

    def publish(self, bundle: Bundle) -> Bundle:
        """Write the checked `bundle` durably to the folder of its version; return it with that folder as its origin.

        The bytes that were checked are written; no file is read a second time. A folder with these bytes is left alone:
        another process may be loading it. A damaged or incomplete copy of this bundle is replaced.

        Raises:
            VersionTakenError: the folder holds another bundle under this number, and keeps it.
            ModelStoreError: the disk rejects it.

        """
        version = bundle.manifest.version
        partial, target = self.folder / f".{version}.partial", self.folder / version
        with self._writing(target):
            if not _has_content(target, bundle):
                if self._is_taken(target, bundle):
                    raise VersionTakenError(f"{target}: {_TAKEN.format(version=version, folder=target)}")
                _remove(partial)
                try:
                    _write(partial, bundle)
                except OSError:
                    _remove(partial)  # its bytes may be what fills the disk
                    raise
                _remove(target)
                failpoint("store.publish")
                partial.rename(target)
                sync_folder(self.folder)
        return dataclasses.replace(bundle, origin=str(target))

    def highest_version(self) -> int:
        """Return the highest number of a version here; 0 if there is none.

        A folder that is called after another number, such as a copy with its date, is no version.
        """
        folders = [path for path in self.folder.glob("[0-9]*") if path.name.isdecimal()]
        return max((int(folder.name) for folder in folders if _origin(folder).version == folder.name), default=0)

    def point(self, alias: str, version: str) -> None:
        """Make the link `alias` lead to `version`, in one rename.

        Raises:
            ModelStoreError: the disk rejects it.

        """
        link, fresh = self.folder / alias, self.folder / f".{alias}.fresh"
        with self._writing(link):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(version)
            failpoint("store.link")
            fresh.replace(link)
            sync_folder(self.folder)

    def note_forced(self, version: str, gates: str) -> None:
        """Note beside `version` which `gates` it was forced past into production; an empty text removes the note.

        The note is no part of the signed bundle, which exists before the promotion. It is shown with the model card.

        Raises:
            ModelStoreError: the disk rejects it.

        """
        note = _note(self.folder / version)
        if forced_past(self.folder / version) == gates:
            return
        with self._writing(note):
            if gates:
                replace_file(note, gates.encode())
            else:
                note.unlink(missing_ok=True)

    def prune(self, most: int) -> None:
        """Remove what a crash left, and the oldest versions: `most` stay beside those that links lead to.

        Raises:
            ModelStoreError: the disk rejects it.

        """
        with self._writing(self.folder):
            for partial in self.folder.glob(".*.partial"):
                _remove(partial)
            entries = [entry for entry in self.folder.iterdir() if not entry.name.startswith(".")]
            linked = {entry.readlink().name for entry in entries if entry.is_symlink()}
            loose = [entry for entry in entries if not entry.is_symlink() and entry.name not in linked]
            for version in sorted(loose, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)[most:]:
                _remove(version)
            for note in self.folder.glob(f".*{_NOTE}"):
                if not (self.folder / note.name[1:].removesuffix(_NOTE)).exists():
                    note.unlink()

    def _is_taken(self, folder: Path, bundle: Bundle) -> bool:
        """Return whether `folder` holds another bundle than `bundle`: one that is signed, or that another run made.

        The second covers bundles that were signed with a key that was replaced since.
        """
        try:
            content = read_regular(folder / MANIFEST, LARGEST_MANIFEST)
            signature = read_regular(folder / SIGNATURE, LARGEST_SIGNATURE)
        except OSError:
            return False
        if content == bundle.content:
            return False
        other_run = _origin(folder).run_id not in {None, bundle.manifest.run_id}
        return other_run or signature_holds(content, signature, self.public_key)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Lock the store meanwhile; raise errors of the disk as errors of `path`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock", seconds=self._lock_seconds):
                yield
        except OSError as error:
            raise ModelStoreError(f"{path}: cannot be written ({error.strerror})") from error


def forced_past(folder: Path) -> str:
    """Return the gates that the version in `folder` was forced past into production; empty if it passed them."""
    try:
        return read_regular(_note(folder), _LARGEST_NOTE).decode()
    except (OSError, UnicodeDecodeError):  # a note is a remark, and no reason not to serve
        return ""


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{_NOTE}")


def _check_version(sealed: SealedManifest, version: str) -> None:
    if sealed.manifest.version != version:
        raise BundleMisnamedError(f"{sealed.origin}: sealed as version {sealed.manifest.version}, not {version}")


def _origin(folder: Path) -> _Origin:
    """Return what the manifest in `folder` names, of whatever release; nothing if it cannot be read."""
    try:
        return _Origin.model_validate_json(read_regular(folder / MANIFEST, LARGEST_MANIFEST))
    except (OSError, ValidationError):
        return _Origin()


def _has_content(folder: Path, bundle: Bundle) -> bool:
    try:
        return all(read_regular(folder / name, len(content)) == content for name, content in bundle.contents.items())
    except OSError:
        return False


def _write(folder: Path, bundle: Bundle) -> None:
    folder.mkdir()
    for name, content in sorted(bundle.contents.items()):
        write_synced(folder / name, content)
        failpoint("store.copy")
    sync_folder(folder)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
