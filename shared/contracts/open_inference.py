"""The Open Inference Protocol v2 over REST, between the inference service and any client.

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md. Ours beyond it:
`null` in `data` is a missing value, and the metadata of a model has `parameters` (`scoring.ModelParameters`).
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.contracts.scoring import ModelFacts, ModelParameters

INPUT = "paciente"
"""The one input tensor, n x columns."""
OUTPUT = "probabilidades"
"""The one output tensor, n x classes."""
EXTENSION = "predecir_model_parameters"
"""The name of `ModelParameters` among the server's extensions."""
OTHER_CLASS = "the model here is of another patient class"
"""The error for rows of another patient class than the model's; 503, so that a balancer tries another replica."""

_INTEGERS = frozenset({int, type(None)})
_NUMBERS = _INTEGERS | {float}
DATATYPES = dict.fromkeys(("FP32", "FP64"), _NUMBERS) | dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), _INTEGERS)
"""Accepted datatypes and the Python types of their elements. The model reads float32 in any case."""


class ProtocolError(Exception):
    """A request that breaks the protocol. The message names the part and the rule, never a value."""


class _Message(BaseModel):
    """A message with strict types; unknown attributes are extensions and are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=())


class InferInput(_Message):
    """An input tensor. `data` is flat in row-major order, or nested by `shape`."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class RequestedOutput(_Message):
    """An output tensor that the client requests."""

    name: str


class RequestParameters(_Message):
    """Parameters of a request beyond the tensors."""

    known_digests: str | None = None
    """Digests of the models that the client knows, separated by blanks; a response by another model describes it."""
    patient_digest: str | None = None
    """Digest of the rows' patient class. A replica of another class rejects them, and a balancer tries the next."""


class InferRequest(_Message):
    """Body of `POST v2/models/{name}[/versions/{version}]/infer`; without `outputs`, all are returned."""

    parameters: RequestParameters | None = None
    inputs: list[InferInput]
    outputs: list[RequestedOutput] | None = None
    id: str | None = None


class InferOutput(_Message):
    """An output tensor; `data` is flat in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class TensorMetadata(_Message):
    """Shape of a tensor; -1 stands for any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Message):
    """Body of `GET v2/models/{name}[/versions/{version}]`; `versions` are those that serve now."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: ModelParameters

    @property
    def facts(self) -> ModelFacts:
        """The facts that `describe` was called with.

        Raises:
            ValueError: no version is named.

        """
        if not self.versions:
            raise ValueError("the metadata name no version")
        return ModelFacts(name=self.name, version=self.versions[0], **dict(self.parameters))


class ResponseParameters(_Message):
    """The model that computed the response: its manifest's digest, and its metadata if the client does not know it."""

    digest: str
    model: ModelMetadata | None = None


class InferResponse(_Message):
    """Body of a response to infer; `id` is the request's, if it had one."""

    model_name: str
    model_version: str
    parameters: ResponseParameters
    outputs: list[InferOutput]
    id: str | None = None


class ServerMetadata(_Message):
    """Body of `GET v2`."""

    name: str
    version: str
    extensions: list[str]


class ErrorBody(_Message):
    """Body of every response that is not a success."""

    error: str


def read_request(body: bytes) -> InferRequest:
    """Parse a request to infer.

    Raises:
        ProtocolError: the body is not JSON (NaN and Infinity are not), or not a request.

    """
    try:
        return InferRequest.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError:
        raise ProtocolError("the body is not JSON; write a missing value as null") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"])) or "the body"
        raise ProtocolError(f"{path}: {first['msg']}") from None


def flat_rows(request: InferRequest, columns: int, *, most: int) -> list[float]:
    """Return the elements of the request's tensor, n x `columns` in row-major order, NaN where null; n is 1 to `most`.

    Raises:
        ProtocolError: the tensor, datatype, shape or an element is not accepted, or an output does not exist.

    """
    if unknown := [output for output in request.outputs or () if output.name != OUTPUT]:
        raise ProtocolError(f"outputs: {len(unknown)} unknown; the model has one output, {OUTPUT}")
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        raise ProtocolError(f"inputs: exactly one is expected, {INPUT}")
    tensor = request.inputs[0]
    kinds = DATATYPES.get(tensor.datatype)
    if kinds is None:
        raise ProtocolError(f"{INPUT}: datatype must be one of {', '.join(DATATYPES)}")
    if len(tensor.shape) != 2 or tensor.shape[1] != columns or not 1 <= tensor.shape[0] <= most:  # noqa: PLR2004
        raise ProtocolError(f"{INPUT}: shape must be [n, {columns}], n from 1 to {most}")
    elements = _flattened(tensor)
    if not kinds.issuperset(map(type, elements)):
        raise ProtocolError(f"{INPUT}: data has an element that is not {tensor.datatype} or null")
    return [math.nan if element is None else element for element in elements]


def _flattened(tensor: InferInput) -> list[Any]:
    count, columns = tensor.shape
    elements: Iterable[Any] = tensor.data
    if isinstance(tensor.data[0] if tensor.data else None, list):
        if not all(isinstance(row, list) and len(row) == columns for row in tensor.data):
            raise ProtocolError(f"{INPUT}: each row of nested data must have {columns} elements")
        elements = chain.from_iterable(tensor.data)
    flat = list(elements)
    if len(flat) != count * columns:
        raise ProtocolError(f"{INPUT}: data and shape disagree")
    return flat


def describe(facts: ModelFacts, platform: str) -> ModelMetadata:
    """Build the metadata of the model with `facts`, computed by `platform`."""
    return ModelMetadata(
        name=facts.name,
        versions=[facts.version],
        platform=platform,
        inputs=[TensorMetadata(name=INPUT, datatype="FP32", shape=[-1, len(facts.columns)])],
        outputs=[TensorMetadata(name=OUTPUT, datatype="FP64", shape=[-1, len(facts.classes)])],
        parameters=facts,
    )
