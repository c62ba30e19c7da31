"""The read API in process, for doctors, analysts and operators."""

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.gateway.key_admin import create
from services.recorder.api.models import Filtro
from services.recorder.api.queries import LONGEST_PAGE
from services.recorder.app import Recorder, open_recorder
from services.recorder.settings import RecorderSettings
from shared.contracts.event_batches import LARGEST_SEQ
from shared.contracts.transport import OutboxState, TransportDownError
from shared.settings import SettingsError
from shared.web.api_keys import ApiKeyStore, Role
from shared.web.hosting import StartError, edge_app, http_app
from tests.support.recorder_suite import START, delivery, event, feedback_event


def settings(url: str) -> RecorderSettings:
    return RecorderSettings(database_url=SecretStr(url))


@asynccontextmanager
async def served(folder: Path, *states: OutboxState) -> AsyncIterator[tuple[Recorder, httpx.AsyncClient]]:
    async def outboxes() -> Sequence[OutboxState]:
        return states

    registry = CollectorRegistry()
    async with open_recorder(settings(f"sqlite:///{folder}/predicciones.db"), registry, outboxes) as recorder:
        app = http_app("test", recorder.part, registry=registry)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield recorder, client


async def test_a_published_event_is_listed_and_found_by_its_id(tmp_path: Path) -> None:
    body = event()
    sent = orjson.loads(body)
    async with served(tmp_path) as (recorder, client):
        assert await recorder.store.publish([delivery(1, body)]) == {1}
        page = (await client.get("/predicciones")).json()
        one = await client.get(f"/predicciones/{sent['id'].upper()}")

    assert page["siguiente"] is None
    (listed,) = page["predicciones"]
    assert listed | {"resultados": []} == one.json()
    assert listed.pop("registrado").endswith("Z")
    assert listed == {
        "id": sent["id"],
        "timestamp": "2026-03-01T12:00:00Z",
        "inputs": sent["data"]["inputs"],
        "output": "negativo",
        "probabilidad": sent["data"]["probabilidad"],
        "probabilidades": sent["data"]["probabilidades"],
        "modelo": "tiroides",
        "modelo_version": "3",
        "modelo_digest": "d" * 64,
        "paciente_digest": "a" * 64,
        "gateway_id": "g1",
        "seq": 1,
        "hash": sent["datahash"],
        "referencia": None,
        "plausibles": None,
        "clave_id": None,
        "resultado": None,
    }


async def test_the_fields_of_a_prediction_keep_their_order(tmp_path: Path) -> None:
    body = event()
    of = orjson.loads(body)["id"]
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(1, body), delivery(2, feedback_event(of))])
        [listed] = (await client.get("/predicciones")).json()["predicciones"]
        one = (await client.get(f"/predicciones/{of}")).json()

    fields = (
        "id timestamp inputs output probabilidad probabilidades modelo modelo_version modelo_digest paciente_digest "
        "gateway_id seq hash referencia plausibles registrado clave_id resultado"
    )
    assert list(listed) == fields.split()
    assert list(one) == [*fields.split(), "resultados"]
    assert list(listed["resultado"]) == ["aceptada", "diagnostico", "motivo", "timestamp", "clave_id"]


async def test_feedback_is_listed_newest_first(tmp_path: Path) -> None:
    body = event(reference="5f" * 32, plausible=["negativo", "hipertiroidismo"])
    of = orjson.loads(body)["id"]
    feedback = [
        feedback_event(of),
        feedback_event(of, "hipertiroidismo", time=START + timedelta(hours=1), reason="otra prueba"),
    ]
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(seq, content) for seq, content in enumerate([body, *feedback], 1)])
        page = (await client.get("/predicciones", params={"referencia": "5f" * 32})).json()
        one = (await client.get(f"/predicciones/{of}")).json()
        nobody = (await client.get("/predicciones", params={"referencia": "a" * 64})).json()

    [listed] = page["predicciones"]
    last = {
        "aceptada": False,
        "diagnostico": "hipertiroidismo",
        "motivo": "otra prueba",
        "timestamp": "2026-03-01T13:00:00Z",
        "clave_id": None,
    }
    moment = "2026-03-01T12:00:00Z"
    first = {"aceptada": True, "diagnostico": None, "motivo": None, "timestamp": moment, "clave_id": None}
    assert (listed["referencia"], listed["resultado"]) == ("5f" * 32, last)
    assert listed["plausibles"] == ["negativo", "hipertiroidismo"]
    assert one == listed | {"resultados": [last, first]}
    assert nobody["predicciones"] == []


