"""Contract of the analysts' view and dictionary, run on SQLite and on PostgreSQL.

A test file imports everything from this module and defines the fixture `target`, as for `tests.support.recorder_suite`.
"""

import json
import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import pytest
from alembic import command
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, inspect, text
from structlog.testing import capture_logs

from services.recorder.analysts.grants import serve_analysts
from services.recorder.db.database import Database, open_database
from services.recorder.db.migrate import alembic_config
from services.recorder.db.tables import PREDICCIONES
from services.recorder.ingest.store import Store
from services.recorder.metrics import Metrics
from shared.contracts.events import write_prediction
from shared.contracts.scoring import ModelFacts, Score
from shared.contracts.transport import Delivery
from shared.database_url import read_url
from shared.diseases.thyroid import DatosPaciente
from shared.patient import Diagnosis, Disease, Patient, choice, flag, measure
from tests.support.recorder_suite import START, feedback_event
from tests.support.targets import Target

PAGE = Path(__file__).parents[2] / "docs/guides/analysts.md"
QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
LONG = "x" * 70
MADRID = ZoneInfo("Europe/Madrid")


class Anemia(Patient):
    disease: ClassVar[Disease] = Disease("anemia", "Anemia", (Diagnosis("no", "No"), Diagnosis("si", "Sí")))

    Hemoglobina: float | None = measure("Hemoglobina", unit="g/dL", limits=(2, 25), reference=(12, 17))
    output: Literal["a", "d'or"] | None = choice("Salida")
    id: int | None = measure("Identidad", unit="1", limits=(0, 9))
    paciente_id: bool = flag("Con documento")


class Renamed(Patient):
    """The same disease with another wording, another limit, a column more and two fewer."""

    disease: ClassVar[Disease] = Anemia.disease

    Hemoglobina: float | None = measure("Hemoglobina en sangre", unit="g/dL", limits=(2, 25), reference=(12, 17))
    id: int | None = measure("Identidad", unit="1", limits=(0, 99))
    ferritina: float | None = measure("Ferritina", unit="ng/mL", limits=(0.5, 10000))


class Long(Patient):
    disease: ClassVar[Disease] = Disease("larga" * 20, "Larga", (Diagnosis("no", "No"), Diagnosis("si", "Sí")))

    __annotations__ = {f"{LONG}{end}": float | None for end in "abcd"}
    locals().update({name: measure("Medida", unit="1", limits=(0, 9)) for name in __annotations__})


@asynccontextmanager
async def described(target: Target, *patients: type[Patient], zone: ZoneInfo = MADRID) -> AsyncIterator[Database]:
    """Open the database and create the view of each patient class, one after the other."""
    async with open_database(read_url(target.url), busy_seconds=20) as database:
        for patient in patients:
            await serve_analysts(database.writer, patient, zone)
        yield database


async def query(database: Database, sql: str) -> list[dict[str, Any]]:
    async with database.readers.connect() as connection:
        return [dict(row) for row in (await connection.execute(text(sql))).mappings()]


def answered(seq: int, patient: type[Patient], inputs: dict[str, Any], **facts: Any) -> Delivery:  # noqa: ANN401
    classes = patient.disease.classes
    probability = facts.get("probability", 0.75)
    model = ModelFacts(
        name=patient.disease.name,
        version=facts.get("version", "1"),
        digest="d" * 64,
        patient_digest=patient.digest,
        columns=(),
        classes=classes,
        prevalence={},
        low_prevalence=(),
        training_ranges={},
        never_missing=(),
    )
    output = facts.get("output", classes[0])
    rest = (1 - probability) / (len(classes) - 1)
    body = write_prediction(
        event_id=str(uuid.UUID(int=seq)),
        source="gateway",
        time=facts.get("time", START).isoformat(),
        inputs=inputs,
        output=output,
        score=Score([probability if name == output else rest for name in classes], model),
        plausible=facts.get("plausible"),
    )
    return Delivery("g1", seq, body)


