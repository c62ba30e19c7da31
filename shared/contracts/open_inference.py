"""The Open Inference Protocol v2 over REST, between the inference service and any client.

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md, with two of Triton's
extensions (github.com/triton-inference-server/server, docs/protocol: extension_binary_data.md and
extension_classification.md). Ours beyond them: a missing value is `null` or NaN, and the metadata of a model has
`parameters` (`scoring.ModelParameters`).
"""

import json
import math
from typing import Annotated, Any, TypeVar, cast

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.contracts.scoring import ModelFacts, ModelParameters

INPUT = "paciente"
"""The one input tensor, n x columns."""
OUTPUT = "probabilidades"
"""The one output tensor, n x classes."""
EXTENSIONS = ("predecir_model_parameters", "binary_tensor_data", "classification")
"""The extensions of our server: `ModelParameters` in the metadata, and Triton's two."""
JSON_LENGTH = "Inference-Header-Content-Length"
"""The header with the length of the JSON in a body that has binary tensors behind it."""
OTHER_CLASS = "the model here is of another patient class"
"""The error for rows of another patient class than the model's; 503, so that a balancer tries another replica."""

_LONGEST_LENGTH = 12
"""Most digits of the header `JSON_LENGTH`."""


class ProtocolError(Exception):
    """A request that breaks the protocol. The message names the part and the rule, never a value."""


class _Message(BaseModel):
    """A message with strict types; unknown attributes are extensions and are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=())


T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]
"""A list that is rejected at its first wrong item: an error for each one takes a thousand times the bytes of a body."""


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]
"""An integer in any JSON spelling, such as 21 or 21.0."""


class BinaryData(_Message):
    """Parameters of a tensor whose data are binary: little-endian, in row-major order, after the JSON of the body."""

    binary_data_size: WholeNumber | None = Field(None, description="Size in bytes.")


class InferInput(_Message):
    """An input tensor. `data` is flat in row-major order, or nested by `shape`; absent if the data are binary."""

    name: str
    shape: Listed[WholeNumber]
    datatype: str
    data: list[Any] | None = None
    parameters: BinaryData | None = None

    @property
    def binary_size(self) -> int | None:
        """Bytes of binary data; None if the data are in JSON."""
        return None if self.parameters is None else self.parameters.binary_data_size


class OutputParameters(_Message):
    """How an output is returned."""

    binary_data: bool | None = Field(None, description="As binary data; by default as `binary_data_output`.")
    classification: Annotated[WholeNumber, Field(ge=0)] | None = Field(
        None, description="Return this many classes as `probability:index:class`, the most probable first."
    )


class RequestedOutput(_Message):
    """An output tensor that the client requests."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(_Message):
    """Parameters of a request beyond the tensors."""

    binary_data_output: bool = False
    """Return outputs as binary data, unless they are requested otherwise."""
    known_digests: str | None = None
    """Digests of the models that the client knows, separated by blanks; a response by another model describes it."""
    patient_digest: str | None = None
    """Digest of the rows' patient class. A replica of another class rejects them, and a balancer tries the next."""


class InferRequest(_Message):
    """Body of `POST v2/models/{name}[/versions/{version}]/infer`; without `outputs`, all are returned."""

    parameters: RequestParameters | None = None
    inputs: Listed[InferInput]
    outputs: Listed[RequestedOutput] | None = None
    id: str | None = None

    @property
    def options(self) -> RequestParameters:
        """The parameters, or their defaults."""
        return self.parameters or RequestParameters()


class InferOutput(_Message):
    """An output tensor; `data` is flat in row-major order, absent if the data are binary, text for classifications."""

    name: str
    shape: Listed[WholeNumber]
    datatype: str
    data: Annotated[Listed[float] | Listed[str] | None, Field(union_mode="left_to_right")] = None
    parameters: BinaryData | None = None

    @property
    def numbers(self) -> list[float]:
        """The data in JSON.

        Raises:
            ValueError: they are binary, or text.

        """
        if self.data is None or isinstance(next(iter(self.data), None), str):
            raise ValueError("the output has no numbers in JSON")
        return cast("list[float]", self.data)  # pydantic accepts no mixed list


class TensorMetadata(_Message):
    """Shape of a tensor; -1 stands for any number of rows."""

    name: str
    datatype: str
    shape: Listed[int]


class ModelMetadata(_Message):
    """Body of `GET v2/models/{name}[/versions/{version}]`; `versions` are those that serve now."""

    name: str
    versions: Listed[str]
    platform: str
    inputs: Listed[TensorMetadata]
    outputs: Listed[TensorMetadata]
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
    outputs: Listed[InferOutput]
    id: str | None = None


class ServerMetadata(_Message):
    """Body of `GET v2`."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(_Message):
    """Body of `GET v2/health/live`."""

    live: bool


class ServerReady(_Message):
    """Body of `GET v2/health/ready`."""

    live: bool
    ready: bool


class ModelReady(_Message):
    """Body of `GET v2/models/{name}[/versions/{version}]/ready`."""

    name: str
    ready: bool


class ErrorBody(_Message):
    """Body of every response that is not a success."""

    error: str


def read_request(body: bytes, json_length: str | None = None) -> tuple[InferRequest, memoryview]:
    """Parse a request to infer, and return the binary data that follow it; the header `JSON_LENGTH` is `json_length`.

    Raises:
        ProtocolError: the body is not JSON (Infinity is not), not a request, or shorter than the header says.

    """
    whole = memoryview(body)
    end = len(body) if json_length is None else _length(json_length, len(body))
    try:
        return InferRequest.model_validate(_parsed(bytes(whole[:end]))), whole[end:]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"])) or "the body"
        raise ProtocolError(f"{path}: {first['msg']}") from None


def _length(header: str, most: int) -> int:
    if not (header.isascii() and header.isdecimal() and len(header) <= _LONGEST_LENGTH and int(header) <= most):
        raise ProtocolError(f"{JSON_LENGTH}: must be the number of bytes of the JSON, at most those of the body")
    return int(header)


def _parsed(text: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if b"NaN" in text:
            return _parsed_with_nan(text)
        raise _no_json() from None


def _parsed_with_nan(text: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse JSON with bare NaN, which Python's encoder and Triton's client write for a missing value."""
    try:
        orjson.loads(text.replace(b"NaN", b"null"))  # Python's reader takes half a surrogate pair, which no text has
        return json.loads(text.decode(), parse_constant=_constant, parse_int=float)  # an int may have too many digits
    except (ValueError, RecursionError):
        raise _no_json() from None


def _constant(name: str) -> float:
    if name != "NaN":
        raise ValueError(name)
    return math.nan


def _no_json() -> ProtocolError:
    return ProtocolError(f"the body is not JSON; write a missing value as null, and {JSON_LENGTH} for binary tensors")


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