async def test_an_analyst_gets_neither_references_nor_reasons(tmp_path: Path) -> None:
    body = event(reference="5f" * 32)
    of = orjson.loads(body)["id"]
    keys = {role: create(tmp_path / "access.json", role)[0] for role in (Role.MEDICO, Role.ANALISTA)}
    async with served(tmp_path) as (recorder, _):
        feedback = feedback_event(of, "hipertiroidismo", reason="otra prueba")
        await recorder.store.publish([delivery(1, body), delivery(2, feedback)])
        app = http_app("test", recorder.part, registry=CollectorRegistry())
        transport = httpx.ASGITransport(edge_app(app, "localhost", ApiKeyStore(tmp_path / "access.json")))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            paths = ("/predicciones", f"/predicciones/{of}", f"/predicciones?referencia={'5f' * 32}")
            answers = {
                role: [await client.get(path, headers={"Authorization": f"Bearer {key}"}) for path in paths]
                for role, key in keys.items()
            }

    assert [answer.status_code for answer in answers[Role.MEDICO]] == [200, 200, 200]
    assert all("5f5f" in answer.text and "otra prueba" in answer.text for answer in answers[Role.MEDICO])
    assert [answer.status_code for answer in answers[Role.ANALISTA]] == [200, 200, 403]
    assert not any("5f5f" in answer.text or "otra prueba" in answer.text for answer in answers[Role.ANALISTA])
    assert {answer.headers["cache-control"] for answer in answers[Role.MEDICO]} == {"no-store"}
    one = answers[Role.ANALISTA][1].json()
    assert [row["diagnostico"] for row in one["resultados"]] == ["hipertiroidismo"]


async def test_an_analyst_sees_the_keys_of_requests_and_doctors_do_not(tmp_path: Path) -> None:
    body = event(key_id="3f9c0a61b2d4")
    of = orjson.loads(body)["id"]
    keys = {role: create(tmp_path / "access.json", role)[0] for role in (Role.MEDICO, Role.ANALISTA)}
    async with served(tmp_path) as (recorder, _):
        feedback = feedback_event(of, key_id="b2d43f9c0a61")
        await recorder.store.publish([delivery(1, body), delivery(2, feedback)])
        app = http_app("test", recorder.part, registry=CollectorRegistry())
        transport = httpx.ASGITransport(edge_app(app, "localhost", ApiKeyStore(tmp_path / "access.json")))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            shown = {}
            for role, key in keys.items():
                headers = {"Authorization": f"Bearer {key}"}
                [listed] = (await client.get("/predicciones", headers=headers)).json()["predicciones"]
                one = (await client.get(f"/predicciones/{of}", headers=headers)).json()
                rows = [listed, listed["resultado"], one, one["resultado"], *one["resultados"]]
                shown[role] = [row["clave_id"] for row in rows]

    asked, answered = "3f9c0a61b2d4", "b2d43f9c0a61"
    assert shown[Role.ANALISTA] == [asked, answered, asked, answered, answered]
    assert shown[Role.MEDICO] == [None] * 5


async def test_at_most_the_last_hundred_rows_of_feedback_are_shown(tmp_path: Path) -> None:
    body = event()
    of = orjson.loads(body)["id"]
    feedback = [feedback_event(of, time=START + timedelta(minutes=minute)) for minute in range(102)]
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(seq, content) for seq, content in enumerate([body, *feedback], 1)])
        times = [row["timestamp"] for row in (await client.get(f"/predicciones/{of}")).json()["resultados"]]

    assert (len(times), times[0], times[-1]) == (100, "2026-03-01T13:41:00Z", "2026-03-01T12:02:00Z")


