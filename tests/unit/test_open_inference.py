"""Parsing of Open Inference Protocol requests: accepted requests, and the message of each rejection."""

import json
import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.api.tensors import read_rows, write_output
from shared.contracts.open_inference import (
    InferOutput,
    ModelMetadata,
    ProtocolError,
    describe,
    read_request,
)
from shared.contracts.scoring import ModelFacts

COLUMNS = 3


def request(**changes: object) -> bytes:
    tensor = {"name": "paciente", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, None]}
    top = {name: changes.pop(name) for name in ("id", "outputs", "inputs") if name in changes}
    return json.dumps({"inputs": [tensor | changes]} | top).encode()


def elements(body: bytes, json_length: str | None = None) -> list[float]:
    parsed, binary = read_request(body, json_length)
    return [*map(float, read_rows(parsed, binary, COLUMNS, most=10).ravel())]


def binary_request(content: bytes, datatype: str, **changes: object) -> tuple[bytes, str]:
    """Return a body whose tensor is binary, and the header with the length of its JSON."""
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": "paciente", "shape": [2, 3], "datatype": datatype, "parameters": parameters}
    text = orjson.dumps({"inputs": [tensor | changes]})
    return text + content, str(len(text))


def written(
    output: dict[str, Any], probabilities: list[list[float]], **parameters: object
) -> tuple[InferOutput, bytes]:
    """Return how `probabilities` of the classes a, b, c are returned as `output`."""
    top = {"outputs": [{"name": "probabilidades", "parameters": output}]} if output else {}
    body = orjson.loads(request()) | top | {"parameters": parameters}
    return write_output(read_request(orjson.dumps(body))[0], np.array(probabilities), ("a", "b", "c"))


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, None], [[1, 2, 3], [4, 5, None]]])
@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT64"])
def test_flat_and_nested_data_of_any_number_type_are_the_same_rows(data: list[Any], datatype: str) -> None:
    *known, missing = elements(request(data=data, datatype=datatype))
    assert known == [1, 2, 3, 4, 5]
    assert math.isnan(missing)


@pytest.mark.parametrize("datatype", ["FP64", "INT32"])
def test_a_whole_number_of_a_tensor_is_accepted_in_every_spelling(datatype: str) -> None:
    body = request(datatype=datatype, shape=[1, 3], data=[0, 0, 0])
    assert elements(body.replace(b"[0, 0, 0]", b"[47.0, 4.7e1, 47]").replace(b"[1, 3]", b"[1.0, 3e0]")) == [47] * 3


@pytest.mark.parametrize("missing", ["null", "NaN"])
def test_a_missing_value_of_json_is_null_or_a_bare_nan(missing: str) -> None:
    *known, last = elements(request().replace(b"null", missing.encode()))
    assert known == [1, 2, 3, 4, 5]
    assert math.isnan(last)


def test_flags_are_a_tensor_of_booleans() -> None:
    flags = [True, False, True, True, False]
    *known, last = elements(request(datatype="BOOL", data=[*flags, None]))
    assert known == flags
    assert math.isnan(last)
    assert elements(*binary_request(bytes([1, 0, 1, 1, 0, 0]), "BOOL")) == [*flags, False]