async def record(database: Database, *batch: Delivery) -> None:
    await Store(database.writer, Metrics(CollectorRegistry())).record(batch)


def a_year_of_patients() -> Sequence[Delivery]:
    """Return a few hundred synthetic answers, in which every query of the docs finds rows."""
    classes = DatosPaciente.disease.classes
    deliveries = []
    for n in range(1, 361):
        patient = DatosPaciente(
            edad=n % 90,
            sexo="M" if n % 3 == 0 else "F",
            tsh=None if n % 11 == 0 else n / 40,
            t3=2.0,
            embarazo=n % 3 == 1 and n % 5 == 0,
        )
        facts = {
            "probability": 0.5 + n % 50 / 100,
            "version": str(9 + n // 200),
            "output": classes[n % len(classes)],
        } | {"plausible": classes[: n % 4] or None}
        deliveries.append(answered(n, DatosPaciente, patient.__dict__, time=START + timedelta(days=n), **facts))
    of = [str(uuid.UUID(int=n)) for n in range(1, 361)]
    feedback = [
        feedback_event(of[n], classes[n % 2] if n % 4 else None, time=START + timedelta(days=n))
        for n in range(0, 360, 3)
    ]
    return [*deliveries, *(Delivery("g1", 361 + n, body) for n, body in enumerate(feedback))]


def plain(value: Any) -> Any:  # noqa: ANN401 - a column's value
    """Convert a value of either database to one form: times and dates to ISO text, booleans to numbers."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, date | uuid.UUID):
        return str(value)
    return round(float(value), 9) if isinstance(value, int | float) or hasattr(value, "as_tuple") else value


async def query_plain(database: Database, sql: str) -> list[list[Any]]:
    """Return the rows of a query in a form and order that compare across databases."""
    return sorted(([plain(value) for value in row.values()] for row in await query(database, sql)), key=str)


@pytest.mark.parametrize("sql", QUERIES, ids=lambda sql: sql.splitlines()[0].strip("- "))
async def test_every_query_of_the_docs_returns_rows(target: Target, sql: str) -> None:
    async with described(target, DatosPaciente) as database:
        await record(database, *a_year_of_patients())
        assert await query(database, sql)


async def test_the_view_has_a_typed_column_per_feature(target: Target) -> None:
    patient = DatosPaciente(edad=41, sexo="F", tsh=0.1 + 0.2, t4_total=90, bocio=True)
    async with described(target, DatosPaciente) as database:
        await record(database, answered(1, DatosPaciente, patient.__dict__, version="7"))
        (row,) = await query(database, "SELECT * FROM predicciones_tiroides")

    values = {name: row[name] for name in DatosPaciente.columns}
    assert values == patient.__dict__
    assert all(isinstance(values[name], float) for name in ("tsh", "t4_total"))
    assert isinstance(values["edad"], int)
    assert (plain(row["timestamp"]), plain(row["dia"]), row["mes"]) == (plain(START), "2026-03-01", "2026-03")
    assert (row["output"], row["probabilidad"], row["modelo_version"]) == ("sin_alteracion", 0.75, "7")
    assert row["paciente_digest"] == DatosPaciente.digest


async def test_the_columns_of_the_view_keep_their_order_and_kinds(target: Target) -> None:
    async with described(target, Anemia) as database:
        await record(database, answered(1, Anemia, {}))
        (row,) = await query(database, "SELECT * FROM predicciones_anemia")
        kinds = {line["nombre"]: line["tipo"] for line in await query(database, "SELECT * FROM diccionario")}

    fixed = {
        "id": "texto",
        "timestamp": "momento",
        "dia": "fecha",
        "mes": "texto",
        "output": "categoría",
        "probabilidad": "número",
        "probabilidades": "JSON",
        "plausibles": "JSON",
        "modelo_version": "texto",
        "modelo_digest": "texto",
        "paciente_digest": "texto",
        "gateway_id": "texto",
        "registrado": "momento",
        "clave_id": "texto",
        "aceptada": "sí o no",
        "diagnostico_medico": "categoría",
        "resultado_timestamp": "momento",
        "resultado_clave_id": "texto",
        "modelo_version_numero": "entero",
        "concluyente": "sí o no",
        "plausibles_numero": "entero",
        "dia_local": "fecha",
    }
    assert list(row) == [*fixed, "hemoglobina", "paciente_output", "paciente_id", "paciente_paciente_id"]
    assert {name: kinds[name] for name in fixed} == fixed


async def test_text_finds_every_value_of_the_view(target: Target) -> None:
    patient = DatosPaciente(edad=41, sexo="F", tsh=0.1 + 0.2, embarazo=True)
    feedback = Delivery("g1", 2, feedback_event(str(uuid.UUID(int=1)), "hipotiroidismo"))
    recorded = answered(1, DatosPaciente, patient.__dict__, version="7", plausible=["sin_alteracion"])
    async with described(target, DatosPaciente) as database:
        await record(database, recorded, feedback)
        (row,) = await query(database, "SELECT * FROM predicciones_tiroides")
        values = {name: as_text(value) for name, value in row.items() if value is not None}
        found = {
            name: len(await query(database, f"SELECT id FROM predicciones_tiroides WHERE {name} = '{value}'"))  # noqa: S608 - ours
            for name, value in values.items()
        }

    assert {*DatosPaciente.columns} - {*values} == {"t3", "t4_total", "captacion_t4", "indice_t4_libre"}
    assert {name for name, count in found.items() if count != 1} == set()


def as_text(value: Any) -> str:  # noqa: ANN401 - a column's value
    """Write a value as a client that binds only text does: Datasette's facets, a form of the web."""
    plain_text = json.dumps(value) if isinstance(value, list | dict) else str(+value if value is True else value)
    return plain_text.replace(":", "\\:")  # no parameter of `text()`


async def test_version_10_comes_after_version_9(target: Target) -> None:
    async with described(target, DatosPaciente) as database:
        versions = ("9", "10", "ensayo", "9" * 19)
        await record(database, *(answered(1 + n, DatosPaciente, {}, version=each) for n, each in enumerate(versions)))
        numbers = await query(
            database, "SELECT modelo_version, modelo_version_numero AS numero FROM predicciones_tiroides"
        )
        ordered = [
            [row["version"] for row in await query(database, sql) if row["version"] is not None]
            for sql in QUERIES
            if "AS version" in sql
        ]
        (since,) = {
            row["desde_version"] for sql in QUERIES if "desde_version" in sql for row in await query(database, sql)
        }

    assert {row["modelo_version"]: row["numero"] for row in numbers} == dict(
        zip(versions, (9, 10, None, None), strict=True)
    )
    assert since == 9
    assert ordered
    assert all(versions in ([], [9, 10]) for versions in ordered)


@pytest.mark.parametrize(("plausible", "expected"), [(None, [None, None]), (["no"], [1, 1]), (["no", "si"], [0, 2])])
async def test_the_view_shows_whether_an_answer_was_conclusive(
    target: Target, plausible: list[str] | None, expected: list[int | None]
) -> None:
    async with described(target, Anemia) as database:
        await record(database, answered(1, Anemia, {}, plausible=plausible))
        rows = await query_plain(database, "SELECT concluyente, plausibles_numero FROM predicciones_anemia")

    assert rows == [expected]


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("Europe/Madrid", "2026-07-01T21:59:59.999999", "2026-07-01"),
        ("Europe/Madrid", "2026-07-01T22:00:00", "2026-07-02"),
        ("Europe/Madrid", "2025-12-31T22:59:59.999999", "2025-12-31"),
        ("Europe/Madrid", "2025-12-31T23:00:00", "2026-01-01"),
        ("America/Santiago", "2026-04-05T02:59:59", "2026-04-04"),  # the clock went back from 24:00 to 23:00
        ("America/Santiago", "2026-04-05T03:59:59", "2026-04-04"),
        ("America/Santiago", "2026-04-05T04:00:00", "2026-04-05"),
        ("Asia/Kathmandu", "2026-03-01T18:14:59", "2026-03-01"),
        ("Asia/Kathmandu", "2026-03-01T18:15:00", "2026-03-02"),
        ("UTC", "2026-03-01T23:59:59.999999", "2026-03-01"),
    ],
)
async def test_the_local_day_is_that_of_the_clinic(target: Target, zone: str, moment: str, day: str) -> None:
    time = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    async with described(target, DatosPaciente, zone=ZoneInfo(zone)) as database:
        await record(database, answered(1, DatosPaciente, {}, time=time))
        shown = await query_plain(database, "SELECT dia_local FROM predicciones_tiroides")
        meaning = "SELECT significado FROM diccionario WHERE nombre = 'dia_local'"
        meanings = await query_plain(database, meaning)

    assert (shown, meanings) == ([[day]], [[f"Día en que se respondió, en la hora de {zone}"]])


