"""The doctor's page: static files, and a description of its form from the patient class.

The files of `static/` are served unchanged, without a build step. They are public like a login page, because a browser
cannot send a key when it opens an address. The page sends the doctor's key with each of its requests.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from fastapi import Request, Response

from shared.patient import Feature, Patient
from shared.web.problems import ProblemError
from shared.web.routing import PUBLIC, Router
from shared.web.security_headers import CLOSED

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; {CLOSED}"
HEADERS = {
    "Cache-Control": "no-cache",  # stored, and revalidated each time: a new release or model version shows at once
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
"""Of every page for a doctor, beside its own Content-Security-Policy."""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str


def page_router(patient: type[Patient]) -> Router:
    """Build the routes of the page for `patient`; its files are read now and kept in memory."""
    files = {path.name: _file(path.read_bytes(), _TYPES[path.suffix]) for path in _FOLDER.iterdir()}
    files["form.json"] = _file(orjson.dumps(form(patient)), "application/json")
    router = Router(include_in_schema=False)

    @router.get("/", roles=PUBLIC)
    async def page(request: Request) -> Response:
        return _sent(files["page.html"], request)

    @router.get("/pagina/{archivo}", roles=PUBLIC)
    async def archivo(archivo: str, request: Request) -> Response:
        if archivo not in files:
            raise ProblemError(404, "http_404", "No encontrado.")
        return _sent(files[archivo], request)

    return router


def form(patient: type[Patient]) -> dict[str, Any]:
    """Return the form of `patient`: its features in order, and the diagnoses of answers and corrections."""
    disease = patient.disease
    return {
        "nombre": disease.name,
        "titulo": disease.title,
        "campos": [_field(feature) for feature in patient.features],
        "diagnosticos": {diagnosis.code: diagnosis.label for diagnosis in disease.diagnoses},
    }


def _field(feature: Feature) -> dict[str, Any]:
    return {
        "nombre": feature.name,
        "tipo": feature.kind,
        "etiqueta": feature.label,
        "descripcion": feature.description,
        "grupo": feature.group,
        "unidad": feature.unit,
        "limites": feature.limits,
        "referencia": feature.reference,
        "opciones": feature.choices,
        "obligatorio": feature.required and feature.kind != "flag",
        "otras_unidades": dict(feature.other_units),
    }


def _file(content: bytes, media_type: str) -> _File:
    return _File(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _sent(file: _File, request: Request) -> Response:
    headers = HEADERS | {"Content-Security-Policy": _POLICY, "ETag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
