import datetime as dt
import json
from typing import Literal

import pytest

from training.commands.history import as_json, as_table
from training.registry.promotion_log import Entry, PromotionLog, StoredEntry

ALL = {"1", "2", "3"}
WHEN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class LogBuilder:
    """Stored entries, numbered in order."""

    def __init__(self) -> None:
        self.entries: list[StoredEntry] = []

    @property
    def log(self) -> PromotionLog:
        return PromotionLog.from_entries(self.entries)

    def add(
        self,
        version: str,
        state: PromotionLog | None = None,
        *,
        alias: str = "production",
        action: Literal["promote", "rollback"] = "promote",
    ) -> Entry:
        """Append the entry of an author who has read `state` (default: the present log)."""
        last = (state or self.log).last(alias)
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
        self.entries.append(StoredEntry.parse(len(self.entries) + 1, WHEN, text, applied=True))


def version_of(log: PromotionLog, alias: str = "production") -> str | None:
    last = log.last(alias)
    return last.entry.version if last else None


def test_an_empty_log_has_no_version() -> None:
    log = LogBuilder().log
    assert (version_of(log), log.rollback_target("production", ALL), log.altered) == (None, None, None)


def test_of_two_entries_after_the_same_the_first_is_valid() -> None:
    builder = LogBuilder()
    builder.add("1")
    state = builder.log
    first, second = builder.add("2", state), builder.add("3", state)
    assert version_of(builder.log) == "2"
    assert (builder.log.is_valid(first), builder.log.is_valid(second)) == (True, False)
    assert (builder.log.late, builder.log.altered) == ({3}, None)


def test_a_retry_after_a_late_entry_is_valid() -> None:
    builder = LogBuilder()
    state = builder.log
    builder.add("1", state)
    builder.add("2", state)
    again = builder.add("2")
    assert builder.log.is_valid(again)
    assert version_of(builder.log) == "2"


def test_two_aliases_have_independent_chains() -> None:
    builder = LogBuilder()
    state = builder.log
    builder.add("1", state, alias="staging")
    builder.add("2", state, alias="production")
    assert (version_of(builder.log, "staging"), version_of(builder.log)) == ("1", "2")


def test_repeated_rollbacks_go_further_back() -> None:
    builder = LogBuilder()
    for version in ("1", "2", "3"):
        builder.add(version)
    for before in ("2", "1"):
        assert builder.log.rollback_target("production", ALL) == before
        builder.add(before, action="rollback")
    assert builder.log.rollback_target("production", ALL) is None


def test_a_promotion_after_a_rollback_is_rolled_back_to_what_served_then() -> None:
    builder = LogBuilder()
    builder.add("1")
    builder.add("2")
    builder.add("1", action="rollback")
    builder.add("3")
    assert builder.log.rollback_target("production", ALL) == "1"


def test_a_rollback_passes_over_deleted_versions_and_the_next_goes_further_back() -> None:
    builder = LogBuilder()
    for version in ("1", "2", "3", "4"):
        builder.add(version)
    assert builder.log.rollback_target("production", {"1", "2"}) == "2", "4, in production, and 3 are deleted"
    builder.add("2", action="rollback")
    assert builder.log.rollback_target("production", {"1", "2"}) == "1"
    assert builder.log.rollback_target("production", {"2"}) is None


def test_a_rollback_does_not_lead_to_the_version_in_production() -> None:
    builder = LogBuilder()
    for version in ("1", "2", "1"):
        builder.add(version)
    assert builder.log.rollback_target("production", {"1"}) is None


def test_a_version_from_before_the_log_is_a_rollback_target() -> None:
    builder = LogBuilder()
    entry = builder.add("2").model_copy(update={"replaced": "1"})
    builder.entries.clear()
    builder.keep(entry.model_dump_json())
    assert builder.log.rollback_target("production", ALL) == "1"


@pytest.mark.parametrize("what", ["changed", "deleted", "unreadable"])
def test_a_changed_or_deleted_entry_is_detected(what: str) -> None:
    builder = LogBuilder()
    for version in ("1", "2", "3"):
        builder.add(version)
    victim = builder.entries[1]
    assert victim.entry is not None
    text = victim.entry.model_copy(update={"reason": "another"}).model_dump_json() if what == "changed" else "{}"
    replacement = [] if what == "deleted" else [StoredEntry.parse(2, WHEN, text, applied=True)]
    log = PromotionLog.from_entries([builder.entries[0], *replacement, builder.entries[2]])
    assert log.altered == (2 if what == "unreadable" else 3)
    assert version_of(log) == ("2" if what == "changed" else "1")


def test_the_history_lists_an_entry_that_cannot_be_read() -> None:
    builder = LogBuilder()
    builder.add("1")
    builder.keep("{}")
    line = as_table(builder.log)[-1]
    assert line.split("  ", 1)[0] == "2"
    assert line.endswith("cannot be read")
    assert json.loads(as_json(builder.log.entries[-1], builder.log)) == {
        "entry": 2,
        "when": "2026-01-01T00:00:00+00:00",
        "outcome": "does not match",
    }
