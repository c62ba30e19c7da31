"""`python -m services.recorder migrate`: upgrade the tables of `DATABASE_URL`, and the analysts' view on them."""

from collections.abc import Callable

from services.recorder.commands import refresh_analysts_view, run_command, say
from services.recorder.db.database import open_database, read_url, shown
from services.recorder.db.migrate import Migrated
from shared.patient import Patient


def migrate_command(database_url: Callable[[], str], patient_class: Callable[[], type[Patient]]) -> int:
    """Upgrade the tables and the view of `patient_class`, print what was done, and return the exit code."""

    async def run() -> int:
        url, patient = read_url(database_url()), patient_class()
        async with open_database(url) as database:
            say(f"{shown(url)}: {_summary(database.migrated)}")
            await refresh_analysts_view(database, patient)
        return 0

    return run_command("migrate", run)


def _summary(migrated: Migrated) -> str:
    if migrated.before is None:
        return f"created the tables, at revision {migrated.after}"
    if migrated.before == migrated.after:
        return f"the tables are at revision {migrated.after}, the newest; nothing to do"
    return f"upgraded the tables from revision {migrated.before} to {migrated.after}"
