"""Cache of the last registered build: if nothing has changed since, `register` does not need MLflow.

Importing MLflow takes seconds, and most runs of the pipeline change nothing. The cache holds a digest of the registry's
file, so any change in the registry invalidates it, by our commands or by others.
"""

import hashlib
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.artifacts.store import ModelStore
from shared.files import open_regular, read_regular
from training.settings import TrainingSettings
from training.stage_files import FOLDER

CACHE = FOLDER / "registered.json"
_LARGEST = 1024 * 1024


class CacheEntry(BaseModel):
    """A registered build: its id, the digest of the registry's file, the links, and the summary of `register`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: str
    registry: str
    links: dict[str, str]
    summary: str

    @classmethod
    def current(cls, build: str, summary: str, settings: TrainingSettings, model_store: ModelStore) -> Self | None:
        """Return the entry for `build` as things are now.

        Returns None for a registry on a server, whose state only MLflow can read, and for one that does not exist.
        """
        file = settings.registry_file
        if settings.mlflow_tracking_uri is not None or not file.exists():
            return None
        links = {
            link.name: link.readlink().name for link in sorted(model_store.folder.glob("[!.]*")) if link.is_symlink()
        }
        with open_regular(file) as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return cls(build=build, registry=digest, links=links, summary=summary)


def cached_summary(build: str, settings: TrainingSettings, model_store: ModelStore) -> str | None:
    """Return the summary of the registration of `build`, or None if anything has changed since."""
    try:
        cached = CacheEntry.model_validate_json(read_regular(CACHE, _LARGEST))
    except (OSError, ValidationError):
        return None
    unchanged = cached == CacheEntry.current(build, cached.summary, settings, model_store)
    verified = unchanged and all(model_store.opened(version) for version in cached.links.values())
    return cached.summary if verified else None


def store_summary(build: str, summary: str, settings: TrainingSettings, model_store: ModelStore) -> None:
    """Cache `summary` for `cached_summary`."""
    if entry := CacheEntry.current(build, summary, settings, model_store):
        CACHE.write_text(entry.model_dump_json(indent=1) + "\n", encoding="utf-8")
