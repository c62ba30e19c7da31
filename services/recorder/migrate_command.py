"""`python -m services.recorder migrate`: upgrade the tables of `DATABASE_URL`, and the analysts' view on them."""

from collections.abc import Callable

from services.recorder.analysts.time_zone import clinic_zone
from services.recorder.commands import refresh_analysts_view, run_command, say
from services.recorder.db.database import open_database
from services.recorder.db.migrate import Migrated
from services.recorder.settings import RecorderSettings
from shared.database_url import shown
from shared.patient import load_patient


def migrate_command(read: Callable[[], RecorderSettings]) -> int:
    """Upgrade the tables and the analysts' view, print what was done, and return the exit code."""

    async def run() -> int:
        settings = read()
        url = settings.database()
        patient, zone = load_patient(settings.predecir_paciente), clinic_zone(settings.clinic_time_zone)
        async with open_database(url) as database:
            say(f"{shown(url)}: {_summary(database.migrated)}")
            await refresh_analysts_view(database, patient, zone)
        return 0

    return run_command("migrate", run)


def _summary(migrated: Migrated) -> str:
    if migrated.before is None:
        return f"created the tables, at revision {migrated.after}"
    if migrated.before == migrated.after:
        return f"the tables are at revision {migrated.after}, the newest; nothing to do"
    return f"upgraded the tables from revision {migrated.before} to {migrated.after}"