async def test_pages_follow_their_cursor(tmp_path: Path) -> None:
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(seq) for seq in range(1, 8)])
        read: list[int] = []
        query: dict[str, Any] | None = {"limite": 3, "desde": "2026-03-01", "hasta": "2026-03-01T12:00:01Z"}
        while query is not None:
            page = (await client.get("/predicciones", params=query)).json()
            read += [row["seq"] for row in page["predicciones"]]
            query = {**query, "cursor": page["siguiente"]} if page["siguiente"] else None

    assert sorted(read) == [1, 2, 3, 4, 5, 6, 7]


async def test_a_page_of_long_rows_has_fewer_and_the_next_has_the_others(tmp_path: Path) -> None:
    """A gateway may record rows of up to 1 MiB, and one page of those would take all memory."""
    names = [f"{n:x}".ljust(400, "-") for n in range(2500)]
    async with served(tmp_path) as (recorder, client):
        for seq in range(1, 8):
            await recorder.store.publish([delivery(seq, with_classes(names))])
        sizes, listed, cursor = [], [], ""
        while cursor is not None:
            page = (await client.get("/predicciones", params={"cursor": cursor} if cursor else {})).json()
            sizes.append(len(orjson.dumps(page)))
            listed += [row["seq"] for row in page["predicciones"]]
            cursor = page["siguiente"]
    assert sorted(listed) == list(range(1, 8))
    assert len(sizes) == 2
    assert max(sizes) < LONGEST_PAGE + (1 << 20)


def with_classes(names: Sequence[str]) -> bytes:
    """Return an event whose answer has these classes, too."""
    good = orjson.loads(event())
    good["data"]["probabilidades"] |= dict.fromkeys(names, 0.0)
    return orjson.dumps(good | {"datahash": hashlib.sha256(orjson.dumps(good["data"])).hexdigest()})


async def test_filters_reach_the_query(tmp_path: Path) -> None:
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(1, event(version="4")), delivery(2, event(output="hipertiroidismo"))])

        async def seqs(**query: str) -> list[int]:
            return [row["seq"] for row in (await client.get("/predicciones", params=query)).json()["predicciones"]]

        assert await seqs(modelo_version="4") == [1]
        assert await seqs(output="hipertiroidismo") == [2]
        assert await seqs(desde="2026-03-01T12:00:00") != []
        assert await seqs(desde="2026-03-01T12:00:00-05:00") == []
        assert await seqs(hasta="2026-03-01T12:00:00") == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-01", "2026-03-01T00:00:00Z"),
        ("20260301", "2026-03-01T00:00:00Z"),
        ("2026-03-01T12:00", "2026-03-01T12:00:00Z"),
        ("2026-03-01 12:00:00.5", "2026-03-01T12:00:00.500000Z"),
        ("2026-03-01t12:00:00z", "2026-03-01T12:00:00Z"),
        ("2026-03-01T12:00:00+02:00", "2026-03-01T10:00:00Z"),
    ],
)
def test_a_filter_takes_dates_and_moments(written: str, meant: str) -> None:
    assert Filtro.model_validate({"desde": written}).model_dump(mode="json")["desde"] == meant


