"""Parsing of Open Inference Protocol requests: accepted requests, and the message of each rejection."""

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.open_inference import ModelMetadata, ProtocolError, describe, flat_rows, read_request
from shared.contracts.scoring import ModelFacts

COLUMNS = 3


def request(**changes: object) -> bytes:
    tensor = {"name": "paciente", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, None]}
    top = {name: changes.pop(name) for name in ("id", "outputs", "inputs") if name in changes}
    return orjson.dumps({"inputs": [tensor | changes]} | top)


def elements(body: bytes) -> list[float]:
    return flat_rows(read_request(body), COLUMNS, most=10)


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, None], [[1, 2, 3], [4, 5, None]]])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT8", "INT16", "INT32", "INT64"])
def test_flat_and_nested_data_of_any_number_type_are_the_same_rows(data: list[Any], datatype: str) -> None:
    *known, missing = elements(request(data=data, datatype=datatype))
    assert known == [1, 2, 3, 4, 5]
    assert math.isnan(missing)


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
        ({"datatype": "BYTES"}, "datatype must be one of FP32"),
        ({"datatype": "777"}, "datatype must be one of FP32"),
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
        request().replace(b"null", b"NaN"),
        request().replace(b"null", b"Infinity"),
        request().replace(b"null", b"1e999"),
    ],
)
def test_a_body_that_is_no_json_object_is_rejected(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="body"):
        read_request(body)


def test_attributes_of_other_extensions_are_ignored() -> None:
    body = request(id="42", parameters={"binary_data": False}, outputs=[{"name": "probabilidades", "parameters": {}}])
    assert read_request(body).id == "42"
    assert len(elements(body)) == 6


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
