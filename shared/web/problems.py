"""Rejections as RFC 9457 problem details, in Spanish: they name field and rule, never a value."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from shared.patient import Feature

MEDIA_TYPE = "application/problem+json"
_LONGEST_NAME = 64
_CLOSING = frozenset({"claves_no_validas"})
"""Rules whose rejection closes the connection, so that each further attempt costs a new one."""

_TITLES = {
    400: "La petición no se entiende",
    401: "Hace falta una clave",
    403: "Petición no permitida",
    404: "No encontrado",
    405: "Método no permitido",
    408: "La petición no llegó a tiempo",
    409: "Conflicto",
    413: "Petición demasiado grande",
    415: "Tipo de contenido no admitido",
    422: "Datos no válidos",
    429: "Demasiadas peticiones",
    431: "La cabecera de la petición es demasiado grande",
    500: "Error interno",
    503: "Servicio no disponible por el momento",
}


class Fault(BaseModel):
    """Un campo que no cumple una regla."""

    campo: str
    regla: str
    mensaje: str


class Problem(BaseModel):
    """Por qué no se atendió la petición (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errores: list[Fault] = []


class ProblemError(Exception):
    """A rejected request; `rule` is a stable code, `detail` a Spanish sentence."""

    def __init__(  # noqa: PLR0913 - the fields of a rejection
        self,
        status: int,
        rule: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        retry_after: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Store the content of the response; `retry_after` is in seconds. `reason` is for the log only."""
        super().__init__(rule)
        self.reason = reason
        self.status, self.rule, self.detail = status, rule, detail
        self.errors, self.retry_after = errors, retry_after

    def response(self) -> Response:
        """Render as `application/problem+json`."""
        content: dict[str, Any] = {
            "type": f"urn:predecir:problema:{self.rule}",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            content["errores"] = self.errors
        return Response(orjson.dumps(content), self.status, self.headers, MEDIA_TYPE)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="Predecir"'  # required by RFC 9110
        if self.status == HTTPStatus.REQUEST_TIMEOUT or self.rule in _CLOSING:
            headers["Connection"] = "close"  # RFC 9110: the rest of the request may never arrive
        if self.rule == "codificacion":
            headers["Accept-Encoding"] = "gzip, deflate"  # RFC 9110, 12.5.3: the coding was wrong, not the media type
        return headers


def invalid_data(error: ValidationError, features: Mapping[str, Feature]) -> ProblemError:
    """Return the rejection of a patient by Pydantic: 400 for invalid JSON, otherwise 422."""
    return _invalid_body(error, lambda kind, name: _sentence(kind, features.get(name)))


def invalid_form(error: ValidationError, sentences: Mapping[str, str]) -> ProblemError:
    """Return the same for a small form; `sentences` has one in Spanish per field."""

    def sentence(kind: str, name: str) -> str:
        unknown = "Este campo no existe." if kind == "extra_forbidden" else "Debe ser un objeto JSON."
        return sentences.get(name, unknown)

    return _invalid_body(error, sentence)


def _invalid_body(error: ValidationError, sentence: Callable[[str, str], str]) -> ProblemError:
    """Return the rejection of a body; `sentence` has the type of Pydantic's error and the name of the field."""
    faults = []
    for details in error.errors(include_url=False, include_input=False):
        kind, name = details["type"], ".".join(map(str, details["loc"]))[:_LONGEST_NAME]
        if kind == "json_invalid":
            return ProblemError(400, "json_no_valido", "El cuerpo no es JSON válido.")
        if kind == "regla":  # `shared.patient.rule_broken`
            fault = {part: details["ctx"][part] for part in ("campo", "regla", "mensaje")}
        elif kind in {"value_error", "assertion_error"}:  # raised by a rule of the disease; its text may hold values
            fault = {"campo": "", "regla": "regla", "mensaje": "Los datos no cumplen una regla entre campos."}
        else:
            fault = {"campo": name, "regla": _RULES.get(kind, "tipo"), "mensaje": sentence(kind, name)}
        faults.append(fault)
    return ProblemError(422, "datos_no_validos", "Revise los campos indicados.", errors=faults)


_RULES = {
    "missing": "obligatorio",
    "extra_forbidden": "campo_desconocido",
    "finite_number": "numero_finito",
    "greater_than_equal": "limites",
    "less_than_equal": "limites",
    "string_too_long": "limites",
    "literal_error": "opciones",
}


def _sentence(kind: str, feature: Feature | None) -> str:
    if kind == "extra_forbidden":
        return "Este campo no existe."
    if feature is None:
        return "Debe ser un objeto JSON con los datos del paciente."
    if kind == "missing":
        empty = "" if feature.kind == "flag" else "; si no se conoce, envíe null"
        return f"{feature.label}: falta este dato{empty}."
    return f"{feature.label}: {_expected(feature)}."


def _expected(feature: Feature) -> str:
    match feature.kind:
        case "flag":
            return "debe ser true o false"
        case "choice":
            return f"debe ser una de estas opciones: {', '.join(feature.choices)}"
        case _:
            noun = "un número entero" if feature.kind == "integer" else "un número"
            return f"debe ser {noun}{between(feature.limits, feature.unit)}"


def between(limits: tuple[float, float] | None, unit: str) -> str:
    """Return a range in Spanish, such as ` entre 0,2 y 6 mU/L`; empty if there are no `limits`."""
    if limits is None:
        return ""
    low, high = (f"{limit:.12g}".replace(".", ",") for limit in limits)
    return f" entre {low} y {high} {unit}".rstrip()


def invalid_parameters(kinds: Mapping[str, str]) -> ProblemError:
    """Return the rejection for parameters of the address: names, each with the type of Pydantic's error."""
    listed = [_parameter(name[:_LONGEST_NAME], kind) for name, kind in sorted(kinds.items())]
    return ProblemError(422, "parametros", "Revise los parámetros indicados.", errors=listed)


def _parameter(name: str, kind: str) -> dict[str, str]:
    if kind == "extra_forbidden":
        return {"campo": name, "regla": "parametro_desconocido", "mensaje": "Este parámetro no existe."}
    return {"campo": name, "regla": "parametro", "mensaje": "El valor no es válido."}


def http_problem(status: int) -> ProblemError:
    """Return the rejection that has nothing to say beyond its HTTP status."""
    return ProblemError(status, f"http_{status}", f"{_TITLES.get(status, 'No se pudo atender')}.")


def internal_problem() -> ProblemError:
    """Return the rejection of a request that failed by a defect of ours, without details."""
    return ProblemError(500, "interno", "Ocurrió un error inesperado; no se dio ningún resultado.")
