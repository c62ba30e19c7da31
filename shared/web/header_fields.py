"""Header fields of a request by name, collected once per request."""

from collections.abc import Mapping

from starlette.types import Scope

_FIELDS = "predecir.fields"


def header_fields(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the fields by name, in small letters. Of several with one name it is the last; `scope` has them all."""
    fields: dict[bytes, bytes] | None = scope.get(_FIELDS)
    if fields is None:
        fields = scope[_FIELDS] = dict(scope["headers"])
    return fields
