"""Public names, as a fixed list: imports, commands, variables, routes, columns, fields, metrics.

A name may be added to a table here. A changed or removed name breaks a user's code, query or dashboard.
"""

import importlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry

from services.gateway.settings import GatewaySettings
from services.inference.settings import InferenceSettings
from services.local.app import open_local
from services.recorder.settings import RecorderSettings
from shared.artifacts.bundle import Manifest
from shared.contracts.events import KINDS
from shared.contracts.outbox_status import json_schema
from shared.patient import load_patient
from shared.web.hosting import Part, http_app
from tests.support.paths import ROOT
from training.settings import TrainingSettings

PATIENT_NAMES = """
    UNDECLARED About Case Diagnosis DiscardedRowError Disease Feature Kind Patient PatientClassError Range Remark
    choice flag load_patient measure rule_broken
"""

SERVICE_VARIABLES = """
    HOST PORT LOG_LEVEL DRAIN_SECONDS ALLOWED_HOSTS PREDECIR_PACIENTE PREDECIR_VAR PREDECIR_KEYS PREDECIR_FAILPOINT
    KEY_RATE KEY_BURST KEEP_ALIVE_SECONDS
"""
GATEWAY_VARIABLES = """
    BROKER_URL BROKER_PREFIX INFERENCE_URL INFERENCE_KEY REFERENCE_KEY_FILE GATEWAY_MAX_IN_FLIGHT
    GATEWAY_DEADLINE_SECONDS GATEWAY_IDEMPOTENCY_HOURS OUTBOX_MAX_EVENTS OUTBOX_MIN_FREE_MB RELAY_LINGER_MS
    RELAY_BATCH_EVENTS ACK_POLICY ACK_WAIT_MS ENROLMENT_SECRET_FILE
"""
INFERENCE_VARIABLES = """
    INFERENCE_BUNDLE MLFLOW_TRACKING_URI INFERENCE_POLL_SECONDS INFERENCE_MAX_BATCH INFERENCE_MAX_QUEUE
    INFERENCE_MAX_ROWS
"""
DATABASE_VARIABLES = " DATABASE_URL PGSSLMODE PGSSLROOTCERT PGSSLCERT PGSSLKEY PGCHANNELBINDING"
RECORDER_VARIABLES = (
    "CLINIC_TIME_ZONE BROKER_URL BROKER_PREFIX BROKER_MANAGEMENT_URL BROKER_PREFETCH ENROLMENT_SECRET_FILE"
    " RECORDER_MAX_GATEWAYS RECORDER_UNSIGNED_MESSAGES" + DATABASE_VARIABLES
)
TRAINING_VARIABLES = "PREDECIR_PACIENTE PREDECIR_VAR PREDECIR_FAILPOINT MLFLOW_TRACKING_URI" + DATABASE_VARIABLES

GATEWAY_ROUTES = {
    "GET /",
    "GET /pagina/{archivo}",
    "GET /modelo/ficha",
    "GET /modelos",
    "POST /predecir",
    "POST /predicciones/{id}/resultado",
    "POST /explicar",
    "POST /referencias",
}
RECORDER_ROUTES = {"GET /predicciones", "GET /predicciones/{id}", "GET /conciliacion"}
INFERENCE_ROUTES = {
    "GET /modelo",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/{name}",
    "GET /v2/models/{name}/card",
    "GET /v2/models/{name}/ready",
    "GET /v2/models/{name}/versions/{version}",
    "GET /v2/models/{name}/versions/{version}/ready",
    "POST /v2/models/{name}/infer",
    "POST /v2/models/{name}/versions/{version}/infer",
}

COLUMNS = {
    "predicciones": """
        id timestamp inputs output probabilidad probabilidades modelo modelo_version modelo_digest paciente_digest
        gateway_id seq hash registrado referencia plausibles clave_id
    """,
    "resultados": "id timestamp prediccion_id aceptada diagnostico motivo gateway_id seq hash registrado clave_id",
    "duplicados": "gateway_id seq prediccion_id recibido",
    "cuarentena": "id recibido motivo gateway_id seq cuerpo prediccion_id huella cabeceras",
    "claves_gateway": "gateway_id clave origen alta baja",
    "gateways": "gateway_id respondidas pendiente_desde visto al_dia asentado",
    "reclamaciones_olvidadas": "gateway_id despues_de hasta",
    "diccionario": """
        vista nombre tipo significado unidad minimo maximo referencia_minimo referencia_maximo valores desde
        desde_paciente hasta
    """,
    "predicciones_tiroides": """
        id timestamp dia mes output probabilidad probabilidades plausibles modelo_version modelo_digest
        paciente_digest gateway_id registrado clave_id aceptada diagnostico_medico resultado_timestamp
        resultado_clave_id modelo_version_numero concluyente plausibles_numero dia_local
        edad sexo tsh t3 t4_total captacion_t4 indice_t4_libre toma_tiroxina posible_tiroxina
        medicacion_antitiroidea enfermedad_aguda embarazo cirugia_tiroidea tratamiento_i131 sospecha_hipotiroidismo
        sospecha_hipertiroidismo litio bocio tumor hipopituitarismo trastorno_psiquiatrico
    """,
}

