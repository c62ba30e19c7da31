"""The tables. Every change here needs a migration; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
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

from services.recorder.db.types import BIG_KEY, JSON_DOCUMENT, UUID_TEXT, UtcTimestamp

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PREDICCIONES = Table(
    "predicciones",
    METADATA,
    Column("id", UUID_TEXT, primary_key=True, comment="the prediction's, a UUID: makes recording idempotent"),
    Column("timestamp", UtcTimestamp, nullable=False, comment="when it was answered, UTC"),
    Column("inputs", JSON_DOCUMENT, nullable=False, comment="the patient as asked"),
    Column("output", Text, nullable=False, comment="the class answered"),
    Column("probabilidad", Double, nullable=False, comment="of that class, 0 to 1"),
    Column("probabilidades", JSON_DOCUMENT, nullable=False, comment="per class, 0 to 1"),
    Column("modelo", Text, nullable=False, comment="name of the model that answered"),
    Column("modelo_version", Text, nullable=False, comment="its version in the registry"),
    Column("modelo_digest", Text, nullable=False, comment="SHA-256 of its manifest"),
    Column("paciente_digest", Text, nullable=False, comment="SHA-256 of the patient class it was asked with"),
    Column("gateway_id", Text, nullable=False, comment="who answered"),
    Column("seq", BigInteger, nullable=False, comment="counts that gateway's answers, from 1, without gaps"),
    Column("hash", Text, nullable=False, comment="SHA-256 of question and answer"),
    Column("referencia", Text, nullable=True, comment="the doctor's reference to the patient, as keyed hash"),
    Column(
        "plausibles", JSON_DOCUMENT, nullable=True, comment="classes not ruled out, likeliest first; NULL: not known"
    ),
    Column("registrado", UtcTimestamp, nullable=False, comment="when it was recorded here, UTC"),
    Index(None, "timestamp"),
    Index(None, "output", "timestamp"),
    Index(None, "modelo_version", "timestamp"),
    Index(None, "gateway_id", "seq"),
    Index(None, "referencia", "timestamp"),
)

RESULTADOS = Table(
    "resultados",
    METADATA,
    Column("id", UUID_TEXT, primary_key=True, comment="the outcome's, a UUID: makes recording idempotent"),
    Column("timestamp", UtcTimestamp, nullable=False, comment="when the doctor said it, UTC"),
    Column("prediccion_id", UUID_TEXT, nullable=False, comment="of which prediction, which may be recorded later"),
    Column("aceptada", Boolean, nullable=False, comment="whether the answer holds"),
    Column("diagnostico", Text, nullable=True, comment="the class that holds instead; NULL if it was accepted"),
    Column("motivo", Text, nullable=True, comment="why, in the doctor's words: PATIENT DATA"),
    Column("gateway_id", Text, nullable=False, comment="who took it"),
    Column("seq", BigInteger, nullable=False, comment="its number among all that gateway answered"),
    Column("hash", Text, nullable=False, comment="SHA-256 of what was said"),
    Column("registrado", UtcTimestamp, nullable=False, comment="when it was recorded here, UTC"),
    Index(None, "prediccion_id", "timestamp"),
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
    UniqueConstraint("gateway_id", "seq"),
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
