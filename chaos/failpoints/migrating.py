"""Kills of recorders during a migration, and of transfers from one database into another."""

import asyncio
import random
from pathlib import Path

from alembic import command
from sqlalchemy import Connection

from chaos.failpoints.databases import Database
from chaos.failpoints.tally import Tally
from services.recorder.db.database import open_database
from services.recorder.db.migrate import alembic_config
from services.recorder.ingest.writes import write_batch
from services.recorder.transfer.copy import BATCH
from shared.database_url import read_url
from tests.support.recorder_suite import START
from tests.support.rows import made_up
from tests.support.zygote import Zygote

MIGRATIONS = ("migration.revision", "migration.migrated")
COPIES = ("copy.write", "copy.committed")
_OLD = "0002"
_STEPS = 3
"""Minimum number of revisions after `_OLD`."""
_OLD_ROWS = 300
_COPIED_ROWS = BATCH + 100
_ROWS = "SELECT CAST(id AS text) || ' ' || hash || ' ' || output FROM predicciones"


def fill(database: Database, rows: int, *, revision: str = "head") -> None:
    """Insert made-up predictions into an empty database with the tables of `revision`."""

    async def filled() -> None:
        async with open_database(read_url(database.url)) as opened:
            await opened.writer.transaction(
                lambda connection: write_batch(connection, list(made_up(1, rows)), (), START)
            )
            if revision != "head":
                await opened.writer.transaction(downgraded)

    def downgraded(connection: Connection) -> None:
        command.downgrade(alembic_config(connection), revision)

    asyncio.run(filled())


def hit_migration(failpoint: str, hits: int, zygote: Zygote, database: Database, folder: Path) -> Tally:
    """Kill recorders at their first start on the old tables; `database` must be empty.

    At every moment the tables must be the old or the new ones, with the same rows.
    """
    tally, passes = Tally(failpoint, database.place), random.Random(0)  # noqa: S311 - when to die
    fill(database, _OLD_ROWS, revision=_OLD)
    old, rows, new = database.query(database.structure), database.query(_ROWS), list[str]()
    for _ in range(hits):
        copy, armed = database.copy(), str(passes.randint(1, _STEPS)) if failpoint == "migration.revision" else "1"
        environment = {"DATABASE_URL": copy.url}
        tally.hit(tally.start(zygote, ["services.recorder"], folder, environment, armed=armed))
        structure_now = copy.query(copy.structure)
        process = tally.start(zygote, ["services.recorder"], folder, environment)
        process.listens()
        process.kill()
        new = new or copy.query(copy.structure)
        tally.never(structure_now != (old if failpoint == "migration.revision" else new))
        tally.never(new == old or copy.query(copy.structure) != new or not copy.query(copy.views))
        tally.compare(rows, copy.query(_ROWS))
        copy.drop()
    return tally


def hit_copy(  # noqa: PLR0913 - how often, with what, from where, to where
    failpoint: str, hits: int, zygote: Zygote, *, source: Database, empty: Database, folder: Path
) -> Tally:
    """Kill transfers from `source`, filled here, into databases like `empty`; then run the same command again."""
    place = f"{source.place} to {empty.place}"
    tally, passes = Tally(failpoint, place), random.Random(0)  # noqa: S311 - when to die
    fill(source, _COPIED_ROWS)
    rows = source.query(_ROWS)
    for _ in range(hits):
        target, armed = empty.copy(), passes.randint(1, -(-_COPIED_ROWS // BATCH))
        words = ["services.recorder", "transfer", "--from", source.url, "--to", target.url]
        environment = {"PREDECIR_FAILPOINT": f"{failpoint}:{armed}"}
        tally.hit(zygote.start(words, folder, environment))
        there = len(target.query(_ROWS))
        whole = min(BATCH * (armed - (failpoint == "copy.write")), len(rows))
        tally.never(there != whole)
        tally.never(zygote.start(words, folder).ended() != 0)
        tally.recovered()
        tally.compare(rows, target.query(_ROWS))
        target.drop()
    return tally
