"""`python -m services.recorder migrate`: upgrade the tables of `DATABASE_URL`, and the analysts' view on them."""

from collections.abc import Callable

from sqlalchemy.engine import URL

from services.recorder.commands import View, refresh_analysts_view, run_command, say
from services.recorder.db.database import open_database
from services.recorder.db.migrate import Migrated
from shared.database_url import shown


def migrate_command(database: Callable[[], URL], view: Callable[[], View]) -> int:
    """Upgrade the tables and the analysts' view, print what was done, and return the exit code."""

    async def run() -> int:
        url, shown_view = database(), view()
        async with open_database(url) as opened:
            say(f"{shown(url)}: {_summary(opened.migrated)}")
            await refresh_analysts_view(opened, shown_view)
        return 0

    return run_command("migrate", run)


def _summary(migrated: Migrated) -> str:
    if migrated.before is None:
        return f"created the tables, at revision {migrated.after}"
    if migrated.before == migrated.after:
        return f"the tables are at revision {migrated.after}, the newest; nothing to do"
    return f"upgraded the tables from revision {migrated.before} to {migrated.after}"
