"""Fuzzing of every parser: on any input it returns, or raises its documented error.

Mutants of valid inputs reach far into a parser; generated inputs follow the structure of an example only loosely. Both
are the same in every run. Inputs stay within what our own bounds are about.
"""

import asyncio
import gzip
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.types import Message

from services.gateway.api.patient_reference import PatientReferences
from services.gateway.api.requests import idempotency_key, read_json, read_patient
from services.gateway.inference_answers import (
    WrongAnswerError,
    check_tensors,
    facts_of,
    numbers_of,
    read_answer,
    read_metadata,
)
from services.inference.api.tensors import read_rows
from services.recorder.ingest.parsing import read_row
from shared.artifacts.bundle import MANIFEST, PICKLE, SIGNATURE, check_manifest, open_bundle
from shared.artifacts.errors import BundleError
from shared.artifacts.signing import signature_holds, signing_key
from shared.broker.settings import read_broker_url
from shared.contracts.event_batches import CONTENT_TYPE, BatchError, split, unpack
from shared.contracts.events import EventError, read_event
from shared.contracts.open_inference import (
    InferOutput,
    InferResponse,
    ProtocolError,
    ResponseParameters,
    describe,
    read_request,
)
from shared.contracts.outbox_status import read_status
from shared.contracts.transport import Delivery
from shared.database_url import connect_arguments, read_url, shown
from shared.diseases.thyroid import DatosPaciente
from shared.settings import SettingsError
from shared.web.api_keys import ApiKey, ApiKeyFile, ApiKeyStore, KeyFileError, Role, digest
from shared.web.problems import ProblemError
from tests.support.attack_table import Attack
from tests.support.bundles import make_bundle
from tests.support.data import thyroid_csv
from tests.support.doubles import MODEL
from tests.support.gateway import HYPER, gateway
from tests.support.mutation import ODD_VALUES, dumped, mutated_bytes, mutated_json, mutated_text, mutated_value
from tests.support.paths import ROOT
from training.config import read_parameters
from training.data.preparation import prepare
from training.errors import DataError, ParametersError

MUTANTS = 2_000
"""Mutants of each parser; a slower parser gets fewer."""
GENERATED = 100
"""Generated inputs of each parser."""
SEED = 20_261_130
RISK = "Fuzzing"
COLUMNS = 3
FEEDBACK = {"aceptada": False, "diagnostico": "hipotiroidismo", "motivo": "TSH repetida: 14 mU/L"}

GOLDEN = ROOT / "tests/contract/golden"
EVENTS = [file.read_bytes() for file in sorted(GOLDEN.glob("*.v1*.json")) if not file.name.startswith("gateway")]
STATUS = (GOLDEN / "gateway.estado.v1.json").read_bytes()
TENSOR = {"name": "paciente", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, None]}
INFER = [
    dumped({"inputs": [TENSOR], "id": "7"}),
    dumped({"inputs": [{**TENSOR, "datatype": "INT64", "data": [[1, 2, 3], [4, 5, 6]]}]}),
    dumped({"inputs": [{**TENSOR, "datatype": "BOOL", "data": [True, False, None, True, True, False]}]}),
    dumped(
        {
            "inputs": [TENSOR],
            "outputs": [{"name": "probabilidades", "parameters": {"classification": 2, "binary_data": True}}],
            "parameters": {"known_digests": "d e", "patient_digest": "p", "binary_data_output": True},
        }
    ),
]
BINARY = {**TENSOR, "parameters": {"binary_data_size": 24}} | {"data": None}
ANSWER = InferResponse(
    model_name="tiroides",
    model_version="7",
    parameters=ResponseParameters(digest="d" * 64, model=describe(MODEL, "onnx_onnxv1")),
    outputs=[InferOutput(name="probabilidades", shape=[1, 7], datatype="FP64", data=[1 / 7] * 7)],
)
URLS = [
    "sqlite:///./predicciones.db",
    "postgresql://ana:s%40creto@db.example.org:5432/clinica?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    "postgres://ana:s@[::1]:5432,db2:5433/clinica?target_session_attrs=read-write&connect_timeout=5&options=-c%20x%3D1",
    "postgresql://ana@/clinica?host=/var/run/postgresql&application_name=a&channel_binding=prefer",
]
BROKER_URLS = ["amqp://gateway:s%40creto@rabbit:5672/predecir", "amqps://u:p@[::1]/%2f?heartbeat=5"]


