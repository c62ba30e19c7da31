"""Tensors of the Open Inference Protocol: the input as rows of the model, and probabilities as the requested output."""

import struct
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from services.inference.serving.model import Probabilities, Rows
from shared.contracts.open_inference import (
    INPUT,
    OUTPUT,
    BinaryData,
    InferInput,
    InferOutput,
    InferRequest,
    OutputParameters,
    ProtocolError,
)

DATATYPES: dict[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    "BOOL": np.dtype(np.bool_),
}
"""Accepted datatypes, as their binary form has them. The model reads float32 in any case."""
_NUMBERS = frozenset({int, float, type(None)})
_BOOLEANS = frozenset({bool, type(None)})


def read_rows(request: InferRequest, binary: memoryview, columns: int, *, most: int) -> Rows:
    """Return the rows of a request with `binary` data behind it, n x `columns`, NaN where missing; n is 1 to `most`.

    Raises:
        ProtocolError: the tensor, datatype, shape, size or an element is not accepted, or an output does not exist.

    """
    _check_outputs(request)
    if len(request.inputs) != 1 or request.inputs[0].name != INPUT:
        raise ProtocolError(f"inputs: exactly one is expected, {INPUT}")
    tensor = request.inputs[0]
    if tensor.datatype not in DATATYPES:
        raise ProtocolError(f"{INPUT}: datatype must be one of {', '.join(DATATYPES)}")
    if len(tensor.shape) != 2 or tensor.shape[1] != columns or not 1 <= tensor.shape[0] <= most:  # noqa: PLR2004
        raise ProtocolError(f"{INPUT}: shape must be [n, {columns}], n from 1 to {most}")
    if len(binary) != (tensor.binary_size or 0):
        raise ProtocolError(f"{INPUT}: binary_data_size and the bytes behind the JSON disagree")
    elements = _json_elements(tensor) if tensor.binary_size is None else _binary_elements(tensor, binary)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite is rejected below; NaN of every kind is missing
        rows = np.asarray(elements, dtype=np.float32).reshape(tensor.shape)
    if np.isinf(rows).any():
        raise ProtocolError(f"{INPUT}: data has an element outside FP32")
    return rows


def _check_outputs(request: InferRequest) -> None:
    requested = request.outputs or ()
    if unknown := [output for output in requested if output.name != OUTPUT]:
        raise ProtocolError(f"outputs: {len(unknown)} unknown; the model has one output, {OUTPUT}")
    if len(requested) > 1:
        raise ProtocolError(f"outputs: {OUTPUT} is requested more than once")


def _binary_elements(tensor: InferInput, binary: memoryview) -> npt.NDArray[Any]:
    dtype = DATATYPES[tensor.datatype]
    count, columns = tensor.shape
    if tensor.data is not None:
        raise ProtocolError(f"{INPUT}: has data and binary_data_size; send one of them")
    if len(binary) != count * columns * dtype.itemsize:
        raise ProtocolError(f"{INPUT}: binary_data_size and shape disagree")
    if dtype.kind != "b":
        return np.frombuffer(binary, dtype)
    flags = np.frombuffer(binary, np.uint8)
    if (flags > 1).any():
        raise ProtocolError(f"{INPUT}: data has an element that is not BOOL")
    return flags


def _json_elements(tensor: InferInput) -> list[Any]:
    if tensor.data is None:
        raise ProtocolError(f"{INPUT}: has neither data nor binary_data_size; shared memory is not supported")
    elements = _flattened(tensor, tensor.data)
    kind = DATATYPES[tensor.datatype].kind
    accepted = (_BOOLEANS if kind == "b" else _NUMBERS).issuperset(map(type, elements))
    if not accepted or (kind in "iu" and not all(map(_is_whole, elements))):
        raise ProtocolError(f"{INPUT}: data has an element that is not {tensor.datatype} or null")
    return elements


def _is_whole(element: float | None) -> bool:
    return not isinstance(element, float) or element.is_integer()


def _flattened(tensor: InferInput, data: list[Any]) -> list[Any]:
    count, columns = tensor.shape
    if isinstance(data[0] if data else None, list):
        if not all(isinstance(row, list) and len(row) == columns for row in data):
            raise ProtocolError(f"{INPUT}: each row of nested data must have {columns} elements")
        data = list(chain.from_iterable(data))
    if len(data) != count * columns:
        raise ProtocolError(f"{INPUT}: data and shape disagree")
    return data


def write_output(
    request: InferRequest, probabilities: Probabilities, classes: tuple[str, ...]
) -> tuple[InferOutput, bytes]:
    """Return the output as requested, and its binary data; empty if the data are in JSON."""
    parameters = (request.outputs and request.outputs[0].parameters) or OutputParameters()
    as_binary = request.options.binary_data_output if parameters.binary_data is None else parameters.binary_data
    shape, datatype, binary = list(probabilities.shape), "FP64", b""
    data: list[Any] | None = None
    if parameters.classification:
        texts = _classifications(probabilities, classes, parameters.classification)
        shape, datatype, data = [len(texts), len(texts[0])], "BYTES", list(chain.from_iterable(texts))
        if as_binary:
            binary, data = _length_prefixed(data), None
    elif as_binary:
        binary = probabilities.astype("<f8").tobytes()
    else:
        data = probabilities.ravel().tolist()
    size = BinaryData(binary_data_size=len(binary)) if as_binary else None
    output = InferOutput.model_construct(name=OUTPUT, shape=shape, datatype=datatype, data=data, parameters=size)
    return output, binary


def _classifications(probabilities: Probabilities, classes: tuple[str, ...], most: int) -> list[list[str]]:
    """Return up to `most` texts per row; of equal probabilities, the class that comes first."""
    return [
        [f"{row[index]!r}:{index}:{classes[index]}" for index in sorted(range(len(row)), key=lambda i: -row[i])[:most]]
        for row in probabilities.tolist()
    ]


def _length_prefixed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in map(str.encode, texts))
