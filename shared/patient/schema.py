"""The patient schema: one Pydantic class per disease, from which everything else is derived.

A disease subclasses `Patient`, declares each feature with `measure`, `choice` or `flag`, and sets `disease`. Request
validation, OpenAPI, the model's columns, the reference-range warnings, the data dictionary and the digest that ties
gateway and model together are derived from that class; nothing repeats it. The example is
`docs/guides/another-disease.md`.
"""

import datetime as dt
import hashlib
import importlib
import json
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from shared.patient.card_text import UNDECLARED, About
from shared.patient.declaration_checks import disease_faults, range_faults, units_faults

Kind = Literal["number", "integer", "flag", "choice"]
Range = tuple[float, float]

_DEFAULT_GROUP = "Datos generales"


class PatientClassError(Exception):
    """The patient class cannot be used: not found, or declared wrongly. The message names the necessary change."""


class DiscardedRowError(Exception):
    """A raw row that training leaves out. The message is the reason, without any value of the row."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One class of the model: its code in answers and tables, and the Spanish label a doctor reads."""

    code: str
    label: str


@dataclass(frozen=True, slots=True)
class Disease:
    """A disease. `name` is also the model's name in the registry; `title` is shown to the doctor.

    Raise `revision` when a rule, a derivation or the cleaning changes meaning without changing a declaration:
    it is part of the digest, so models trained before the change are rejected instead of served wrongly.
    """

    name: str
    title: str
    diagnoses: tuple[Diagnosis, ...]
    revision: int = 1
    about: About = UNDECLARED

    @property
    def classes(self) -> tuple[str, ...]:
        """The diagnosis codes, in declaration order."""
        return tuple(diagnosis.code for diagnosis in self.diagnoses)


@dataclass(frozen=True, slots=True)
class Feature:
    """One declared feature, derived from its field. `limits` and `reference` are in `unit`.

    `other_units` are other units of laboratory reports, each with the factor that converts it into `unit`.
    """

    name: str
    kind: Kind
    label: str
    description: str
    group: str
    unit: str
    limits: Range | None
    reference: Range | None
    choices: tuple[str, ...]
    required: bool
    other_units: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on an accepted patient: the field, a stable code, and a Spanish sentence that never repeats a value."""

    field: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Case:
    """One training example: a patient, the diagnosis code, and the date of the visit (None if unknown)."""

    patient: "Patient"
    diagnosis: str
    date: dt.date | None = None


def measure(  # noqa: PLR0913 - each is one fact of a measurement
    label: str,
    *,
    unit: str,
    limits: Range,
    reference: Range | None = None,
    required: bool = False,
    group: str = _DEFAULT_GROUP,
    description: str = "",
    other_units: Mapping[str, float] | None = None,
) -> Any:  # noqa: ANN401 - stands as the default of a field of any numeric type
    """Declare a number. A value outside `limits` is rejected; outside `reference` it causes a warning.

    `other_units` maps another unit of laboratory reports to the factor into `unit`, so that the page can warn of a
    mistaken unit. It is not part of the digest: the system never converts a value by itself.
    """
    extra: dict[str, Any] = {"unidad": unit, "grupo": group}
    if reference is not None:
        extra["referencia"] = list(reference)
    if other_units:
        extra["otras_unidades"] = dict(other_units)
    return Field(
        ... if required else None,
        title=label,
        description=description or None,
        ge=limits[0],
        le=limits[1],
        json_schema_extra=extra,
    )


def choice(label: str, *, required: bool = False, group: str = _DEFAULT_GROUP, description: str = "") -> Any:  # noqa: ANN401
    """Declare a category: the field's type is `Literal[...] | None`."""
    return Field(
        ... if required else None, title=label, description=description or None, json_schema_extra={"grupo": group}
    )


def flag(label: str, *, group: str = _DEFAULT_GROUP, description: str = "") -> Any:  # noqa: ANN401
    """Declare a yes or no that is false by default."""
    return Field(default=False, title=label, description=description or None, json_schema_extra={"grupo": group})


def rule_broken(field: str, rule: str, message: str) -> PydanticCustomError:
    """Build the error of a cross-field rule: `field`, `rule` and a Spanish message without a value."""
    return PydanticCustomError("regla", "{mensaje}", {"campo": field, "regla": rule, "mensaje": message})


class Patient(BaseModel):
    """A patient of some disease. Strict: no coercion, no unknown field, no infinite number.

    A number has one representation: 47, 47.0 and 4.7e1 are the same value, and -0.0 is 0.0.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    disease: ClassVar[Disease]
    features: ClassVar[tuple[Feature, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()
    digest: ClassVar[str] = ""
    _codes: ClassVar[tuple[tuple[str, dict[str | None, float] | None], ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        """Check the declaration; derive features, columns, encoding and digest once, when the class is declared.

        Raises:
            PatientClassError: features or the disease are declared wrongly; has a line for every fault.

        """
        super().__pydantic_init_subclass__(**kwargs)
        disease: Disease | None = getattr(cls, "disease", None)
        faults = [] if disease is None else [*disease_faults(disease.name, disease.classes)]
        faults += [fault for name, info in cls.model_fields.items() for fault in _feature_faults(name, info)]
        if faults:
            raise PatientClassError("\n".join(faults))
        cls.features = tuple(_feature(name, info) for name, info in cls.model_fields.items())
        cls.columns = tuple(feature.name for feature in cls.features)
        cls._codes = tuple((feature.name, _category_codes(feature)) for feature in cls.features)
        cls.digest = "" if disease is None else _digest(disease, cls.features)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        """Convert a whole float into the int that it equals, which features of every other type treat alike.

        JSON Schema's `integer` includes 47.0. So -0.0 becomes 0.0: PostgreSQL's jsonb knows no other zero, and model,
        event and row must have the same number.
        """
        return int(value) if isinstance(value, float) and value.is_integer() else value

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Case:  # noqa: ARG003 - for subclasses
        """Convert one row of the raw CSV into a case.

        Raises:
            DiscardedRowError: training leaves the row out; the message is the reason.

        """
        raise PatientClassError(f"{cls.__name__} has no from_row: it cannot be trained")

    def derived(self) -> dict[str, Any]:
        """Return values that follow from others, for features without a value. Training and serving both use them."""
        return {}

    def remarks(self) -> list[Remark]:
        """Return cross-field remarks of this disease. The gateway checks the reference ranges of every disease."""
        return []

    def by_rule(self) -> str | None:
        """Return the diagnosis by a simple textbook rule, to compare a model with; None if there is no rule."""
        return None

    def encode(self) -> list[float]:
        """Return a model's input row: a number per column; NaN if missing, 0 or 1 for a flag, an index for a choice."""
        values = self.__dict__
        if derived := self.derived():
            values = values | derived
        return [
            math.nan if (value := values[name]) is None else (float(value) if codes is None else codes[value])
            for name, codes in self._codes
        ]