@dataclass(frozen=True)
class Parser:
    """A parser, the errors it documents, and its inputs.

    `read` runs the parser on one input. `mutant` returns an input; `example` is the model of generated inputs, whose
    JSON is `written` as an input.
    """

    name: str
    errors: tuple[type[Exception], ...]
    read: Callable[[Any], object]
    mutant: Callable[[random.Random], Any]
    example: Any
    written: Callable[[Any], Any] = dumped
    mutants: int = MUTANTS


def finished(work: Any) -> Any:  # noqa: ANN401 - a coroutine of any result
    """Return the result of a coroutine in an event loop of its own."""
    with asyncio.Runner() as runner:
        return runner.run(work)


def receiving(body: bytes) -> Callable[[], Any]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def read_patient_request(body: bytes, coding: bytes | None = None) -> None:
    headers = [(b"content-type", b"application/json"), *([] if coding is None else [(b"content-encoding", coding)])]
    body = finished(read_json({"type": "http", "headers": headers}, receiving(body)))
    read_patient(body, DatosPaciente)


def rehashed(content: bytes) -> bytes:
    """Return an event with the hash of its data, which another program could compute as well."""
    try:
        event = orjson.loads(content)
        event["datahash"] = hashlib.sha256(orjson.dumps(event["data"])).hexdigest()
    except (ValueError, TypeError, KeyError):
        return content
    return orjson.dumps(event)


def mutant_event(rng: random.Random) -> bytes:
    content = mutated_json(rng, EVENTS)
    return content if rng.random() < 0.2 else rehashed(content)


def read_delivery(body: bytes) -> None:
    row = read_row(Delivery("g", 1, body), datetime(2026, 11, 30, tzinfo=UTC))
    assert row.body == body


def a_batch() -> tuple[str, dict[str, Any], bytes]:
    [batch] = split([Delivery("gateway-1", 7 + number, event) for number, event in enumerate(EVENTS)], 200)
    return CONTENT_TYPE, dict(batch.headers), batch.body


def mutant_batch(rng: random.Random) -> tuple[Any, Any, bytes]:
    content_type, headers, body = a_batch()
    tree = mutated_value(rng, [{"type": content_type, "headers": headers}]) if rng.random() < 0.6 else None
    if not isinstance(tree, dict) or not isinstance(tree.get("headers"), dict):
        tree = {"type": content_type, "headers": headers}
    return tree.get("type"), tree["headers"], body if rng.random() < 0.4 else mutated_bytes(rng, [body, b"[]", b"[{}]"])


def read_tensors(request: tuple[bytes, str | None]) -> None:
    parsed, binary = read_request(*request)
    rows = read_rows(parsed, binary, COLUMNS, most=10)
    assert rows.shape[1] == COLUMNS


def with_binary(tree: object, binary: bytes) -> tuple[bytes, str | None]:
    content = dumped(tree)
    return content + binary, str(len(content))


def mutant_binary(rng: random.Random) -> tuple[bytes, str | None]:
    tree = {"inputs": [BINARY]} if rng.random() < 0.3 else mutated_value(rng, [{"inputs": [BINARY]}])
    body, length = with_binary(tree, bytes(24) if rng.random() < 0.5 else rng.randbytes(rng.choice((0, 23, 24, 48))))
    return body, length if rng.random() < 0.7 else mutated_text(rng, [length or ""])


def read_inference(content: bytes) -> None:
    answer = read_answer(content)
    if answer.parameters.model is not None:
        facts_of(answer.parameters.model, DatosPaciente)
    for output in answer.outputs:
        numbers_of(output, 1, len(MODEL.classes))


