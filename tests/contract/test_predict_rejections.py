"""`POST /predecir` in process: rejections by field and rule, and that they repeat no value."""

import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import model_validator
from starlette.types import Message
from structlog.testing import capture_logs

from services.gateway.api.requests import read_json, read_patient
from shared.patient import Diagnosis, Disease, Patient
from shared.web.problems import ProblemError
from tests.support.gateway import HYPER, PROBLEM, Client, gateway


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with gateway(tmp_path) as opened:
        yield opened


LIMITS = "Edad: debe ser un número entero entre 0 y 120 años."
DEEP = b'{"edad":' + b"[" * 40 + b"]" * 40 + b"}"


@pytest.mark.parametrize(
    ("body", "status", "field", "rule"),
    [
        ({"sexo": "F", "tsh": 1}, 422, "edad", "obligatorio"),
        (HYPER | {"peso": 70}, 422, "peso", "campo_desconocido"),
        (HYPER | {"edad": "47"}, 422, "edad", "tipo"),
        (HYPER | {"edad": 47.5}, 422, "edad", "tipo"),
        (HYPER | {"edad": True}, 422, "edad", "tipo"),
        (HYPER | {"litio": 1}, 422, "litio", "tipo"),
        (HYPER | {"litio": 1.0}, 422, "litio", "tipo"),
        (HYPER | {"sexo": "X"}, 422, "sexo", "opciones"),
        (HYPER | {"edad": 121}, 422, "edad", "limites"),
        (HYPER | {"tsh": 0}, 422, "tsh", "limites"),
        (b'{"edad":47,"sexo":"F","tsh":NaN}', 422, "tsh", "numero_finito"),
        (b'{"edad":47,"sexo":"F","tsh":1e999}', 422, "tsh", "numero_finito"),
        (b'{"edad":47,"sexo":"F","tsh":-Infinity}', 422, "tsh", "numero_finito"),
        ({"edad": 47, "sexo": "F"}, 422, "tsh", "sin_laboratorio"),
        (HYPER | {"sexo": "M", "embarazo": True}, 422, "embarazo", "embarazo_y_sexo"),
        (["no", "un", "objeto"], 422, "", "tipo"),
        (b'{"edad":47,"edad":74,"sexo":"F","tsh":1}', 422, None, "campo_repetido"),
        (b'{"edad":47,"sexo":"F","tsh":', 400, None, "json_no_valido"),
        (b"", 400, None, "json_no_valido"),
        (b'{"edad":47,"sexo":"\xff","tsh":1}', 400, None, "json_no_valido"),
        (DEEP, 400, None, "anidamiento"),
        (b"[" * 33 + b'"' + rb"\"" * 100_000, 400, None, "anidamiento"),
    ],
)
async def test_bad_data_is_rejected_by_field_and_rule_and_not_recorded(
    client: Client,
    body: object,
    status: int,
    field: str | None,
    rule: str,
) -> None:
    response = await client.predict(body)
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)
    problem = response.json()
    if field is None:
        assert problem["type"].endswith(rule)
    else:
        assert (field, rule) in {(fault["campo"], fault["regla"]) for fault in problem["errores"]}
    assert client.answered() == 0


async def test_an_error_is_a_spanish_sentence_without_the_value(client: Client) -> None:
    response = await client.predict(HYPER | {"edad": 470})
    assert [fault["mensaje"] for fault in response.json()["errores"]] == [LIMITS]
    assert "470" not in response.text


async def test_refusals_and_failures_reach_neither_logs_nor_metrics_with_values(client: Client) -> None:
    with capture_logs() as logs:
        await client.predict(HYPER | {"edad": 987654321, "sexo": "zzz", "quien": "Juana"})
    metrics = (await client.get("/metrics")).text
    assert [entry["event"] for entry in logs] == ["request_rejected"]
    for secret in ("987654321", "zzz", "Juana", "quien"):
        assert secret not in str(logs)
        assert secret not in metrics
    assert 'predecir_refusals_total{rule="datos_no_validos"} 1.0' in metrics


