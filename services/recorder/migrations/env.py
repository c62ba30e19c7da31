"""Alembic's environment: migrate on the connection and in the transaction of `db.migrate`."""

from alembic import context

from services.recorder.db.tables import METADATA
from shared.failpoints import failpoint

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # on SQLite, too: we begin the transaction, not the driver
    render_as_batch=True,
    on_version_apply=lambda **_: failpoint("migration.revision"),
)
with context.begin_transaction():
    context.run_migrations()
