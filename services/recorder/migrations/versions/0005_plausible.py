"""Give predictions the classes that the doctor was told cannot be ruled out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import JSON_DOCUMENT

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    plausible = sa.Column(
        "plausibles", JSON_DOCUMENT, nullable=True, comment="classes not ruled out, likeliest first; NULL: not known"
    )
    op.add_column("predicciones", plausible)


def downgrade() -> None:
    """Undo. The views go as well: they hold on to the column, and are made anew at the next start."""
    for name in sa.inspect(op.get_bind()).get_view_names():
        if name.startswith("predicciones_"):
            op.execute(f'DROP VIEW "{name}"')
    op.drop_column("predicciones", "plausibles")