async def test_another_content_type_is_rejected(client: Client) -> None:
    response = await client.predict(HYPER, **{"Content-Type": "text/plain"})
    assert (response.status_code, response.headers["content-type"]) == (415, PROBLEM)
    assert (await client.predict(HYPER, **{"Content-Type": "application/json; charset=utf-8"})).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_256_kib_is_rejected(client: Client, *, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 16 * 1024

    response = await client.post(
        "/predecir",
        content=chunks() if chunked else b" " * (256 * 1024 + 1),
        headers={"Content-Type": "application/json"},
    )
    assert (response.status_code, response.headers["content-type"]) == (413, PROBLEM)


async def test_a_chunked_body_within_limits_is_answered(client: Client) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        whole = json.dumps(HYPER).encode()
        yield whole[:10]
        yield whole[10:]

    response = await client.post("/predecir", content=chunks(), headers={"Content-Type": "application/json"})
    assert response.status_code == 200


ZLIB_BITS = {"gzip": 31, "X-GZIP": 31, "deflate": 15, "identity": None, "": None, "identity, gzip": 31}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
POSTS = {
    "/predecir": HYPER,
    "/explicar": HYPER,
    "/referencias": {"referencia": "HC 2026/0417"},
    "/predicciones/01890a5d-ac96-774b-bcce-b302099a8057/resultado": {"aceptada": True},
}


def compressed(content: bytes, coding: str = "gzip") -> bytes:
    bits = ZLIB_BITS[coding]
    if bits is None:
        return content
    compressor = zlib.compressobj(wbits=bits)
    return compressor.compress(content) + compressor.flush()


@pytest.mark.parametrize("coding", ZLIB_BITS)
@pytest.mark.parametrize("path", POSTS)
async def test_a_compressed_body_is_read(client: Client, path: str, coding: str) -> None:
    content = compressed(BYTE_ORDER_MARK + json.dumps(POSTS[path]).encode(), coding)
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    response = await client.post(path, content=content, headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", POSTS)
async def test_a_byte_order_mark_is_skipped(client: Client, path: str) -> None:
    content = BYTE_ORDER_MARK + json.dumps(POSTS[path]).encode()
    response = await client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text


WHOLE = compressed(json.dumps(HYPER).encode())


@pytest.mark.parametrize(
    ("codings", "body", "status", "rule"),
    [
        (["br"], b"{}", 415, "codificacion"),
        (["gzip, gzip"], compressed(WHOLE), 415, "codificacion"),
        (["gzip", "gzip"], compressed(WHOLE), 415, "codificacion"),
        (["gzip"], json.dumps(HYPER).encode(), 400, "comprimido"),
        (["deflate"], WHOLE, 400, "comprimido"),
        (["gzip"], WHOLE[:-1], 400, "comprimido"),
        (["gzip"], WHOLE[:-5] + bytes(5), 400, "comprimido"),
        (["gzip"], WHOLE + b"x", 400, "comprimido"),
        (["gzip"], b"", 400, "comprimido"),
        (["gzip"], compressed(b"{"), 400, "json_no_valido"),
        (["gzip"], compressed(DEEP), 400, "anidamiento"),
        (["gzip"], b" " * (256 * 1024 + 1), 413, "tamano"),
        (["gzip"], compressed(b" " * (256 * 1024 + 1)), 413, "tamano"),
    ],
)
async def test_a_body_not_in_its_coding_is_rejected_in_words(
    client: Client, codings: list[str], body: bytes, status: int, rule: str
) -> None:
    headers = [("Content-Type", "application/json"), *(("Content-Encoding", coding) for coding in codings)]
    response = await client.post("/predecir", content=body, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)
    assert response.json()["type"] == f"urn:predecir:problema:{rule}"
    assert response.headers.get("accept-encoding") == ("gzip, deflate" if status == 415 else None)
    assert client.answered() == 0


async def test_a_compressed_body_takes_no_more_memory_than_the_limit(client: Client) -> None:
    bomb = compressed(bytes(100 * 1024 * 1024))
    assert len(bomb) < 256 * 1024
    tracemalloc.start()
    try:
        response = await client.predict(bomb, **{"Content-Encoding": "gzip"})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert response.status_code == 413
    assert peak < 8 * 1024 * 1024


async def test_a_client_that_leaves_within_the_body_is_400() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"edad":', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(ProblemError) as caught:
        await read_json({"headers": [(b"content-type", b"application/json")]}, receive)
    rejection = caught.value
    assert (rejection.status, rejection.rule, rejection.detail) == (
        400, "cortada", "La petición llegó incompleta."
    )  # fmt: skip


class Plain(Patient):
    """Patients with a number of any size, and rules written as Pydantic has them."""

    disease: ClassVar[Disease] = Disease("plain", "Plain", (Diagnosis("si", "Sí"), Diagnosis("no", "No")))
    peso: float | None = None

    @model_validator(mode="after")
    def _is_plausible(self) -> "Plain":
        assert self.peso != 471, f"peso is {self.peso}"
        if self.peso == 470:
            raise ValueError(f"peso is {self.peso}")
        return self


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"peso":470}', {"campo": "", "regla": "regla", "mensaje": "Los datos no cumplen una regla entre campos."}),
        (b'{"peso":471}', {"campo": "", "regla": "regla", "mensaje": "Los datos no cumplen una regla entre campos."}),
        (b'{"peso":"470"}', {"campo": "peso", "regla": "tipo", "mensaje": "peso: debe ser un número."}),
    ],
)
def test_a_rule_of_any_form_is_one_sentence_without_the_value(body: bytes, fault: dict[str, Any]) -> None:
    with pytest.raises(ProblemError) as caught:
        read_patient(body, Plain)
    assert (caught.value.status, caught.value.errors) == (422, [fault])
