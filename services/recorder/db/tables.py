"""The tables. A change needs a migration; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from services.recorder.db.rows import EventRow, FeedbackRow, PredictionRow, row_columns
from services.recorder.db.types import BIG_KEY, UUID_TEXT, UtcTimestamp

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _event_table(name: str, row: type[EventRow], *indexes: Index, comment: str | None = None) -> Table:
    """Build the table whose columns are the fields of `row`."""
    columns = [
        Column(
            column.name,
            column.type.sql,
            primary_key=column.name == "id",
            nullable=column.nullable,
            comment=column.comment,
        )
        for column in row_columns(row)
    ]
    return Table(name, METADATA, *columns, *indexes, comment=comment)


PREDICCIONES = _event_table(
    "predicciones",
    PredictionRow,
    Index(None, "timestamp"),
    Index(None, "output", "timestamp"),
    Index(None, "modelo_version", "timestamp"),
    Index(None, "gateway_id", "seq"),
    Index(None, "referencia", "timestamp"),
)

RESULTADOS = _event_table(
    "resultados",
    FeedbackRow,
    Index(None, "prediccion_id", "registrado"),
    Index(None, "gateway_id", "seq"),
    comment="what doctors say of predictions; all are kept, the last of each counts",
)

DUPLICADOS = Table(
    "duplicados",
    METADATA,
    Column("gateway_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("prediccion_id", UUID_TEXT, nullable=False, comment="the row with the same question and answer"),
    Column("recibido", UtcTimestamp, nullable=False),
    PrimaryKeyConstraint("gateway_id", "seq"),
    comment="answers that were recorded already under another gateway or seq: one request, repeated",
)

CUARENTENA = Table(
    "cuarentena",
    METADATA,
    Column("id", BIG_KEY, Identity(), primary_key=True),
    Column("recibido", UtcTimestamp, nullable=False),
    Column("motivo", Text, nullable=False, comment="why it was not recorded, without patient values"),
    Column("gateway_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("cuerpo", LargeBinary, nullable=False, comment="the event, byte by byte as received"),
    Column("prediccion_id", UUID_TEXT, nullable=True, comment="the id in the event, where it could be read"),
    Column(
        "huella",
        Text,
        nullable=False,
        server_default="",  # a recorder of version 0.1 on the same database writes none
        comment="SHA-256 of the event as received: other bytes are another row",
    ),
    Column("cabeceras", Text, nullable=True, comment="of a whole message: what it claims, and its proof, as JSON"),
    UniqueConstraint("gateway_id", "seq", "huella"),
    comment="deliveries that could not be recorded and wait for a person",
)

GATEWAYS = Table(
    "gateways",
    METADATA,
    Column("gateway_id", Text, primary_key=True),
    Column("respondidas", BigInteger, nullable=False, comment="its last seq"),
    Column("pendiente_desde", BigInteger, nullable=False, comment="every seq below it has left its outbox"),
    Column("visto", UtcTimestamp, nullable=False, comment="when it last said so, UTC"),
    Column(
        "al_dia",
        UtcTimestamp,
        nullable=True,
        comment="when that was read here with no event waiting in the queue, UTC; NULL: some waited",
    ),
    Column("asentado", BigInteger, nullable=False, comment="every seq below it must be recorded or set aside"),
    comment="what each gateway last said of its outbox; for the account of what was answered",
)

OLVIDADAS = Table(
    "reclamaciones_olvidadas",
    METADATA,
    Column("gateway_id", Text, nullable=False),
    Column("despues_de", BigInteger, nullable=False, comment="numbers above it do not count"),
    Column("hasta", UtcTimestamp, nullable=False, comment="if they were recorded here until then, UTC"),
    PrimaryKeyConstraint("gateway_id", "hasta"),
    comment="numbers that an operator took out of the account of a gateway; the rows stay",
)

CLAVES = Table(
    "claves_gateway",
    METADATA,
    Column("gateway_id", Text, primary_key=True, comment="the fingerprint of its public key"),
    Column("clave", Text, nullable=False, comment="its public key, Ed25519, in hexadecimal"),
    Column("origen", Text, nullable=False, comment="secreto: by the site's enrolment secret; operador: by a command"),
    Column("alta", UtcTimestamp, nullable=False, comment="when it was enrolled, UTC"),
    Column("baja", UtcTimestamp, nullable=True, comment="when it was revoked, UTC, for good; NULL: it is not"),
    comment="the gateways whose messages are recorded",
)

DICCIONARIO = Table(
    "diccionario",
    METADATA,
    Column("vista", Text, nullable=False, comment="the view that has the column"),
    Column("nombre", Text, nullable=False, comment="the column"),
    Column("tipo", Text, nullable=False),
    Column("significado", Text, nullable=False),
    Column("unidad", Text, nullable=True, comment="of the value and of the ranges"),
    Column("minimo", Double, nullable=True, comment="below it a value is refused"),
    Column("maximo", Double, nullable=True, comment="above it a value is refused"),
    Column("referencia_minimo", Double, nullable=True, comment="below it the doctor is warned"),
    Column("referencia_maximo", Double, nullable=True, comment="above it the doctor is warned"),
    Column("valores", Text, nullable=True, comment="what a category may be"),
    Column("desde", UtcTimestamp, nullable=False, comment="since when it has meant this, UTC"),
    Column("desde_paciente", Text, nullable=False, comment="paciente_digest of the class it came with"),
    Column("hasta", UtcTimestamp, nullable=True, comment="until when; NULL: to this day"),
    PrimaryKeyConstraint("vista", "nombre", "desde"),
    comment="what each column of the analysts' views means; written from the patient class",
)

OF_EVENTS = (PREDICCIONES, RESULTADOS, DUPLICADOS, CUARENTENA, GATEWAYS, CLAVES)
"""The tables without which nothing can be recorded."""
