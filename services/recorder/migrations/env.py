"""Run by Alembic: migrate over the connection and inside the transaction that `db.migrate` opened."""

from __future__ import annotations

from alembic import context

from services.recorder.db.tables import METADATA
from shared.failpoints import failpoint

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # SQLite's too: the transaction is opened by us, not by the driver
    render_as_batch=True,
    on_version_apply=lambda **_: failpoint("migration.revision"),
)
with context.begin_transaction():
    context.run_migrations()
