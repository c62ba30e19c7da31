"""Who moved an alias to which version, when and why: entries that are only ever added, and what follows from them.

MLflow moves an alias without a trace, and the last of two callers wins. So every move is first an entry here. Whoever
adds one says which entry of that alias it saw last (`after`, with its digest); the entry is valid only if that is still
the last valid one before it. Of two that saw the same, the one with the lower number wins, and the other can tell. The
digests chain the entries, so that an entry changed or taken away later is noticed.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable


class Entry(BaseModel):
    """One move of an alias, as whoever made it wrote it down; `report` is that of the gates, where they were asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["promote", "rollback", "register"]
    alias: str
    version: str
    replaced: str | None
    who: str
    reason: str
    forced: tuple[str, ...] = ()
    report: dict[str, object] | None = None
    after: int
    after_digest: str
    id: uuid.UUID = Field(default_factory=uuid.uuid4)


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry (None if it cannot be read) as the registry keeps it; `applied` once its alias was moved."""

    number: int
    when: dt.datetime
    digest: str
    entry: Entry | None
    applied: bool

    @classmethod
    def of(cls, number: int, when: dt.datetime, text: str, *, applied: bool) -> Kept:
        """Read `text`, which an `Entry` was written as; `digest` is its SHA-256."""
        try:
            entry = Entry.model_validate_json(text)
        except ValidationError:
            entry = None
        return cls(number, when, hashlib.sha256(text.encode()).hexdigest(), entry, applied)


@dataclass(frozen=True, slots=True)
class Move:
    """A valid entry, and where it is kept."""

    kept: Kept
    entry: Entry


@dataclass(slots=True)
class History:
    """All entries, by number; `lost` are those that came too late, `altered` is the first that no longer fits."""

    kept: list[Kept]
    lost: set[int] = field(default_factory=set)
    altered: int | None = None
    _moves: dict[str, list[Move]] = field(default_factory=dict)

    @classmethod
    def of(cls, kept: Iterable[Kept]) -> History:
        """Follow the chain of every alias."""
        found = cls(sorted(kept, key=lambda one: one.number))
        for one in found.kept:
            if one.entry is None:
                found.altered = found.altered or one.number
            else:
                found._follow(one, one.entry)
        return found

    def last(self, alias: str) -> Move | None:
        """Give the move that says where `alias` leads."""
        moves = self._moves.get(alias)
        return moves[-1] if moves else None

    def before(self, alias: str) -> str | None:
        """Give the version that a rollback of `alias` leads to: after one, the next goes further back, not forth."""
        versions: list[str] = []
        for move in self._moves.get(alias, []):
            if not versions and move.entry.replaced is not None:
                versions.append(move.entry.replaced)  # there before the history began
            if move.entry.action == "rollback":
                versions.pop()
            else:
                versions.append(move.entry.version)
        return versions[-2] if len(versions) > 1 else None

    def won(self, entry: Entry) -> bool:
        """Say whether `entry` is part of the chain."""
        return any(move.entry.id == entry.id for move in self._moves.get(entry.alias, []))

    def _follow(self, one: Kept, entry: Entry) -> None:
        chain = self._moves.setdefault(entry.alias, [])
        number, digest = (chain[-1].kept.number, chain[-1].kept.digest) if chain else (0, "")
        if (entry.after, entry.after_digest) == (number, digest):
            chain.append(Move(one, entry))
        elif entry.after < number:
            self.lost.add(one.number)
        else:
            self.altered = self.altered or one.number
