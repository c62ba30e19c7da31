"""Create the feedback of doctors, and add their reference to the patient to predictions."""

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import UUID_TEXT, UtcTimestamp

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply this revision."""
    reference = sa.Column(
        "referencia", sa.Text, nullable=True, comment="the doctor's reference to the patient, as keyed hash"
    )
    op.add_column("predicciones", reference)
    op.create_index(op.f("ix_predicciones_referencia_timestamp"), "predicciones", ["referencia", "timestamp"])
    op.create_table(
        "resultados",
        sa.Column("id", UUID_TEXT, nullable=False, comment="the outcome's, a UUID: makes recording idempotent"),
        sa.Column("timestamp", UtcTimestamp, nullable=False, comment="when the doctor said it, UTC"),
        sa.Column(
            "prediccion_id", UUID_TEXT, nullable=False, comment="of which prediction, which may be recorded later"
        ),
        sa.Column("aceptada", sa.Boolean, nullable=False, comment="whether the answer holds"),
        sa.Column(
            "diagnostico", sa.Text, nullable=True, comment="the class that holds instead; NULL if it was accepted"
        ),
        sa.Column("motivo", sa.Text, nullable=True, comment="why, in the doctor's words: PATIENT DATA"),
        sa.Column("gateway_id", sa.Text, nullable=False, comment="who took it"),
        sa.Column("seq", sa.BigInteger, nullable=False, comment="its number among all that gateway answered"),
        sa.Column("hash", sa.Text, nullable=False, comment="SHA-256 of what was said"),
        sa.Column("registrado", UtcTimestamp, nullable=False, comment="when it was recorded here, UTC"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resultados")),
        comment="what doctors say of predictions; all are kept, the last of each counts",
    )
    for columns in (["prediccion_id", "timestamp"], ["gateway_id", "seq"]):
        op.create_index(op.f("ix_resultados_" + "_".join(columns)), "resultados", columns)


def downgrade() -> None:
    """Revert this revision. Drop the views, which depend on `resultados`; the next start creates them again."""
    for name in sa.inspect(op.get_bind()).get_view_names():
        if name.startswith("predicciones_"):
            op.execute(f'DROP VIEW "{name}"')
    op.drop_table("resultados")
    op.drop_index(op.f("ix_predicciones_referencia_timestamp"), "predicciones")
    op.drop_column("predicciones", "referencia")
