"""The time zone of the clinic: its name, and its offsets from UTC over time, for databases that know no zones."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.settings import SettingsError

_FROM, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2051, 1, 1, tzinfo=UTC)
"""The years whose changes of the clock are looked up. Before and after them, the first or the last offset is used."""
_LOCALTIME = Path("/etc/localtime")


def clinic_zone(name: str | None) -> ZoneInfo:
    """Return the zone `name`; without one, this machine's, or UTC if that has no name.

    Raises:
        SettingsError: no zone has this name.

    """
    if name is None:
        return _zone(_machine_name()) or ZoneInfo("UTC")
    zone = _zone(name)
    if zone is None:
        message = "settings: CLINIC_TIME_ZONE: expected the name of a time zone, as Europe/Madrid (see .env.example)"
        raise SettingsError(message)
    return zone


def offsets(zone: ZoneInfo) -> Iterator[tuple[datetime, timedelta]]:
    """Yield moments (UTC) and offsets (local time minus UTC): each offset holds from its moment until the next one."""
    before, offset = _FROM, _offset(zone, _FROM)
    yield before, offset
    while before < _UNTIL:
        after = before + timedelta(days=1)
        if _offset(zone, after) != offset:
            yield _change(zone, before, after), _offset(zone, after)
        before, offset = after, _offset(zone, after)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the second between two moments at which the offset changes, by halving."""
    new = _offset(zone, after)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (before, middle) if _offset(zone, middle) == new else (middle, after)
    return after


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def _machine_name() -> str:
    return os.environ.get("TZ", "").lstrip(":") or _LOCALTIME.resolve().as_posix().partition("/zoneinfo/")[2]


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones
        return None
