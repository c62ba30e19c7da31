from __future__ import annotations

import datetime as dt
from typing import Literal

import pytest

from training.registry.promotion_log import Entry, PromotionLog, StoredEntry

WHEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Book:
    """Entries as a registry keeps them, numbered as they come."""

    def __init__(self) -> None:
        self.kept: list[StoredEntry] = []

    @property
    def history(self) -> PromotionLog:
        return PromotionLog.from_entries(self.kept)

    def add(
        self,
        version: str,
        seen: PromotionLog | None = None,
        *,
        alias: str = "production",
        action: Literal["promote", "rollback"] = "promote",
    ) -> Entry:
        """Add what somebody writes who has last looked at `seen` (now, unless told)."""
        last = (seen or self.history).last(alias)
        entry = Entry(
            action=action,
            alias=alias,
            version=version,
            replaced=last.entry.version if last else None,
            who="ana@consulta",
            reason="a test",
            after=last.stored.number if last else 0,
            after_digest=last.stored.digest if last else "",
        )
        self.keep(entry.model_dump_json())
        return entry

    def keep(self, text: str) -> None:
        self.kept.append(StoredEntry.parse(len(self.kept) + 1, WHEN, text, applied=True))


def where(history: PromotionLog, alias: str = "production") -> str | None:
    last = history.last(alias)
    return last.entry.version if last else None


def test_an_empty_log_has_no_version() -> None:
    history = Book().history
    assert (where(history), history.rollback_target("production"), history.altered) == (None, None, None)


def test_of_two_entries_after_the_same_the_first_is_valid() -> None:
    book = Book()
    book.add("1")
    seen = book.history
    first, second = book.add("2", seen), book.add("3", seen)
    assert where(book.history) == "2"
    assert (book.history.is_valid(first), book.history.is_valid(second)) == (True, False)
    assert (book.history.late, book.history.altered) == ({3}, None)


def test_a_retry_after_a_late_entry_is_valid() -> None:
    book = Book()
    seen = book.history
    book.add("1", seen)
    book.add("2", seen)
    again = book.add("2")
    assert book.history.is_valid(again)
    assert where(book.history) == "2"


def test_two_aliases_have_independent_chains() -> None:
    book = Book()
    seen = book.history
    book.add("1", seen, alias="staging")
    book.add("2", seen, alias="production")
    assert (where(book.history, "staging"), where(book.history)) == ("1", "2")


def test_repeated_rollbacks_go_further_back() -> None:
    book = Book()
    for version in ("1", "2", "3"):
        book.add(version)
    for before in ("2", "1"):
        assert book.history.rollback_target("production") == before
        book.add(before, action="rollback")
    assert book.history.rollback_target("production") is None


def test_a_promotion_after_a_rollback_is_rolled_back_to_what_served_then() -> None:
    book = Book()
    book.add("1")
    book.add("2")
    book.add("1", action="rollback")
    book.add("3")
    assert book.history.rollback_target("production") == "1"


def test_a_version_from_before_the_log_is_a_rollback_target() -> None:
    book = Book()
    entry = book.add("2").model_copy(update={"replaced": "1"})
    book.kept.clear()
    book.keep(entry.model_dump_json())
    assert book.history.rollback_target("production") == "1"


@pytest.mark.parametrize("what", ["changed", "deleted", "unreadable"])
def test_a_changed_or_deleted_entry_is_detected(what: str) -> None:
    book = Book()
    for version in ("1", "2", "3"):
        book.add(version)
    victim = book.kept[1]
    assert victim.entry is not None
    text = victim.entry.model_copy(update={"reason": "another"}).model_dump_json() if what == "changed" else "{}"
    replacement = [] if what == "deleted" else [StoredEntry.parse(2, WHEN, text, applied=True)]
    history = PromotionLog.from_entries([book.kept[0], *replacement, book.kept[2]])
    assert history.altered == (2 if what == "unreadable" else 3)
    assert where(history) == ("2" if what == "changed" else "1")