def load_patient(path: str) -> type[Patient]:
    """Import the patient class named `package.module:Class`.

    Raises:
        PatientClassError: the path cannot be imported, or the object is not a usable `Patient`.

    """
    module_name, _, class_name = path.partition(":")
    try:
        loaded = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # a disease's own module may raise anything; its author needs one line
        location = _location(error, module_name)
        text = error.msg if isinstance(error, SyntaxError) else error  # its str() repeats the line number
        reason = f"{type(error).__name__}: {text}".splitlines()[0]
        if isinstance(error, PatientClassError):
            place = f" ({location})" if location else ""
            message = "\n".join(f"PREDECIR_PACIENTE={path}: {fault}{place}" for fault in str(error).splitlines())
        elif location:
            message = f"PREDECIR_PACIENTE={path}: cannot import it ({location}: {reason})"
        else:
            message = f"PREDECIR_PACIENTE={path}: cannot import it ({reason}); expected package.module:Class"
        raise PatientClassError(message) from error
    if not (isinstance(loaded, type) and issubclass(loaded, Patient) and hasattr(loaded, "disease")):
        raise PatientClassError(f"PREDECIR_PACIENTE={path}: not a subclass of shared.patient.Patient with a `disease`")
    return loaded


def _location(error: Exception, module_name: str) -> str:
    """Return the line of the module that raised, such as "anemia.py, line 12"; empty if the error is elsewhere."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}"
    imported = error.__traceback__.tb_next if error.__traceback__ else None  # the first frame is load_patient's own
    lines = [
        f"{Path(frame.f_code.co_filename).name}, line {line}"
        for frame, line in traceback.walk_tb(imported)
        if frame.f_globals.get("__name__") == module_name
    ]
    return lines[-1] if lines else ""


def _feature_faults(name: str, info: FieldInfo) -> Iterator[str]:
    extra = _extra(info)
    if _kind(info) is None:
        yield f"feature {name}: use float, int, bool or a Literal of strings without ':', each optionally `| None`"
    yield from range_faults(name, _limits(info), _reference(extra))
    yield from units_faults(name, extra.get("otras_unidades", {}))


def _extra(info: FieldInfo) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def _limits(info: FieldInfo) -> tuple[float, float] | None:
    lower = next((m.ge for m in info.metadata if isinstance(m, Ge)), None)
    upper = next((m.le for m in info.metadata if isinstance(m, Le)), None)
    return None if lower is None or upper is None else (float(lower), float(upper))  # type: ignore[arg-type]


def _reference(extra: Mapping[str, Any]) -> tuple[float, float] | None:
    declared = extra.get("referencia")
    return None if declared is None else (float(declared[0]), float(declared[1]))


def _feature(name: str, info: FieldInfo) -> Feature:
    """Return the feature that a field declares, which has no fault."""
    extra = _extra(info)
    kind, choices = _kind(info) or ("number", ())
    return Feature(
        name=name,
        kind=kind,
        label=info.title or name,
        description=info.description or "",
        group=str(extra.get("grupo", _DEFAULT_GROUP)),
        unit=str(extra.get("unidad", "")),
        limits=_limits(info),
        reference=_reference(extra),
        choices=choices,
        required=info.is_required(),
        other_units=tuple(extra.get("otras_unidades", {}).items()),
    )


def _kind(info: FieldInfo) -> tuple[Kind, tuple[str, ...]] | None:
    """Return kind and choices of a feature, or None if its type cannot be encoded."""
    types: list[Any] = [kind for kind in get_args(info.annotation) or (info.annotation,) if kind is not type(None)]
    kinds: dict[Any, Kind] = {float: "number", int: "integer", bool: "flag"}
    if len(types) == 1 and types[0] in kinds:
        return kinds[types[0]], ()
    choices = tuple(value for kind in types for value in (get_args(kind) or (kind,)))
    if choices and all(isinstance(value, str) and ":" not in value for value in choices):
        return "choice", choices
    return None


def _category_codes(feature: Feature) -> dict[str | None, float] | None:
    if feature.kind != "choice":
        return None
    return {value: float(index) for index, value in enumerate(feature.choices)}


def _digest(disease: Disease, features: Sequence[Feature]) -> str:
    facts = {
        "disease": disease.name,
        "revision": disease.revision,
        "classes": disease.classes,
        "features": [[f.name, f.kind, f.unit, f.limits, f.choices] for f in features],
    }
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