def read_description(content: bytes) -> None:
    metadata = read_metadata(content)
    check_tensors(metadata, facts_of(metadata, DatosPaciente))


def read_database_url(text: str) -> None:
    url = read_url(text)
    assert shown(url)
    if url.drivername != "sqlite":
        connect_arguments(url, application_name="test", connect_seconds=5)


def read_header(headers: Sequence[tuple[bytes, bytes]]) -> None:
    scope = {"type": "http", "headers": headers}
    idempotency_key(scope)
    PatientReferences(bytes(32)).of_request(scope)


def mutant_headers(rng: random.Random) -> list[tuple[bytes, bytes]]:
    name = rng.choice((b"idempotency-key", b"referencia-paciente"))
    return [(name, mutated_bytes(rng, [b"consulta-417", b"HC%202026%2F0417"])) for _ in range(rng.choice((1, 1, 2)))]


PARSERS = [
    Parser(
        "patient",
        (ProblemError,),
        read_patient_request,
        lambda rng: mutated_json(rng, [dumped(HYPER)]),
        HYPER,
    ),
    Parser(
        "compressed patient",
        (ProblemError,),
        lambda body: read_patient_request(body, b"gzip"),
        lambda rng: mutated_bytes(rng, [gzip.compress(dumped(HYPER), mtime=0)]),
        HYPER,
        lambda tree: gzip.compress(dumped(tree), mtime=0),
        MUTANTS // 10,
    ),
    Parser(
        "patient reference in a body",
        (ProblemError,),
        PatientReferences(bytes(32)).of_body,
        lambda rng: mutated_json(rng, [b'{"referencia": "HC 2026/0417"}']),
        {"referencia": "HC 2026/0417"},
    ),
    Parser(
        "headers of a request",
        (ProblemError,),
        read_header,
        mutant_headers,
        "HC%202026%2F0417",
        lambda tree: [(b"idempotency-key", dumped(tree)), (b"referencia-paciente", dumped(tree))],
    ),
    Parser(
        "event", (EventError,), read_event, mutant_event, json.loads(EVENTS[0]), lambda tree: rehashed(dumped(tree))
    ),
    Parser("delivery", (), read_delivery, mutant_event, json.loads(EVENTS[-1]), lambda tree: rehashed(dumped(tree))),
    Parser(
        "batch of events",
        (BatchError,),
        lambda message: unpack(*message),
        mutant_batch,
        {"gateway-id": "g", "first-seq": 1, "events": 2},
        lambda tree: (CONTENT_TYPE, tree if isinstance(tree, dict) else {}, b"[{},\n{}]"),
    ),
    Parser(
        "status of an outbox",
        (EventError,),
        read_status,
        lambda rng: mutated_json(rng, [STATUS]),
        json.loads(STATUS),
    ),
    Parser(
        "Open Inference request, JSON",
        (ProtocolError,),
        lambda body: read_tensors((body, None)),
        lambda rng: mutated_json(rng, INFER),
        json.loads(INFER[-1]),
    ),
    Parser(
        "Open Inference request, binary tensors",
        (ProtocolError,),
        read_tensors,
        mutant_binary,
        {"inputs": [BINARY]},
        lambda tree: with_binary(tree, bytes(24)),
    ),
    Parser(
        "answer of inference",
        (WrongAnswerError,),
        read_inference,
        lambda rng: mutated_json(rng, [ANSWER.model_dump_json().encode()]),
        ANSWER.model_dump(mode="json"),
    ),
    Parser(
        "metadata of inference",
        (WrongAnswerError,),
        read_description,
        lambda rng: mutated_json(rng, [describe(MODEL, "onnx_onnxv1").model_dump_json().encode()]),
        describe(MODEL, "onnx_onnxv1").model_dump(mode="json"),
    ),
    Parser(
        "DATABASE_URL",
        (SettingsError,),
        read_database_url,
        lambda rng: mutated_text(rng, URLS),
        {"sslmode": "require", "options": "-c x=1", "host": "db"},
        lambda tree: (
            f"postgresql://u:p@h/d?{'&'.join(f'{name}={value}' for name, value in tree.items())}"
            if isinstance(tree, dict)
            else str(tree)
        ),
    ),
    Parser(
        "BROKER_URL",
        (SettingsError,),
        lambda text: read_broker_url(SecretStr(text)),
        lambda rng: mutated_text(rng, BROKER_URLS),
        "amqp://u:p@h/",
        str,
    ),
]
"""Parsers of bytes and texts; those of files follow."""


