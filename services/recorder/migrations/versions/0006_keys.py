"""Add the id of the API key to predictions and feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_COMMENTS = {
    "predicciones": "id of the API key that asked; NULL: without keys, or from an older gateway",
    "resultados": "id of the API key that sent it; NULL: without keys, or from an older gateway",
}


def upgrade() -> None:
    """Apply this revision."""
    for table, comment in _COMMENTS.items():
        op.add_column(table, sa.Column("clave_id", sa.Text, nullable=True, comment=comment))


def downgrade() -> None:
    """Revert this revision. Drop the views, which depend on the columns; the next start creates them again."""
    for name in sa.inspect(op.get_bind()).get_view_names():
        if name.startswith("predicciones_"):
            op.execute(f'DROP VIEW "{name}"')
    for table in _COMMENTS:
        op.drop_column(table, "clave_id")