async def test_a_diagnosis_of_an_earlier_class_can_be_looked_for(tmp_path: Path) -> None:
    async with served(tmp_path) as (recorder, client):
        assert (await client.get("/predicciones?output=negativo")).status_code == 422
        await recorder.store.publish([delivery(1, event(output="negativo"))])
        assert len((await client.get("/predicciones?output=negativo")).json()["predicciones"]) == 1
        possible = await client.get("/predicciones?output=hipotiroidismo")
        assert (possible.status_code, possible.json()["predicciones"]) == (200, [])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limite=501", "limite"),
        ("limite=0", "limite"),
        ("cursor=zzz", "cursor"),
        ("desde=ayer", "desde"),
        ("desde=2026", "desde"),
        ("desde=1767225600", "desde"),
        ("desde=-1", "desde"),
        ("desde=1e9", "desde"),
        ("desde=2026-01", "desde"),
        ("desde=2026-02-30", "desde"),
        ("desde=", "desde"),
        ("hasta=0", "hasta"),
        ("hasta=0001-01-01T00:00:00%2B14:00", "hasta"),
        ("hasta=9999-12-31T23:59:59-14:00", "hasta"),
        ("desde=2026-03-01T12:00:00Z%00", "desde"),
        ("output=desconocido", "output"),
        ("output=", "output"),
        ("output=a%00", "output"),
        ("modelo_version=%00", "modelo_version"),
        ("x=1", "x"),
        ("referencia=Juana", "referencia"),
    ],
)
async def test_a_wrong_parameter_is_named(tmp_path: Path, query: str, field: str) -> None:
    async with served(tmp_path) as (_, client):
        answer = await client.get(f"/predicciones?{query}")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["campo"] for error in answer.json()["errores"]] == [field]


@pytest.mark.parametrize("unknown", ["0190a1b2-0000-7000-8000-000000000001", "nada"])
async def test_an_unknown_prediction_is_a_problem_in_spanish(tmp_path: Path, unknown: str) -> None:
    async with served(tmp_path) as (_, client):
        answer = await client.get(f"/predicciones/{unknown}")

    assert answer.status_code == 404
    assert answer.json()["detail"] == "No hay ninguna predicción registrada con ese id."


async def test_a_row_that_cannot_be_read_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    bodies = [event(time=START + timedelta(days=seq)) for seq in range(3)]
    first, spoilt, last = (orjson.loads(body)["id"] for body in bodies)
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(seq, body) for seq, body in enumerate(bodies, 1)])
        with closing(sqlite3.connect(tmp_path / "predicciones.db")) as other, other:
            other.execute("UPDATE predicciones SET probabilidad = 'nan' WHERE seq = 2")
        page = await client.get("/predicciones")
        one = await client.get(f"/predicciones/{spoilt}")

    assert page.status_code == 200
    assert [row["id"] for row in page.json()["predicciones"]] == [last, first]
    assert page.json()["ilegibles"] == [spoilt]
    assert one.status_code == 500
    assert one.json()["detail"].startswith("La fila de esta predicción no se puede leer")


async def test_the_account_sums_rows_duplicates_quarantine_and_outbox(tmp_path: Path) -> None:
    body = event()
    async with served(tmp_path, OutboxState("g1", 6, 5)) as (recorder, client):
        await recorder.store.publish([delivery(1), delivery(2, body), delivery(3, body), delivery(4, b"unreadable")])
        account = (await client.get("/conciliacion")).json()

    expected = {"respondidas": 6, "registradas": 2, "duplicadas": 1, "en_outbox": 2, "en_cuarentena": 1}
    visto = account["gateways"][0].pop("visto")
    assert abs(datetime.fromisoformat(visto) - datetime.now(UTC)) < timedelta(minutes=1)
    rest = {"en_camino": 0, "en_silencio": False, "diferencia": 0, "sin_respaldo": None}
    assert account == {
        "gateways": [{"gateway_id": "g1", **expected, **rest}],
        "otros": {"gateways": 0, "filas": 0},
        "diferencia": 0,
    }


async def test_a_number_that_rows_do_not_support_is_named_and_in_no_sum(tmp_path: Path) -> None:
    async with served(tmp_path, OutboxState("g1", 2, 3)) as (recorder, client):
        await recorder.store.publish([delivery(1), delivery(2), delivery(LARGEST_SEQ, b"forged")])
        account = (await client.get("/conciliacion")).json()

    (own,) = account["gateways"]
    assert (own["sin_respaldo"], own["respondidas"], own["registradas"], own["en_cuarentena"]) == (LARGEST_SEQ, 2, 2, 0)
    assert account["diferencia"] == 0