@pytest.mark.parametrize(
    ("datatype", "code"),
    [
        *[("FP16", "e"), ("FP32", "f"), ("FP64", "d")],
        *[("INT8", "b"), ("INT16", "h"), ("INT32", "i"), ("INT64", "q")],
        *[("UINT8", "B"), ("UINT16", "H"), ("UINT32", "I"), ("UINT64", "Q")],
    ],
)
def test_a_binary_tensor_is_little_endian_in_the_size_of_its_type(datatype: str, code: str) -> None:
    assert elements(*binary_request(struct.pack(f"<6{code}", 1, 2, 3, 4, 5, 6), datatype)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("nan", ["000000000000f87f", "010000000000f07f", "ffffffffffffffff"])
def test_every_nan_of_a_binary_tensor_is_a_missing_value(nan: str) -> None:
    *known, last = elements(*binary_request(struct.pack("<5d", 1, 2, 3, 4, 5) + bytes.fromhex(nan), "FP64"))
    assert known == [1, 2, 3, 4, 5]
    assert math.isnan(last)


@pytest.mark.parametrize(
    ("data", "datatype", "changes", "said"),
    [
        (bytes(23), "FP32", {}, "binary_data_size and shape disagree"),
        (bytes(24), "FP64", {}, "binary_data_size and shape disagree"),
        (bytes(24), "FP32", {"parameters": {"binary_data_size": 23}}, "the bytes behind the JSON disagree"),
        (bytes(24), "FP32", {"parameters": {}}, "the bytes behind the JSON disagree"),
        (b"", "FP32", {"parameters": {"binary_data_size": -1}}, "the bytes behind the JSON disagree"),
        (bytes(24), "FP32", {"data": [1] * 6}, "send one of them"),
        (b"", "FP32", {"parameters": {}}, "neither data nor binary_data_size; shared memory is not supported"),
        (bytes(6 * 4), "BYTES", {}, "datatype must be one of FP16, FP32"),
        (bytes([0, 1, 2, 0, 1, 0]), "BOOL", {}, "not BOOL"),
        (struct.pack("<6f", 1, 2, 3, 4, 5, math.inf), "FP32", {}, "outside FP32"),
        (struct.pack("<6d", 1, 2, 3, 4, 5, 1e39), "FP64", {}, "outside FP32"),
    ],
)
def test_a_binary_tensor_that_is_not_as_announced_is_rejected(
    data: bytes, datatype: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProtocolError, match=said):
        elements(*binary_request(data, datatype, **changes))


@pytest.mark.parametrize("header", ["", "-1", "1e2", "12.0", "9" * 12, "9" * 5000, "²"])
def test_a_length_of_the_json_that_cannot_be_is_rejected(header: str) -> None:
    body, _ = binary_request(bytes(24), "FP32")
    with pytest.raises(ProtocolError, match="Inference-Header-Content-Length: must be the number of bytes"):
        elements(body, header)


def test_binary_tensors_without_their_header_are_rejected_by_its_name() -> None:
    body, _ = binary_request(bytes(24), "FP32")
    with pytest.raises(ProtocolError, match="Inference-Header-Content-Length for binary tensors"):
        elements(body)


ROW = [[0.25, 0.5, 0.25], [1e-07, 0.0, 0.9999999]]


@pytest.mark.parametrize(
    ("output", "parameters", "is_binary"),
    [
        ({}, {}, False),
        ({}, {"binary_data_output": True}, True),
        ({"binary_data": True}, {}, True),
        ({"binary_data": False}, {"binary_data_output": True}, False),
        ({"classification": 0}, {"binary_data_output": True}, True),
    ],
)
def test_probabilities_are_returned_as_json_or_binary(
    output: dict[str, Any], parameters: dict[str, Any], *, is_binary: bool
) -> None:
    tensor, binary = written(output, ROW, **parameters)
    assert (tensor.shape, tensor.datatype) == ([2, 3], "FP64")
    flat = [*ROW[0], *ROW[1]]
    if is_binary:
        assert (binary, tensor.data) == (struct.pack("<6d", *flat), None)
        assert tensor.parameters is not None
        assert tensor.parameters.binary_data_size == 48
    else:
        assert (binary, tensor.data, tensor.parameters) == (b"", flat, None)


def test_classifications_are_the_most_probable_classes_with_their_names() -> None:
    tensor, binary = written({"classification": 2}, ROW)
    assert (tensor.shape, tensor.datatype, binary) == ([2, 2], "BYTES", b"")
    assert tensor.data == ["0.5:1:b", "0.25:0:a", "0.9999999:2:c", "1e-07:0:a"]
    assert written({"classification": 9}, ROW)[0].shape == [2, 3]

    tensor, binary = written({"classification": 1.0, "binary_data": True}, ROW)
    assert (tensor.shape, tensor.datatype, tensor.data) == ([2, 1], "BYTES", None)
    assert binary == b"\x07\0\0\x000.5:1:b" + b"\x0d\0\0\x000.9999999:2:c"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": [1, 2, 3, 4, 5]}, "disagree"),
        ({"data": []}, "disagree"),
        ({"data": [[1, 2, 3], [4, 5]]}, "nested"),
        ({"data": [[1, 2, 3], 4, 5, 6]}, "nested"),
        ({"data": [1, 2, 3, [4], 5, 6]}, "element"),
        ({"data": [[1, 2, 3], [4, 5, [777]]]}, "element"),
        ({"data": [1, 2, 3, 4, 5, "777"]}, "element"),
        ({"data": [1, 2, 3, 4, 5, True]}, "element"),
        ({"data": [1, 2, 3, 4, 5, {"a": 777}]}, "element"),
        ({"datatype": "INT32", "data": [1, 2, 3, 4, 5, 777.5]}, "INT32"),
        ({"datatype": "INT32", "data": [1, 2, 3, 4, 5, math.nan]}, "INT32"),
        ({"datatype": "BOOL", "data": [True, False, True, False, True, 1]}, "BOOL"),
        ({"data": [1, 2, 3, 4, 5, 1e39]}, "outside FP32"),
        ({"data": [1, 2, 3, 4, math.nan, 10**300]}, "outside FP32"),
        ({"datatype": "BYTES"}, "datatype must be one of FP16, FP32"),
        ({"datatype": "777"}, "datatype must be one of FP16, FP32"),
        ({"datatype": 777}, r"inputs\.0\.datatype"),
        ({"shape": [2]}, "shape"),
        ({"shape": [3, 2]}, "shape"),
        ({"shape": [2, 3, 1]}, "shape"),
        ({"shape": [0, 3], "data": []}, "from 1 to 10"),
        ({"shape": [-2, 3]}, "from 1 to 10"),
        ({"shape": [11, 3], "data": [777] * 33}, "from 1 to 10"),
        ({"shape": ["777", 3]}, r"inputs\.0\.shape\.0"),
        ({"shape": [2.5, 3]}, r"inputs\.0\.shape\.0"),
        ({"name": "777"}, "paciente"),
        ({"inputs": []}, "exactly one"),
        ({"inputs": 777}, "inputs"),
        ({"outputs": [{"name": "777"}]}, "probabilidades"),
        ({"outputs": [{"name": "probabilidades"}] * 2}, "more than once"),
        ({"outputs": [{"name": "probabilidades", "parameters": {"classification": -1}}]}, "classification"),
        ({"outputs": [{"name": "probabilidades", "parameters": {"binary_data": 1}}]}, "binary_data"),
        ({"id": 777}, "id"),
    ],
)
def test_a_refusal_names_the_part_and_never_a_value(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as refused:
        elements(request(**changes))
    assert "777" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"NaN" + b"[" * 100_000,
        b'{"id": "NaN\xff"}',
        request().replace(b"null", b"NaN").replace(b'"inputs"', b'"id": "\\ud800", "inputs"'),
        request().replace(b"null", b"NaN").replace(b"5", b"1e999"),
        request().replace(b"null", b"Infinity"),
        request().replace(b"null", b"1e999"),
        request().replace(b"null", b"NaN").replace(b"5", b"-Infinity"),
    ],
)
def test_a_body_that_is_no_json_object_is_rejected(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="body"):
        read_request(body)


