"""Add the plausible classes, those not ruled out, to predictions."""

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import JSON_DOCUMENT

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply this revision."""
    plausible = sa.Column(
        "plausibles", JSON_DOCUMENT, nullable=True, comment="classes not ruled out, likeliest first; NULL: not known"
    )
    op.add_column("predicciones", plausible)


def downgrade() -> None:
    """Revert this revision. Drop the views, which depend on the column; the next start creates them again."""
    for name in sa.inspect(op.get_bind()).get_view_names():
        if name.startswith("predicciones_"):
            op.execute(f'DROP VIEW "{name}"')
    op.drop_column("predicciones", "plausibles")