async def test_the_view_shows_the_feedback_that_was_recorded_last(target: Target) -> None:
    of = [str(uuid.UUID(int=n)) for n in (1, 2, 3, 5)]
    later, latest = START + timedelta(hours=1), START + timedelta(hours=2)
    feedback = [
        feedback_event(of[0], "hipotiroidismo", time=later),
        feedback_event(of[1], time=latest),
        feedback_event(of[1], "hipotiroidismo", time=later),
        feedback_event(of[2], "hipotiroidismo", time=later, event_id=str(uuid.UUID(int=9))),
        feedback_event(of[2], time=later, event_id=str(uuid.UUID(int=8))),
        feedback_event(of[3], "sin_alteracion", time=later),
    ]
    async with described(target, DatosPaciente) as database:
        await record(database, *(Delivery("g1", 9 + n, body) for n, body in enumerate(feedback)))
        await record(database, *(answered(n, DatosPaciente, {}) for n in range(1, 6)))
        sql = "SELECT aceptada, diagnostico_medico, resultado_timestamp FROM predicciones_tiroides ORDER BY id"
        rows = [[plain(value) for value in row.values()] for row in await query(database, sql)]

    assert rows == [
        [0, "hipotiroidismo", plain(later)],
        [0, "hipotiroidismo", plain(later)],
        [1, "sin_alteracion", plain(later)],
        [None, None, None],
        [1, "sin_alteracion", plain(later)],
    ]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"edad": 41.0, "tsh": 5, "sexo": "otro", "bocio": False}, (41, 5.0, "otro", 0)),
        ({"edad": "41", "tsh": True, "sexo": 3, "bocio": "sí"}, (None, None, None, None)),
        ({"edad": 41.5, "tsh": [1], "sexo": None, "bocio": 1}, (None, None, None, None)),
        ({"edad": 1e300, "tsh": 1e300, "sexo": {"a": 1}, "bocio": None}, (None, 1e300, None, None)),
        ({}, (None, None, None, None)),
    ],
)
async def test_values_of_another_type_are_null_in_the_view(
    target: Target, inputs: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """Such as of an earlier class, or of a recorder that did not check them yet."""

    def change(connection: Connection) -> None:
        connection.execute(PREDICCIONES.update().values(inputs=inputs))

    async with described(target, DatosPaciente) as database:
        await record(database, answered(1, DatosPaciente, {}))
        await database.writer.transaction(change)
        (row,) = await query(database, "SELECT edad, tsh, sexo, bocio FROM predicciones_tiroides")

    assert tuple(row.values()) == expected


async def test_diseases_share_a_database_and_taken_names_are_prefixed(target: Target) -> None:
    inputs = {"Hemoglobina": 9.5, "output": "d'or", "id": 7, "paciente_id": True}
    async with described(target, DatosPaciente, Anemia, Long) as database:
        await record(
            database,
            answered(1, Anemia, inputs),
            answered(2, Long, {f"{LONG}{end}": n for n, end in enumerate("abcd")}),
        )
        assert await query(database, "SELECT * FROM predicciones_tiroides") == []
        (anemia,) = await query(
            database, "SELECT hemoglobina, paciente_output, paciente_id, paciente_paciente_id FROM predicciones_anemia"
        )
        (long,) = await query(database, f'SELECT * FROM "{("predicciones_" + "larga" * 20)[:63]}"')  # noqa: S608 - ours
        names = await query(database, "SELECT nombre FROM diccionario WHERE vista = 'predicciones_anemia'")

    assert list(anemia.values()) == [9.5, "d'or", 7, True]
    assert list(long.items())[-4:] == [
        ("x" * 63, 0.0),
        (f"paciente_{'x' * 54}", 1.0),
        (f"{'x' * 60}_2", 2.0),
        (f"{'x' * 60}_3", 3.0),
    ]
    assert set(anemia) <= {row["nombre"] for row in names}


async def test_the_dictionary_describes_the_patient_class(target: Target) -> None:
    async with described(target, DatosPaciente) as database:
        lines = {row["nombre"]: row for row in await query(database, "SELECT * FROM diccionario")}
        columns = [row["nombre"] for row in lines.values()]
        view = await query(database, "SELECT * FROM predicciones_tiroides")
        await record(database, answered(1, DatosPaciente, {}))
        view = await query(database, "SELECT * FROM predicciones_tiroides")

    assert set(view[0]) == set(columns)
    tsh = lines["tsh"]
    assert (tsh["significado"], tsh["unidad"], tsh["tipo"]) == ("TSH", "mU/L", "número")
    assert [tsh[name] for name in ("minimo", "maximo", "referencia_minimo", "referencia_maximo")] == [
        0.001,
        1000,
        0.2,
        6,
    ]
    assert lines["sexo"]["valores"] == "F, M"
    assert "hipotiroidismo = Hipotiroidismo" in lines["output"]["valores"]
    assert tsh["desde_paciente"] == DatosPaciente.digest
    assert tsh["hasta"] is None


async def test_a_changed_class_replaces_the_view_and_keeps_old_meanings(target: Target) -> None:
    async with described(target, Anemia, Renamed) as database:
        await record(database, answered(1, Anemia, {"Hemoglobina": 9.5}), answered(2, Renamed, {"ferritina": 3.5}))
        rows = await query(database, "SELECT hemoglobina, ferritina FROM predicciones_anemia ORDER BY id")
        lines = await query(database, "SELECT * FROM diccionario ORDER BY nombre, desde")

    assert [tuple(row.values()) for row in rows] == [(9.5, None), (None, 3.5)]
    meanings = {
        name: [(row["maximo"], row["desde_paciente"], row["hasta"] is None) for row in lines if row["nombre"] == name]
        for name in ("hemoglobina", "paciente_id", "paciente_output", "ferritina")
    }
    assert meanings == {
        "hemoglobina": [(25, Anemia.digest, True)],
        "paciente_id": [(9, Anemia.digest, False), (99, Renamed.digest, True)],
        "paciente_output": [(None, Anemia.digest, False)],
        "ferritina": [(10000, Renamed.digest, True)],
    }
    assert next(row["significado"] for row in lines if row["nombre"] == "hemoglobina") == "Hemoglobina en sangre"


async def test_a_start_with_the_same_class_changes_nothing(target: Target) -> None:
    with capture_logs() as logs:
        async with described(target, Anemia) as database:
            before = await query(database, "SELECT * FROM diccionario ORDER BY nombre")
            await serve_analysts(database.writer, Anemia, MADRID)
            assert await query(database, "SELECT * FROM diccionario ORDER BY nombre") == before

    assert [log["event"] for log in logs] == ["analysts_view_refreshed"]


async def test_migrations_can_be_reverted_below_the_views(target: Target) -> None:
    def undo(connection: Connection) -> tuple[list[str], list[str]]:
        command.downgrade(alembic_config(connection), "base")
        return inspect(connection).get_table_names(), inspect(connection).get_view_names()

    async with described(target, DatosPaciente, Anemia) as database:
        assert await database.writer.transaction(undo) == (["alembic_version"], [])
