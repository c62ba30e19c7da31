"""Create the gateways' reports on their outboxes."""

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import UtcTimestamp

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "gateways",
        sa.Column("gateway_id", sa.Text, nullable=False),
        sa.Column("respondidas", sa.BigInteger, nullable=False, comment="its last seq"),
        sa.Column("pendiente_desde", sa.BigInteger, nullable=False, comment="every seq below it has left its outbox"),
        sa.Column("visto", UtcTimestamp, nullable=False, comment="when it last said so, UTC"),
        sa.Column(
            "al_dia",
            UtcTimestamp,
            nullable=True,
            comment="when that was read here with no event waiting in the queue, UTC; NULL: some waited",
        ),
        sa.Column(
            "asentado", sa.BigInteger, nullable=False, comment="every seq below it must be recorded or set aside"
        ),
        sa.PrimaryKeyConstraint("gateway_id", name=op.f("pk_gateways")),
        comment="what each gateway last said of its outbox; for the account of what was answered",
    )


def downgrade() -> None:
    """Revert this revision."""
    op.drop_table("gateways")
