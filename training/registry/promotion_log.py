"""Promotion log: append-only entries, one per move of an alias, and the state that follows from them.

MLflow moves an alias without a trace, and of two concurrent callers the last one wins. So every move is first an entry
here. An entry names the last entry of its alias that its author read (`after`, with its digest). It is valid only if
that is still the last valid entry before it. Of two authors that read the same entry, the one with the lower number
wins, and the other can see that it lost. The digests chain the entries, so a later change or deletion is detected.
"""

import datetime as dt
import hashlib
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Entry(BaseModel):
    """One move of an alias, as it is stored (JSON).

    `report` is the gate report, if the gates were run. `deleted` is the version of the entry before, if that version
    had been deleted in MLflow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["promote", "rollback", "register"]
    alias: str
    version: str
    replaced: str | None
    deleted: str | None = None
    who: str
    reason: str
    forced: tuple[str, ...] = ()
    report: dict[str, object] | None = None
    after: int
    after_digest: str
    id: uuid.UUID = Field(default_factory=uuid.uuid4)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry in the registry: its number, time and digest. `entry` is None if it cannot be parsed.

    `applied` is true once its alias was moved.
    """

    number: int
    when: dt.datetime
    digest: str
    entry: Entry | None
    applied: bool

    @classmethod
    def parse(cls, number: int, when: dt.datetime, text: str, *, applied: bool) -> Self:
        """Parse the JSON `text` of an `Entry`; `digest` is the SHA-256 of the text."""
        try:
            entry = Entry.model_validate_json(text)
        except ValidationError:
            entry = None
        return cls(number, when, hashlib.sha256(text.encode()).hexdigest(), entry, applied)


@dataclass(frozen=True, slots=True)
class ValidEntry:
    """A valid entry, with the stored entry that it was parsed from."""

    stored: StoredEntry
    entry: Entry


@dataclass(slots=True)
class PromotionLog:
    """All entries by number. `late` lost to an earlier entry; `altered` is the first entry that breaks the chain."""

    entries: list[StoredEntry]
    late: set[int] = field(default_factory=set)
    altered: int | None = None
    _chains: dict[str, list[ValidEntry]] = field(default_factory=dict)

    @classmethod
    def from_entries(cls, entries: Iterable[StoredEntry]) -> Self:
        """Sort the entries and check the chain of every alias."""
        log = cls(sorted(entries, key=lambda stored: stored.number))
        for stored in log.entries:
            if stored.entry is None:
                log.altered = log.altered or stored.number
            else:
                log._append(stored, stored.entry)
        return log

    def last(self, alias: str) -> ValidEntry | None:
        """Return the entry that decides the version of `alias`, or None if there is none."""
        chain = self._chains.get(alias)
        return chain[-1] if chain else None

    def rollback_target(self, alias: str, existing: Collection[str]) -> str | None:
        """Return the version that a rollback of `alias` leads to: the last of `existing` that it had before.

        A second rollback goes further back.
        """
        versions: list[str] = []
        for valid in self._chains.get(alias, []):
            if not versions and valid.entry.replaced is not None:
                versions.append(valid.entry.replaced)  # the version before the first entry
            if valid.entry.action == "rollback":
                while versions[-1:] not in ([], [valid.entry.version]):  # also those that had been deleted in between
                    versions.pop()
            else:
                versions.append(valid.entry.version)
        earlier = [version for version in versions[:-1] if version in existing and version != versions[-1]]
        return earlier[-1] if earlier else None

    def names(self, version: str) -> bool:
        """Return whether an alias was ever moved to `version`."""
        return any(stored.entry is not None and stored.entry.version == version for stored in self.entries)

    def highest_version(self) -> int:
        """Return the highest version number that an alias was ever moved to; 0 if there is none."""
        versions = (stored.entry.version for stored in self.entries if stored.entry is not None)
        return max((int(version) for version in versions), default=0)

    def forced_past(self, alias: str, version: str) -> tuple[str, ...]:
        """Return the gates that `version` missed when they last ran for a move of `alias` to it; none if it passed.

        A rollback runs no gates, so the move before it counts.
        """
        for valid in reversed(self._chains.get(alias, [])):
            if valid.entry.version == version and valid.entry.report is not None:
                return valid.entry.forced
        return ()

    def is_valid(self, entry: Entry) -> bool:
        """Return whether `entry` is part of its alias's chain."""
        return any(valid.entry.id == entry.id for valid in self._chains.get(entry.alias, []))

    def _append(self, stored: StoredEntry, entry: Entry) -> None:
        chain = self._chains.setdefault(entry.alias, [])
        number, digest = (chain[-1].stored.number, chain[-1].stored.digest) if chain else (0, "")
        if (entry.after, entry.after_digest) == (number, digest):
            chain.append(ValidEntry(stored, entry))
        elif entry.after < number:
            self.late.add(stored.number)
        else:
            self.altered = self.altered or stored.number