def entry(role: Role, secret: bytes) -> ApiKey:
    """Return the same entry of a file of keys in every run."""
    name = digest(secret)
    return ApiKey(
        id=name[:12], role=role, name=f"Consulta {role}", sha256=name, created=datetime(2026, 3, 1, tzinfo=UTC)
    )


@pytest.fixture(scope="module")
def file_parsers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Parser]:
    """Parsers of files, by name."""
    folder = tmp_path_factory.mktemp("fuzzing")
    bundle = make_bundle(folder / "var", DatosPaciente, pickled=b"a pickle")
    key, public = signing_key(folder / "var/keys"), folder / "var/keys/bundle.pub"
    content = {name: (bundle / name).read_bytes() for name in (MANIFEST, SIGNATURE, PICKLE)}
    secrets = [f"pdk_{role}".encode() for role in Role]
    keys = ApiKeyFile(keys=tuple(map(entry, Role, secrets))).model_dump_json(indent=1).encode()
    lines = thyroid_csv().read_bytes().splitlines(keepends=True)
    table, params = b"".join(lines[:8]), (ROOT / "params.yaml").read_bytes()
    row = dict(zip(lines[0].decode().strip().split(","), lines[1].decode().strip().split(","), strict=True))

    def in_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def write_and_read(changed: bytes) -> object:
            (folder / "mutant").write_bytes(changed)
            return read(folder / "mutant")

        return write_and_read

    def read_manifest(changed: bytes) -> None:
        check_manifest(
            changed, key.sign(changed), public, patient_digest=DatosPaciente.digest, name=None, origin="test"
        )

    def read_bundle(changed: tuple[str, bytes]) -> None:
        for name, original in content.items():
            (bundle / name).write_bytes(changed[1] if name == changed[0] else original)
        opened = open_bundle(bundle, public, patient_digest=DatosPaciente.digest)
        assert opened.files == {PICKLE: content[PICKLE]}

    def read_access(path: Path) -> None:
        store = ApiKeyStore(path)
        for secret in secrets:
            store.find(b"Bearer " + secret)

    def mutant_file(rng: random.Random) -> tuple[str, bytes]:
        name = rng.choice(sorted(content))
        return name, mutated_bytes(rng, [content[name]])

    slow = MUTANTS // 10
    manifest = json.loads(content[MANIFEST])
    manifest["golden"] = {name: rows[:1] for name, rows in manifest["golden"].items()}
    listed = [
        Parser(
            "manifest",
            (BundleError,),
            read_manifest,
            lambda rng: mutated_json(rng, [content[MANIFEST]]),
            manifest,
            mutants=MUTANTS // 4,
        ),
        Parser(
            "bundle",
            (BundleError,),
            read_bundle,
            mutant_file,
            [PICKLE],
            lambda tree: (PICKLE, dumped(tree)),
        ),
        Parser(
            "public key of bundles",
            (BundleError,),
            in_file(lambda path: signature_holds(b"", bytes(64), path)),
            lambda rng: mutated_bytes(rng, [public.read_bytes()]),
            "PUBLIC KEY",
            mutants=slow,
        ),
        Parser(
            "file of keys",
            (KeyFileError,),
            in_file(read_access),
            lambda rng: mutated_json(rng, [keys]),
            json.loads(keys),
        ),
        Parser(
            "training data",
            (DataError,),
            in_file(lambda path: prepare(path, DatosPaciente)),
            lambda rng: mutated_bytes(rng, [table]),
            row,
            lambda tree: (
                b",".join(dumped(name) for name in tree) + b"\n" + b",".join(map(dumped, tree.values()))
                if isinstance(tree, dict)
                else dumped(tree)
            ),
            slow,
        ),
        Parser(
            "params.yaml",
            (ParametersError,),
            in_file(read_parameters),
            lambda rng: mutated_bytes(rng, [params]),
            {"split": {"method": "time", "date": "1986-07-01"}, "checks": {"missing": 0.2}},  # JSON is YAML
            mutants=slow // 2,
        ),
    ]
    return {parser.name: parser for parser in listed}


