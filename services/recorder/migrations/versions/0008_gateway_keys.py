"""Create the enrolled keys of gateways, and keep the headers of a quarantined message, by which it can be proved."""

import sqlalchemy as sa
from alembic import op

from services.recorder.db.types import UtcTimestamp

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply this revision."""
    op.create_table(
        "claves_gateway",
        sa.Column("gateway_id", sa.Text, nullable=False, comment="the fingerprint of its public key"),
        sa.Column("clave", sa.Text, nullable=False, comment="its public key, Ed25519, in hexadecimal"),
        sa.Column(
            "origen", sa.Text, nullable=False, comment="secreto: by the site's enrolment secret; operador: by a command"
        ),
        sa.Column("alta", UtcTimestamp, nullable=False, comment="when it was enrolled, UTC"),
        sa.Column("baja", UtcTimestamp, nullable=True, comment="when it was revoked, UTC, for good; NULL: it is not"),
        sa.PrimaryKeyConstraint("gateway_id", name=op.f("pk_claves_gateway")),
        comment="the gateways whose messages are recorded",
    )
    headers = sa.Column(
        "cabeceras", sa.Text, nullable=True, comment="of a whole message: what it claims, and its proof, as JSON"
    )
    op.add_column("cuarentena", headers)


def downgrade() -> None:
    """Revert this revision."""
    op.drop_column("cuarentena", "cabeceras")
    op.drop_table("claves_gateway")