ATTRIBUTES = "specversion id type version source time datacontenttype datahash claveid data"
EVENT_DATA = {
    "prediccion.realizada": "inputs output probabilidad probabilidades modelo paciente referencia plausibles",
    "resultado.registrado": "prediccion aceptada diagnostico motivo",
}

MANIFEST_FIELDS = """
    format name version run_id created patient_digest columns classes prevalence low_prevalence training_ranges
    never_missing reference serves parity golden conformal metrics files libraries parameters data_hash git_commit
    git_dirty
"""

METRICS = """
    inference_batch_failures inference_batch_rows inference_batch_seconds inference_load_failures inference_model
    inference_model_loaded inference_model_refused inference_registry_seen_timestamp_seconds
    predecir_answer_seconds predecir_answers predecir_explanation_seconds predecir_model_scores
    predecir_outbox_pending predecir_outcomes predecir_recorder_batch_events predecir_recorder_batch_seconds
    predecir_recorder_batches_failed predecir_recorder_duplicates predecir_recorder_outcomes_recorded
    predecir_recorder_predictions_recorded predecir_recorder_quarantined predecir_refusals
    predecir_requests_in_flight
"""


def test_every_name_of_the_patient_module_is_imported_as_before() -> None:
    module = importlib.import_module("shared.patient")
    assert [name for name in PATIENT_NAMES.split() if not hasattr(module, name)] == []


def test_the_example_disease_is_found_by_its_path() -> None:
    assert load_patient("shared.diseases.thyroid:DatosPaciente").disease.name == "tiroides"


@pytest.mark.parametrize("service", ["gateway", "inference", "recorder", "local"])
def test_every_service_starts_as_a_module_and_reads_its_variables(service: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": "none"}
    command = [sys.executable, "-m", f"services.{service}"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 78
    assert result.stderr.startswith(f"{service}: settings: PORT: ")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (GatewaySettings, SERVICE_VARIABLES + GATEWAY_VARIABLES),
        (InferenceSettings, SERVICE_VARIABLES + INFERENCE_VARIABLES),
        (RecorderSettings, SERVICE_VARIABLES + RECORDER_VARIABLES),
        (TrainingSettings, TRAINING_VARIABLES),
    ],
)
def test_every_environment_variable_keeps_its_name(
    kind: type[GatewaySettings | InferenceSettings | RecorderSettings | TrainingSettings], names: str
) -> None:
    read = {(field.alias or name).upper() for name, field in kind.model_fields.items()}
    assert set(names.split()) - read == set()


@pytest.fixture
async def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[tuple[Part, ...], set[str]]]:
    """The parts of the local profile, gateway, recorder and inference, and the names of its metrics."""
    monkeypatch.chdir(tmp_path)  # where the local profile keeps its database
    registry = CollectorRegistry()
    async with open_local(GatewaySettings(), registry) as opened:
        http_app("Predecir", *opened, registry=registry)
        yield opened, {metric.name for metric in registry.collect()}


def routes(part: Part) -> set[str]:
    listed: Iterable[APIRoute] = (
        route for router in part.routers for route in router.routes if isinstance(route, APIRoute)
    )
    return {f"{method} {route.path}" for route in listed for method in route.methods or ()}


async def test_every_route_metric_table_and_column_keeps_its_name(
    tmp_path: Path, parts: tuple[tuple[Part, ...], set[str]]
) -> None:
    (gateway, recorder, inference), metrics = parts
    assert GATEWAY_ROUTES - routes(gateway) == set()
    assert RECORDER_ROUTES - routes(recorder) == set()
    assert INFERENCE_ROUTES - routes(inference) == set()
    assert set(METRICS.split()) - metrics == set()
    database = sqlite3.connect(f"file:{tmp_path}/predicciones.db?mode=ro", uri=True)
    for table, names in COLUMNS.items():
        columns = {row[1] for row in database.execute(f'PRAGMA table_info("{table}")')}
        assert set(names.split()) - columns == set(), table
    database.close()


@pytest.mark.parametrize("name", EVENT_DATA)
def test_every_event_has_the_attributes_it_had(name: str) -> None:
    schema = KINDS[name].model_json_schema()
    assert list(schema["properties"]) == ATTRIBUTES.split()
    data = schema["$defs"][schema["properties"]["data"]["$ref"].rpartition("/")[2]]
    assert list(data["properties"]) == EVENT_DATA[name].split()


def test_the_status_of_an_outbox_has_the_attributes_it_had() -> None:
    schema = json_schema().decode()
    for name in ("gateway.estado", "gateway_id", "respondidas", "pendiente_desde"):
        assert f'"{name}"' in schema


def test_a_manifest_has_the_fields_it_had_in_their_order() -> None:
    assert list(Manifest.model_fields) == MANIFEST_FIELDS.split()
