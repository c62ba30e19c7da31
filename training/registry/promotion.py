"""Moving an alias: read the state, write the log entry, carry it out. Every command that moves one uses this module.

The log entry decides. The alias follows it, and the links in the local model store follow the aliases. If the process
dies in between, the next command finishes the move.
"""

from __future__ import annotations

import getpass
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shared.artifacts.bundle import PRODUCTION
from shared.artifacts.errors import BundleError
from shared.failpoints import failpoint
from training.errors import AlreadyMovedError, PromotionError, RegistryError
from training.registry.promotion_log import Entry, History
from training.stage_runner import log_line

if TYPE_CHECKING:
    from shared.artifacts.bundle import Bundle
    from shared.artifacts.store import ModelStore
    from training.evaluation.gates import Report
    from training.registry.mlflow_registry import Registry

_ROUNDS = 50
"""How often an alias is put right while others move it, before giving up."""


@dataclass(frozen=True, slots=True)
class View:
    """An alias as it was seen: the entry that a move must follow, and the version that it leads to."""

    history: History
    alias: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written down: where to, why, and past which gates."""

    action: Literal["promote", "rollback", "register"]
    version: str
    reason: str
    report: Report | None = None
    forced: tuple[str, ...] = ()


def look(registry: Registry, alias: str, *, wanted: str | None = None) -> View:
    """See where `alias` leads, after finishing what a crash has left half done.

    Raises:
        PromotionError: production was moved past the ledger, and not to the version `wanted`.
        RegistryError: an entry of the ledger was changed or taken away.

    """
    history, version = _sound(registry), registry.aliases().get(alias)
    last = history.last(alias)
    if last is not None and not last.kept.applied and version in {last.entry.version, last.entry.replaced}:
        _apply(registry, alias)
        return View(history, alias, last.entry.version)
    if last is None or version == last.entry.version:
        return View(history, alias, version)
    if alias == PRODUCTION and wanted not in {version, last.entry.version}:
        message = (
            f"{alias} leads to version {version or '-'}, but was promoted to {last.entry.version}: somebody moved it "
            "past this command; promote one of the two to settle it, then go on"
        )
        raise PromotionError(message)
    return View(history, alias, version)


def carry_out(change: Change, seen: View, registry: Registry, model_store: ModelStore) -> None:
    """Write `change` down as what follows what was `seen`, then move the alias, then the links.

    Raises:
        AlreadyMovedError: somebody was faster.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk does not let us.

    """
    last = seen.history.last(seen.alias)
    entry = Entry(
        action=change.action,
        alias=seen.alias,
        version=change.version,
        replaced=seen.version,
        who=_who(),
        reason=change.reason,
        forced=change.forced,
        report=change.report.model_dump(mode="json") if change.report else None,
        after=last.kept.number if last else 0,
        after_digest=last.kept.digest if last else "",
    )
    registry.record(entry)
    failpoint("promotion.recorded")
    history = _sound(registry)
    if not history.won(entry):
        winner = history.last(seen.alias)
        by = f" by {winner.entry.who}, to version {winner.entry.version}" if winner else ""
        message = (
            f"version {change.version} comes too late: {seen.alias} was moved meanwhile{by}; look again, then repeat"
        )
        raise AlreadyMovedError(message)
    _apply(registry, seen.alias)
    failpoint("promotion.applied")
    follow(registry, model_store)


def fetched(version: str, registry: Registry, model_store: ModelStore) -> Bundle:
    """Verify the registry's bundle of `version`, whatever the model store has, and put it there if need be.

    Raises:
        PromotionError: it cannot serve here.

    """
    with tempfile.TemporaryDirectory() as folder:
        source = registry.fetch_bundle(version, Path(folder))
        try:
            bundle = model_store.check(source, version)
        except BundleError as error:
            message = f"version {version} {model_store.rejection(error, source)}"
            raise PromotionError(message) from error
    return model_store.opened(version) or model_store.publish(bundle)


def available(version: str, registry: Registry, model_store: ModelStore) -> Bundle:
    """Open `version` in the model store; fetch it from the registry only if the store lacks it.

    Raises:
        PromotionError: it cannot serve here.

    """
    return model_store.opened(version) or fetched(version, registry, model_store)


def usable(version: str, registry: Registry, model_store: ModelStore) -> str | None:
    """Return why `version` cannot serve here, or None if it can."""
    try:
        available(version, registry, model_store)
    except PromotionError as error:
        return str(error)
    return None


def follow(registry: Registry, model_store: ModelStore) -> None:
    """Let the links follow the aliases, except those whose version could not serve: their links stay as they are.

    Looks again after pointing them: somebody may have moved an alias, and its link, in between.
    """
    aliases: dict[str, str] = {}
    for _ in range(_ROUNDS):
        if (now := registry.aliases()) == aliases:
            return
        for alias, version in sorted(now.items() - aliases.items()):
            if refusal := usable(version, registry, model_store):
                log_line("links", f"the link {alias} stays as it is: {refusal}")
            else:
                model_store.point(alias, version)
        aliases = now


def _sound(registry: Registry) -> History:
    history = registry.history()
    if history.altered is not None:
        message = (
            f"entry {history.altered} of the promotion history does not fit those before it: one was changed or "
            "deleted in MLflow; find out by whom (python -m training history) before anything is promoted"
        )
        raise RegistryError(message)
    return history


def _apply(registry: Registry, alias: str) -> None:
    """Move `alias` to where the history says, and look again: a slower command may have put an older version back."""
    for _ in range(_ROUNDS):
        last = registry.history().last(alias)
        if last is None:
            return
        if registry.aliases().get(alias) == last.entry.version and last.kept.applied:
            return
        registry.point(alias, last.entry.version, last.kept.number)
    message = f"{alias} does not stay where it is put; something else keeps moving it"
    raise RegistryError(message)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
