"""The clinic's time zone: its name, and its offsets."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.analysts.time_zone import clinic_zone, offsets
from shared.settings import SettingsError

ZONES = ("Europe/Madrid", "America/Santiago", "Africa/Casablanca", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
PERIODS = {name: list(offsets(ZoneInfo(name))) for name in ZONES}


@given(st.sampled_from(ZONES), st.datetimes(datetime(2020, 1, 1), datetime(2050, 12, 31)))  # noqa: DTZ001 - naive, as Hypothesis takes them
def test_the_offset_of_a_moment_is_that_of_its_period(name: str, naive: datetime) -> None:
    moment = naive.replace(tzinfo=UTC)
    expected = moment.astimezone(ZoneInfo(name)).utcoffset()

    assert [offset for since, offset in PERIODS[name] if since <= moment][-1] == expected


def test_an_offset_begins_at_the_second_of_the_change() -> None:
    changes = [since for since, _ in PERIODS["Europe/Madrid"] if since.year == 2026]

    assert changes == [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)]


def test_a_zone_without_changes_has_one_offset() -> None:
    assert [offset for _, offset in PERIODS["Asia/Kathmandu"]] == [timedelta(hours=5, minutes=45)]


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "Europe", "../Madrid", "CET-1"])
def test_an_unknown_zone_is_refused_without_its_value(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^settings: CLINIC_TIME_ZONE: expected the name of a time zone") as caught:
        clinic_zone(name)

    assert not name or name not in str(caught.value).replace("Europe/Madrid", "")


@pytest.mark.parametrize(("machine", "expected"), [("America/Lima", "America/Lima"), (":Asia/Tokyo", "Asia/Tokyo")])
def test_without_a_setting_the_zone_is_the_machines(
    monkeypatch: pytest.MonkeyPatch, machine: str, expected: str
) -> None:
    monkeypatch.setenv("TZ", machine)

    assert clinic_zone(None).key == expected


def test_a_machine_whose_zone_has_no_name_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST")

    assert clinic_zone(None).key == "UTC"
