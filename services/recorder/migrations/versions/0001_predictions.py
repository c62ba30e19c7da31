"""Create predictions, their duplicates and the quarantine."""

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import BIG_KEY, JSON_DOCUMENT, UUID_TEXT, UtcTimestamp

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "predicciones",
        sa.Column("id", UUID_TEXT, nullable=False, comment="the prediction's, a UUID: makes recording idempotent"),
        sa.Column("timestamp", UtcTimestamp, nullable=False, comment="when it was answered, UTC"),
        sa.Column("inputs", JSON_DOCUMENT, nullable=False, comment="the patient as asked"),
        sa.Column("output", sa.Text, nullable=False, comment="the class answered"),
        sa.Column("probabilidad", sa.Double, nullable=False, comment="of that class, 0 to 1"),
        sa.Column("probabilidades", JSON_DOCUMENT, nullable=False, comment="per class, 0 to 1"),
        sa.Column("modelo", sa.Text, nullable=False, comment="name of the model that answered"),
        sa.Column("modelo_version", sa.Text, nullable=False, comment="its version in the registry"),
        sa.Column("modelo_digest", sa.Text, nullable=False, comment="SHA-256 of its manifest"),
        sa.Column("paciente_digest", sa.Text, nullable=False, comment="SHA-256 of the patient class it was asked with"),
        sa.Column("gateway_id", sa.Text, nullable=False, comment="who answered"),
        sa.Column("seq", sa.BigInteger, nullable=False, comment="counts that gateway's answers, from 1, without gaps"),
        sa.Column("hash", sa.Text, nullable=False, comment="SHA-256 of question and answer"),
        sa.Column("registrado", UtcTimestamp, nullable=False, comment="when it was recorded here, UTC"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predicciones")),
    )
    for columns in (["timestamp"], ["output", "timestamp"], ["modelo_version", "timestamp"], ["gateway_id", "seq"]):
        op.create_index(op.f("ix_predicciones_" + "_".join(columns)), "predicciones", columns)
    op.create_table(
        "duplicados",
        sa.Column("gateway_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("prediccion_id", UUID_TEXT, nullable=False, comment="the row with the same question and answer"),
        sa.Column("recibido", UtcTimestamp, nullable=False),
        sa.PrimaryKeyConstraint("gateway_id", "seq", name=op.f("pk_duplicados")),
        comment="answers that were recorded already under another gateway or seq: one request, repeated",
    )
    op.create_table(
        "cuarentena",
        sa.Column("id", BIG_KEY, sa.Identity(), nullable=False),
        sa.Column("recibido", UtcTimestamp, nullable=False),
        sa.Column("motivo", sa.Text, nullable=False, comment="why it was not recorded, without patient values"),
        sa.Column("gateway_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("cuerpo", sa.LargeBinary, nullable=False, comment="the event, byte by byte as received"),
        sa.Column("prediccion_id", UUID_TEXT, nullable=True, comment="the id in the event, where it could be read"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cuarentena")),
        sa.UniqueConstraint("gateway_id", "seq", name=op.f("uq_cuarentena_gateway_id_seq")),
        comment="deliveries that could not be recorded and wait for a person",
    )


def downgrade() -> None:
    """Revert this revision."""
    for table in ("cuarentena", "duplicados", "predicciones"):
        op.drop_table(table)
