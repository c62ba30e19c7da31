"""Keep other bytes of one seq in quarantine, find the last recorded feedback, and forget claims of gateways."""

import hashlib

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import UtcTimestamp

revision = "0007"
down_revision = "0006"

_ROWS_AT_ONCE = 50
"""A row may have as many bytes as a message of the broker."""
_QUARANTINE = sa.table("cuarentena", sa.column("id"), sa.column("cuerpo", sa.LargeBinary), sa.column("huella"))


def upgrade() -> None:
    """Apply this revision."""
    op.add_column("cuarentena", sa.Column("huella", sa.Text, nullable=True))
    _fill_digests(op.get_bind())
    with op.batch_alter_table("cuarentena") as table:
        table.alter_column(
            "huella",
            existing_type=sa.Text(),
            nullable=False,
            server_default="",  # a recorder of the version before goes on with these tables during an upgrade
            comment="SHA-256 of the event as received: other bytes are another row",
        )
        table.drop_constraint(op.f("uq_cuarentena_gateway_id_seq"), type_="unique")
        table.create_unique_constraint(op.f("uq_cuarentena_gateway_id_seq_huella"), ["gateway_id", "seq", "huella"])
    op.drop_index(op.f("ix_resultados_prediccion_id_timestamp"), "resultados")
    op.create_index(op.f("ix_resultados_prediccion_id_registrado"), "resultados", ["prediccion_id", "registrado"])
    op.create_table(
        "reclamaciones_olvidadas",
        sa.Column("gateway_id", sa.Text, nullable=False),
        sa.Column("despues_de", sa.BigInteger, nullable=False, comment="numbers above it do not count"),
        sa.Column("hasta", UtcTimestamp, nullable=False, comment="if they were recorded here until then, UTC"),
        sa.PrimaryKeyConstraint("gateway_id", "hasta", name=op.f("pk_reclamaciones_olvidadas")),
        comment="numbers that an operator took out of the account of a gateway; the rows stay",
    )


def downgrade() -> None:
    """Revert this revision. It fails if two rows of the quarantine have one gateway and seq."""
    op.drop_table("reclamaciones_olvidadas")
    op.drop_index(op.f("ix_resultados_prediccion_id_registrado"), "resultados")
    op.create_index(op.f("ix_resultados_prediccion_id_timestamp"), "resultados", ["prediccion_id", "timestamp"])
    with op.batch_alter_table("cuarentena") as table:
        table.drop_constraint(op.f("uq_cuarentena_gateway_id_seq_huella"), type_="unique")
        table.create_unique_constraint(op.f("uq_cuarentena_gateway_id_seq"), ["gateway_id", "seq"])
        table.drop_column("huella")


def _fill_digests(connection: sa.Connection) -> None:
    """Write the digest of every row. A discarded one has no bytes any more, and gets that of none."""
    columns = _QUARANTINE.c
    rows = sa.select(columns.id, columns.cuerpo).order_by(columns.id).limit(_ROWS_AT_ONCE)
    last = 0
    while page := connection.execute(rows.where(columns.id > last)).all():
        for row_id, body in page:
            digest = hashlib.sha256(body).hexdigest()
            connection.execute(sa.update(_QUARANTINE).where(columns.id == row_id).values(huella=digest))
            last = row_id
