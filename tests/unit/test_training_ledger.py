from __future__ import annotations

import datetime as dt
from typing import Literal

import pytest

from training.registry.promotion_log import Entry, History, Kept

WHEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Book:
    """Entries as a registry keeps them, numbered as they come."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    @property
    def history(self) -> History:
        return History.of(self.kept)

    def add(
        self,
        version: str,
        seen: History | None = None,
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
            after=last.kept.number if last else 0,
            after_digest=last.kept.digest if last else "",
        )
        self.keep(entry.model_dump_json())
        return entry

    def keep(self, text: str) -> None:
        self.kept.append(Kept.of(len(self.kept) + 1, WHEN, text, applied=True))


def where(history: History, alias: str = "production") -> str | None:
    last = history.last(alias)
    return last.entry.version if last else None


def test_an_empty_history_leads_nowhere() -> None:
    history = Book().history
    assert (where(history), history.before("production"), history.altered) == (None, None, None)


def test_of_two_that_saw_the_same_the_first_wins_and_the_other_can_tell() -> None:
    book = Book()
    book.add("1")
    seen = book.history
    first, second = book.add("2", seen), book.add("3", seen)
    assert where(book.history) == "2"
    assert (book.history.won(first), book.history.won(second)) == (True, False)
    assert (book.history.lost, book.history.altered) == ({3}, None)


def test_whoever_looks_again_after_losing_may_win() -> None:
    book = Book()
    seen = book.history
    book.add("1", seen)
    book.add("2", seen)
    again = book.add("2")
    assert book.history.won(again)
    assert where(book.history) == "2"


def test_two_aliases_do_not_get_in_each_others_way() -> None:
    book = Book()
    seen = book.history
    book.add("1", seen, alias="staging")
    book.add("2", seen, alias="production")
    assert (where(book.history, "staging"), where(book.history)) == ("1", "2")


def test_rollbacks_go_further_back_each_time_and_not_forth_again() -> None:
    book = Book()
    for version in ("1", "2", "3"):
        book.add(version)
    for before in ("2", "1"):
        assert book.history.before("production") == before
        book.add(before, action="rollback")
    assert book.history.before("production") is None


def test_a_promotion_after_a_rollback_is_rolled_back_to_what_served_then() -> None:
    book = Book()
    book.add("1")
    book.add("2")
    book.add("1", action="rollback")
    book.add("3")
    assert book.history.before("production") == "1"


def test_what_served_before_the_history_began_can_be_rolled_back_to() -> None:
    book = Book()
    entry = book.add("2").model_copy(update={"replaced": "1"})
    book.kept.clear()
    book.keep(entry.model_dump_json())
    assert book.history.before("production") == "1"


@pytest.mark.parametrize("what", ["changed", "deleted", "unreadable"])
def test_an_entry_that_was_changed_or_deleted_is_noticed(what: str) -> None:
    book = Book()
    for version in ("1", "2", "3"):
        book.add(version)
    victim = book.kept[1]
    assert victim.entry is not None
    text = victim.entry.model_copy(update={"reason": "another"}).model_dump_json() if what == "changed" else "{}"
    replacement = [] if what == "deleted" else [Kept.of(2, WHEN, text, applied=True)]
    history = History.of([book.kept[0], *replacement, book.kept[2]])
    assert history.altered == (2 if what == "unreadable" else 3)
    assert where(history) == ("2" if what == "changed" else "1")