FILES = ("manifest", "bundle", "public key of bundles", "file of keys", "training data", "params.yaml")


@pytest.fixture(params=[*(parser.name for parser in PARSERS), *FILES])
def parser(request: pytest.FixtureRequest, file_parsers: Mapping[str, Parser]) -> Parser:
    return ({parser.name: parser for parser in PARSERS} | dict(file_parsers))[request.param]


def failure(parser: Parser, content: object) -> Exception | None:
    """Return what the parser raises beyond its documented errors, or None."""
    try:
        parser.read(content)
    except parser.errors:
        return None
    except Exception as error:  # noqa: BLE001 - any other is a failure
        return error
    return None


def test_a_mutant_raises_nothing_but_the_documented_error(parser: Parser, attack: Attack) -> None:
    rng = random.Random(SEED)  # noqa: S311 - the same inputs in every run, not keys
    with attack(RISK, f"{parser.name}: mutants") as tries:
        for _ in range(parser.mutants):
            content = parser.mutant(rng)
            error = failure(parser, content)
            tries.add(f"{error!r} for {content!r}", success=error is not None)


scalars = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars | st.sampled_from(ODD_VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def near(example: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - JSON
    """Return a strategy of values like `example`: mostly its names and types, at times anything."""
    like: st.SearchStrategy[Any]
    if isinstance(example, dict):
        fields = {name: near(value) for name, value in example.items()}
        like = st.fixed_dictionaries(fields) | st.fixed_dictionaries({}, optional=fields)
    elif isinstance(example, list) and example:
        like = st.lists(near(example[0]), max_size=4)
    else:
        like = st.just(example)
    return st.one_of(*[like] * 8, values)  # `values` is several strategies here


@settings(
    max_examples=GENERATED,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
@given(data=st.data())
def generate(data: st.DataObject, parser: Parser, inputs: st.SearchStrategy[Any], seen: list[object]) -> None:
    content = parser.written(data.draw(inputs))
    seen.append(content)
    error = failure(parser, content)
    assert error is None, f"{error!r} for {content!r}"


def test_generated_input_raises_nothing_but_the_documented_error(parser: Parser, attack: Attack) -> None:
    seen: list[object] = []
    with attack(RISK, f"{parser.name}: generated") as tries:
        generate(parser=parser, inputs=near(parser.example), seen=seen)
        for content in seen:  # the first failure ends them
            tries.add(content, success=False)


@pytest.mark.parametrize(
    ("path", "example"),
    [
        ("/predecir", HYPER),
        ("/referencias", {"referencia": "HC 2026/0417"}),
        (f"/predicciones/{json.loads(EVENTS[0])['id']}/resultado", FEEDBACK),
    ],
)
async def test_a_mutant_body_is_never_a_server_error(
    tmp_path: Path, attack: Attack, path: str, example: dict[str, Any]
) -> None:
    rng = random.Random(SEED)  # noqa: S311 - the same
    async with gateway(tmp_path) as client:
        with attack(RISK, f"body of {path.rpartition('/')[2]} over HTTP") as tries:
            for _ in range(MUTANTS // 4):
                body = mutated_json(rng, [dumped(example)])
                response = await client.post(path, content=body, headers={"Content-Type": "application/json"})
                tries.add((response.status_code, body), success=response.status_code >= 500)
