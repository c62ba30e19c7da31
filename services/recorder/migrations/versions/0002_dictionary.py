"""Create the data dictionary of the analysts."""

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import UtcTimestamp

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "diccionario",
        sa.Column("vista", sa.Text, nullable=False, comment="the view that has the column"),
        sa.Column("nombre", sa.Text, nullable=False, comment="the column"),
        sa.Column("tipo", sa.Text, nullable=False),
        sa.Column("significado", sa.Text, nullable=False),
        sa.Column("unidad", sa.Text, nullable=True, comment="of the value and of the ranges"),
        sa.Column("minimo", sa.Double, nullable=True, comment="below it a value is refused"),
        sa.Column("maximo", sa.Double, nullable=True, comment="above it a value is refused"),
        sa.Column("referencia_minimo", sa.Double, nullable=True, comment="below it the doctor is warned"),
        sa.Column("referencia_maximo", sa.Double, nullable=True, comment="above it the doctor is warned"),
        sa.Column("valores", sa.Text, nullable=True, comment="what a category may be"),
        sa.Column("desde", UtcTimestamp, nullable=False, comment="since when it has meant this, UTC"),
        sa.Column("desde_paciente", sa.Text, nullable=False, comment="paciente_digest of the class it came with"),
        sa.Column("hasta", UtcTimestamp, nullable=True, comment="until when; NULL: to this day"),
        sa.PrimaryKeyConstraint("vista", "nombre", "desde", name=op.f("pk_diccionario")),
        comment="what each column of the analysts' views means; written from the patient class",
    )


def downgrade() -> None:
    """Revert this revision. Drop the views, too: they depend on columns of `predicciones`."""
    for name in sa.inspect(op.get_bind()).get_view_names():
        if name.startswith("predicciones_"):
            op.execute(f'DROP VIEW "{name}"')
    op.drop_table("diccionario")
