"""Patient references, in process: stored only as a hash, never in a URL, and equal for every spelling."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from services.gateway.api.patient_reference import normalised, open_patient_references
from shared.contracts.events import PredictionMade, read_event
from shared.settings import SettingsError
from tests.support.gateway import HYPER, PROBLEM, Client, gateway
from tests.support.odd_files import ODD_FILES
from tests.support.waiting import until

REFERENCE = "Núñez  HC-0417"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with gateway(tmp_path) as opened:
        yield opened


def header(text: str) -> dict[str, str]:
    return {"Referencia-Paciente": quote(text)}


async def hashed(client: Client, text: str) -> str:
    response = await client.post("/referencias", json={"referencia": text})
    assert response.status_code == 200
    return str(response.json()["hash"])


async def recorded(client: Client) -> list[str | None]:
    await until(lambda: client.gateway.outbox.pending == 0)
    events = [read_event(delivery.body) for delivery in client.recorder.deliveries]
    return [event.data.referencia for event in events if isinstance(event, PredictionMade)]


async def test_the_event_has_the_hash_and_not_the_reference(client: Client, tmp_path: Path) -> None:
    for headers in (header(REFERENCE), header("otra"), {}, header(" ")):
        assert (await client.predict(HYPER, **headers)).status_code == 200
    assert await recorded(client) == [await hashed(client, REFERENCE), await hashed(client, "otra"), None, None]
    written = b"".join(delivery.body for delivery in client.recorder.deliveries)
    assert b"0417" not in written
    key = bytes.fromhex((tmp_path / "keys" / "reference.key").read_text())
    assert await hashed(client, REFERENCE) == hmac.new(key, "núñez hc-0417".encode(), "sha256").hexdigest()


@pytest.mark.parametrize(
    ("one", "other"),
    [(" nÚÑEZ hc-0417\n", REFERENCE), ("\uff28\uff23\u3000\uff14", "hc 4"), ("STRASSE", "straße"), ("n\u0303", "Ñ")],
)
def test_however_it_is_typed_it_is_one_reference(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) != ""


@pytest.mark.parametrize("text", ["Juana", "ﬁ ΐ ß", "İstanbul", "ǰ"])
def test_what_was_evened_out_stays_as_it_is(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


async def test_the_same_key_with_another_reference_is_another_request(client: Client) -> None:
    key = {"Idempotency-Key": "k1"}
    first, again = [await client.predict(HYPER, **header(REFERENCE), **key) for _ in range(2)]
    assert first.content == again.content
    for headers in (header("otra"), {}):
        assert (await client.predict(HYPER, **headers, **key)).status_code == 422
    assert client.answered() == 1


@pytest.mark.parametrize("value", ["%ff", "%F1", "x" * 129, quote("ñ" * 129)])
async def test_an_unreadable_header_is_rejected_and_nothing_recorded(client: Client, value: str) -> None:
    with capture_logs() as logs:
        response = await client.predict(HYPER, **{"Referencia-Paciente": value})
    assert (response.status_code, response.headers["content-type"]) == (400, PROBLEM)
    assert response.json()["type"] == "urn:predecir:problema:referencia"
    assert value not in response.text + str(logs)
    assert client.answered() == 0


async def test_of_two_references_none_is_taken(client: Client) -> None:
    headers = [("Content-Type", "application/json"), *[("Referencia-Paciente", "a")] * 2]
    assert (await client.post("/predecir", json=HYPER, headers=headers)).status_code == 400


async def test_the_longest_reference_is_taken(client: Client) -> None:
    assert (await client.predict(HYPER, **header("ñ" * 128))).status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"referencia": ""}, {"referencia": " "}, {"referencia": 4}, {"referencia": "x" * 129}]
)
async def test_a_body_without_a_reference_is_rejected_in_spanish(client: Client, body: object) -> None:
    response = await client.post("/referencias", json=body)
    assert (response.status_code, response.headers["content-type"]) == (422, PROBLEM)
    [fault] = response.json()["errores"]
    assert (fault["campo"], fault["mensaje"][:28]) == ("referencia", "La referencia del paciente e")


async def test_a_body_that_does_not_arrive_times_out(tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with gateway(tmp_path, gateway_deadline_seconds=0.05) as client:
        headers = {"Content-Type": "application/json"}
        assert (await client.post("/referencias", content=stalls(), headers=headers)).status_code == 408


async def test_the_hash_is_the_same_after_a_restart_and_another_with_another_key(tmp_path: Path) -> None:
    hashes = []
    with capture_logs() as logs:
        for name in ("one", "one", "other"):
            async with gateway(tmp_path, reference_key_file=tmp_path / "secrets" / name) as client:
                hashes.append(await hashed(client, REFERENCE))
    assert hashes[0] == hashes[1] != hashes[2]
    made = [(entry["log_level"], entry["path"]) for entry in logs if entry["event"] == "reference_key_made"]
    # A key that is created after the first start replaces a lost one.
    assert made == [("info", str(tmp_path / "secrets" / "one")), ("warning", str(tmp_path / "secrets" / "other"))]


def test_replicas_that_start_at_once_agree_on_one_key_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "reference.key"
    with ThreadPoolExecutor(8) as pool:
        hashes = set(
            pool.map(lambda _: open_patient_references(path, first_start=True).of_body(b'{"referencia":"a"}'), range(8))
        )
    assert len(hashes) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "zz" * 32, "5f" * 16])
def test_a_file_that_is_no_key_is_one_line_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "reference.key"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"^settings: REFERENCE_KEY_FILE: .*restore it") as caught:
        open_patient_references(path, first_start=True)
    assert "5f5f" not in str(caught.value)
    assert path.read_text() == content


@pytest.mark.parametrize("odd", ODD_FILES)
def test_a_key_that_is_odd_or_too_large_is_one_line(tmp_path: Path, odd: Callable[[Path], None]) -> None:
    odd(tmp_path / "reference.key")
    with pytest.raises(SettingsError, match=r"^settings: REFERENCE_KEY_FILE: .+ cannot be used: .+$"):
        open_patient_references(tmp_path / "reference.key", first_start=True)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"^settings: REFERENCE_KEY_FILE: .+ cannot be used: .+$"):
        open_patient_references(tmp_path / "file" / "reference.key", first_start=True)