def test_attributes_of_other_extensions_are_ignored() -> None:
    body = request(id="42", parameters={"content_type": "np"}, outputs=[{"name": "probabilidades", "parameters": {}}])
    assert read_request(body)[0].id == "42"
    assert len(elements(body)) == 6


def test_parameters_may_be_null() -> None:
    """MLServer's own client writes them so."""
    body = request(id=None, parameters=None, outputs=[{"name": "probabilidades", "parameters": None}])
    parsed, _ = read_request(body)
    assert len(elements(body)) == 6
    assert write_output(parsed, np.array(ROW), ("a", "b", "c"))[0].data is not None


names = st.text(min_size=1, max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        ModelFacts,
        name=names,
        version=names,
        digest=names,
        patient_digest=names,
        columns=st.lists(names, min_size=1).map(tuple),
        classes=st.lists(names, min_size=1).map(tuple),
        prevalence=st.dictionaries(names, numbers),
        low_prevalence=st.lists(names).map(tuple),
        training_ranges=st.dictionaries(names, st.tuples(numbers, numbers)),
        never_missing=st.lists(names).map(tuple),
        plausible_at=st.none() | st.floats(0, 1),
    )
)
def test_metadata_carry_a_model_over_the_wire_and_back(facts: ModelFacts) -> None:
    wire = describe(facts, "onnx_onnxv1").model_dump_json()
    assert ModelMetadata.model_validate_json(wire).facts == facts


def test_the_metadata_of_a_model_are_the_same_bytes_as_in_version_0_1_0() -> None:
    """The order of keys included: written down from what commit 16baa3c answered."""
    facts = ModelFacts(
        name="prueba",
        version="3",
        digest="d" * 64,
        patient_digest="p" * 64,
        columns=("edad", "sexo"),
        classes=("sano", "enfermo"),
        prevalence={"sano": 0.9, "enfermo": 0.1},
        low_prevalence=("enfermo",),
        training_ranges={"edad": (1.0, 97.0)},
        never_missing=("edad",),
        plausible_at=0.2,
    )
    assert describe(facts, "onnx_onnxv1").model_dump_json() == (
        '{"name":"prueba","versions":["3"],"platform":"onnx_onnxv1",'
        '"inputs":[{"name":"paciente","datatype":"FP32","shape":[-1,2]}],'
        '"outputs":[{"name":"probabilidades","datatype":"FP64","shape":[-1,2]}],'
        f'"parameters":{{"digest":"{"d" * 64}","patient_digest":"{"p" * 64}","columns":["edad","sexo"],'
        '"classes":["sano","enfermo"],"prevalence":{"sano":0.9,"enfermo":0.1},"low_prevalence":["enfermo"],'
        '"training_ranges":{"edad":[1.0,97.0]},"never_missing":["edad"],"plausible_at":0.2}}'
    )
