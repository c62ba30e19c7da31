"""How a build stood when it was registered last: if all of it still holds, nothing has to be asked of MLflow.

Loading MLflow takes seconds, and most runs of the pipeline change nothing. What is remembered is the digest of the
registry's file, so that whatever anybody does in the registry meanwhile, by our commands or past them, shows.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.stage_files import FOLDER

if TYPE_CHECKING:
    from shared.artifacts.store import ModelStore
    from training.settings import TrainingSettings

LAST = FOLDER / "registered.json"


class Standing(BaseModel):
    """A build, the registry's file as it was, the links to serve by, and what `register` said of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    build: str
    registry: str
    links: dict[str, str]
    said: str

    @classmethod
    def now(cls, build: str, said: str, settings: TrainingSettings, model_store: ModelStore) -> Self | None:
        """See how `build` stands; None with a registry on a server, which only MLflow can ask, or one not there yet."""
        file = settings.registry_file
        if settings.mlflow_tracking_uri is not None or not file.exists():
            return None
        links = {
            link.name: link.readlink().name for link in sorted(model_store.folder.glob("[!.]*")) if link.is_symlink()
        }
        return cls(build=build, registry=hashlib.sha256(file.read_bytes()).hexdigest(), links=links, said=said)

    def serves(self, model_store: ModelStore) -> bool:
        """Whether every link leads to a version that verifies."""
        return all(model_store.opened(version) is not None for version in self.links.values())


def unchanged(build: str, settings: TrainingSettings, model_store: ModelStore) -> str | None:
    """Give what was said of `build` when it was registered, if it still stands as it did then."""
    try:
        last = Standing.model_validate_json(LAST.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
    return (
        last.said
        if last == Standing.now(build, last.said, settings, model_store) and last.serves(model_store)
        else None
    )


def remember(build: str, said: str, settings: TrainingSettings, model_store: ModelStore) -> None:
    """Keep how `build` stands, for `unchanged`."""
    if standing := Standing.now(build, said, settings, model_store):
        LAST.write_text(standing.model_dump_json(indent=1) + "\n", encoding="utf-8")