async def test_missing_answers_of_all_gateways_are_summed(tmp_path: Path) -> None:
    async with served(tmp_path, OutboxState("g1", 3, 4)) as (recorder, client):
        await recorder.store.publish([delivery(2), delivery(3, gateway="g2")])
        account = (await client.get("/conciliacion")).json()

    assert [gateway["diferencia"] for gateway in account["gateways"]] == [2, 2]
    assert account["diferencia"] == 4


async def test_readiness_fails_while_the_database_cannot_be_written(tmp_path: Path) -> None:
    async with served(tmp_path) as (recorder, client):
        assert (await client.get("/health/ready")).status_code == 200
        other = sqlite3.connect(tmp_path / "predicciones.db", isolation_level=None)
        other.execute("ALTER TABLE predicciones RENAME TO hidden")
        with pytest.raises(TransportDownError):
            await recorder.store.publish([delivery(1)])
        answer = await client.get("/health/ready")
        unread = await client.get("/predicciones")
        other.execute("ALTER TABLE hidden RENAME TO predicciones")
        other.close()
        await recorder.store.publish([delivery(1)])
        again = await client.get("/health/ready")

    assert answer.status_code == 503
    assert answer.json()["motivos"].keys() == {"base_de_datos"}
    assert (unread.status_code, unread.headers["retry-after"]) == (503, "2")
    assert again.status_code == 200


async def test_metrics_count_without_patients(tmp_path: Path) -> None:
    async with served(tmp_path) as (recorder, client):
        await recorder.store.publish([delivery(1), delivery(2, b"unreadable")])
        metrics = (await client.get("/metrics")).text

    assert "predecir_recorder_predictions_recorded_total 1.0" in metrics
    assert 'predecir_recorder_quarantined_total{kind="unreadable"} 1.0' in metrics
    assert "predecir_recorder_batch_events_sum 2.0" in metrics


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:p@localhost/db",
        "postgres://u:p@localhost/",
        "postgresql+asyncpg://u:p@localhost/db",
        "postgresql://localhost/db",
        "postgresql://u:p@localhost",
        "postgresql://u:p@localhost:port/db",
        "postgresql://u:p@localhost/db?keepalives=1",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///x.db",
        "predicciones.db",
    ],
)
async def test_any_other_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^settings: DATABASE_URL: expected .+\(see .env.example\)$") as caught:
        async with open_recorder(settings(url), CollectorRegistry()):
            pass
    assert "u:p@" not in str(caught.value)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"/nowhere/p\.db: .*No such file.*; create its folder, or change") as caught:
        async with open_recorder(settings(f"sqlite:///{tmp_path}/nowhere/p.db"), CollectorRegistry()):
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
async def test_a_file_that_is_not_utf_8_is_rejected(tmp_path: Path, encoding: str) -> None:
    other = sqlite3.connect(tmp_path / "p.db")
    other.executescript(f"PRAGMA encoding = '{encoding}'; CREATE TABLE notes (id INTEGER)")
    other.close()

    with pytest.raises(StartError, match=f"^the database's encoding is {encoding} and must be UTF-8; create another"):
        async with open_recorder(settings(f"sqlite:///{tmp_path}/p.db"), CollectorRegistry()):
            pass


@pytest.mark.parametrize("made", ["text", "folder", "table", "newer"])
async def test_another_programs_file_is_rejected_and_not_changed(tmp_path: Path, made: str) -> None:
    path = tmp_path / "predicciones.db"
    statements = {
        "table": "CREATE TABLE predicciones (id INTEGER)",
        "newer": "CREATE TABLE alembic_version (version_num TEXT); INSERT INTO alembic_version VALUES ('9999')",
    }
    if made == "folder":
        path.mkdir()
    elif made == "text":
        path.write_text("nombre,edad\n" * 1000)
    else:
        other = sqlite3.connect(path)
        other.executescript(statements[made])
        other.close()

    with pytest.raises(StartError, match="database") as caught:
        async with open_recorder(settings(f"sqlite:///{path}"), CollectorRegistry()):
            pass

    assert "\n" not in str(caught.value)
    if made == "text":
        assert path.read_text() == "nombre,edad\n" * 1000
