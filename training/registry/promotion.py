"""Moving an alias: read its state, append a log entry, apply it. Every command that moves an alias uses this module.

The log entry decides. The alias follows the entry, and the links in the local model store follow the aliases. If the
process dies in between, the next command finishes the move.
"""

import getpass
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shared.artifacts.bundle import PRODUCTION, Bundle
from shared.artifacts.errors import BundleError
from shared.artifacts.store import ModelStore
from shared.failpoints import failpoint
from training.errors import AlreadyMovedError, PromotionError, RegistryError
from training.evaluation.gates import GateReport
from training.registry.promotion_log import Entry, PromotionLog
from training.stage_runner import log_line

if TYPE_CHECKING:
    from training.registry.mlflow_registry import ModelRegistry


_ATTEMPTS = 50
"""How often an alias or a link is corrected while other processes move it, before an error."""


@dataclass(frozen=True, slots=True)
class AliasState:
    """An alias as it was read: the log that the next entry must follow, and the alias's version.

    `deleted` is the version that the log names, if it was deleted in MLflow, which deletes its aliases with it.
    """

    log: PromotionLog
    alias: str
    version: str | None
    deleted: str | None = None

    def __str__(self) -> str:
        """Describe what the next move replaces."""
        if self.deleted is None:
            return self.version or "empty"
        return f"{self.deleted}, which was deleted in MLflow"


@dataclass(frozen=True, slots=True)
class AliasChange:
    """A move to record: its target version, its reason and its gate report; it is forced past gates that failed."""

    action: Literal["promote", "rollback", "register"]
    version: str
    reason: str
    report: GateReport | None = None


def read_alias(model_registry: "ModelRegistry", alias: str, *, target: str | None = None) -> AliasState:
    """Read the state of `alias`, after finishing a move that a crash interrupted.

    Raises:
        PromotionError: production was moved to another version without a log entry, and `target` is neither of the two.
        RegistryError: an entry of the log was changed or deleted.

    """
    log, version = _verified_log(model_registry), model_registry.aliases().get(alias)
    last = log.last(alias)
    if last is not None and version != last.entry.version and last.entry.version not in model_registry.versions():
        return AliasState(log, alias, version, deleted=last.entry.version)
    if last is not None and not last.stored.applied and version in {last.entry.version, last.entry.replaced}:
        _apply_last_entry(model_registry, alias)
        return AliasState(log, alias, last.entry.version)
    if last is None or version == last.entry.version:
        return AliasState(log, alias, version)
    if alias == PRODUCTION and version is not None and target not in {version, last.entry.version}:
        message = (
            f"{alias} is version {version}, but was promoted to {last.entry.version}: it was moved without "
            "python -m training; promote one of the two versions first"
        )
        raise PromotionError(message)
    return AliasState(log, alias, version)


def move_alias(
    change: AliasChange, state: AliasState, model_registry: "ModelRegistry", model_store: ModelStore
) -> None:
    """Append an entry for `change` after `state`, then move the alias and the links.

    Raises:
        AlreadyMovedError: another process moved the alias since `state` was read.
        RegistryError: the registry cannot be used.
        ModelStoreError: the disk cannot be written.

    """
    last = state.log.last(state.alias)
    entry = Entry(
        action=change.action,
        alias=state.alias,
        version=change.version,
        replaced=state.version,
        deleted=state.deleted,
        who=_current_user(),
        reason=change.reason,
        forced=tuple(change.report.failed) if change.report else (),
        report=change.report.model_dump(mode="json") if change.report else None,
        after=last.stored.number if last else 0,
        after_digest=last.stored.digest if last else "",
    )
    model_registry.append_entry(entry)
    failpoint("promotion.recorded")
    log = _verified_log(model_registry)
    if not log.is_valid(entry):
        winner = log.last(state.alias)
        by = f" by {winner.entry.who}, to version {winner.entry.version}" if winner else ""
        message = (
            f"version {change.version} comes too late: {state.alias} was moved meanwhile{by}; "
            "check the new version, then repeat the command"
        )
        raise AlreadyMovedError(message)
    _apply_last_entry(model_registry, state.alias)
    failpoint("promotion.applied")
    sync_links(model_registry, model_store)


def fetch_bundle(version: str, model_registry: "ModelRegistry", model_store: ModelStore) -> Bundle:
    """Download and verify the bundle of `version`, publish it in the model store if it is missing, and open it.

    Raises:
        PromotionError: the bundle cannot serve here.

    """
    with tempfile.TemporaryDirectory() as folder:
        source = model_registry.download_bundle(version, Path(folder))
        try:
            bundle = model_store.check(source, version)
        except BundleError as error:
            message = f"version {version} {model_store.rejection(error, source)}"
            raise PromotionError(message) from error
    return model_store.opened(version) or model_store.publish(bundle)


def available(version: str, model_registry: "ModelRegistry", model_store: ModelStore) -> Bundle:
    """Open `version` in the model store; download it from the registry only if the store lacks it.

    Raises:
        PromotionError: it cannot serve here.

    """
    return model_store.opened(version) or fetch_bundle(version, model_registry, model_store)


def unusable_reason(version: str, model_registry: "ModelRegistry", model_store: ModelStore) -> str | None:
    """Return why `version` cannot serve here, or None if it can."""
    try:
        available(version, model_registry, model_store)
    except PromotionError as error:
        return str(error)
    return None


def sync_links(model_registry: "ModelRegistry", model_store: ModelStore) -> None:
    """Point every link to the version of its alias. A link whose version cannot serve here stays as it is.

    Reads the aliases again afterwards: another process may have moved one, and its link, in between.
    """
    linked: dict[str, str] = {}
    for _ in range(_ATTEMPTS):
        if (aliases := model_registry.aliases()) == linked:
            return
        for alias, version in sorted(aliases.items() - linked.items()):
            if reason := unusable_reason(version, model_registry, model_store):
                log_line("links", f"the link {alias} stays as it is: {reason}")
            else:
                if alias == PRODUCTION:
                    log = model_registry.promotion_log()
                    model_store.note_forced(version, ", ".join(log.forced_past(alias, version)))
                model_store.point(alias, version)
        linked = aliases


def _verified_log(model_registry: "ModelRegistry") -> PromotionLog:
    log = model_registry.promotion_log()
    if log.altered is not None:
        message = (
            f"entry {log.altered} of the promotion log does not match the entries before it: an entry was changed or "
            "deleted in MLflow; nothing can be promoted until that is explained (python -m training history); then "
            f"delete the model {model_registry.log_name} in MLflow, and the next promotion starts a new log"
        )
        raise RegistryError(message)
    return log


def _apply_last_entry(model_registry: "ModelRegistry", alias: str) -> None:
    """Move `alias` to the version of its last entry, and read it again: a slower process may have moved it back."""
    for _ in range(_ATTEMPTS):
        log = model_registry.promotion_log()
        last = log.last(alias)
        if last is None:
            return
        if alias == PRODUCTION:  # before the move: inference reads the tag with the alias
            model_registry.note_forced(last.entry.version, log.forced_past(alias, last.entry.version))
        if model_registry.aliases().get(alias) == last.entry.version and last.stored.applied:
            return
        model_registry.set_alias(alias, last.entry.version, last.stored.number)
    message = f"{alias} does not keep its version; another program keeps moving it"
    raise RegistryError(message)


def _current_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
