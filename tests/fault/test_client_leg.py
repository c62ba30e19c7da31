"""The network between client and gateway broken during a request: the connection is closed, and others are served.

An incomplete request is not recorded. A request whose answer was lost is recorded once.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import httpx
import psutil
import pytest

from shared.diseases.thyroid import DatosPaciente
from shared.web.hosting import LARGEST_BODY
from tests.support import plain_http
from tests.support.bundles import make_bundle
from tests.support.database import is_settled, query
from tests.support.faulty_network import Proxy, link_faults, proxied
from tests.support.processes import Process, running
from tests.support.waiting import until_now

PATIENCE = 60
"""Seconds, far beyond the deadline of a body."""
OTHERS = 10
PATIENT = json.dumps({"edad": 47, "sexo": "F", "tsh": 0.05}).encode()
BROKEN = [pytest.param(fault, id=name) for name, fault in link_faults(late=20, slow=5, short=5).items()]


class Clinic:
    """The local profile, and a network to it that can be broken."""

    def __init__(self, folder: Path, process: Process, network: Proxy) -> None:
        self.folder, self.process, self.network = folder, process, network
        self.port = int(process.url.rpartition(":")[2])

    def far(self) -> socket.socket:
        """Connect through the network that can be broken."""
        return socket.create_connection(("127.0.0.1", self.network.port), timeout=PATIENCE)

    def asked(self, key: str) -> httpx.Response:
        """Send a request without that network."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return plain_http.post(f"{self.process.url}/predecir", content=PATIENT, headers=headers, timeout=PATIENCE)

    def serves_others(self, name: str) -> set[str]:
        """Send requests of other clients; return the ids of their answers."""
        answers = [self.asked(f"{name}-{number}") for number in range(OTHERS)]
        assert {answer.status_code for answer in answers} == {200}
        return {answer.json()["id"] for answer in answers}

    def connections(self) -> int:
        found = psutil.Process(self.process.popen.pid).net_connections("tcp4")
        return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == self.port for each in found)

    def settle(self) -> None:
        """Wait until every answer is recorded."""
        until_now(lambda: is_settled(self.process), seconds=PATIENCE)

    def rows(self) -> list[str]:
        return [row[0] for row in query(self.folder, "SELECT id FROM predicciones")]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Process]]:
    folder = tmp_path_factory.mktemp("clinic")
    make_bundle(folder / "var", DatosPaciente)
    with running("services.local", folder, {"GATEWAY_DEADLINE_SECONDS": "2"}) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200, seconds=PATIENCE)
        yield folder, process


@pytest.fixture
def clinic(served: tuple[Path, Process]) -> Iterator[Clinic]:
    """Give each test a network of its own: a late link of the test before would count as one of this test."""
    folder, process = served
    with proxied(int(process.url.rpartition(":")[2])) as network:
        yield Clinic(folder, process, network)


def post(key: str, blanks: int = 0) -> bytes:
    body = PATIENT + b" " * blanks
    head = f"POST /predecir HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("broken", BROKEN)
def test_a_connection_cut_within_a_body_is_closed_and_not_recorded(
    clinic: Clinic, broken: Callable[[Proxy], None], request: pytest.FixtureRequest
) -> None:
    before = set(clinic.rows())
    whole = post("never")
    with clinic.far() as client:
        client.sendall(whole[:-20])
        until_now(lambda: clinic.network.sent() == len(whole) - 20, seconds=PATIENCE)  # from then on it has a deadline
        broken(clinic.network)
        with suppress(OSError):
            client.sendall(whole[-20:-10])
        answered = clinic.serves_others(request.node.name)
        until_now(lambda: clinic.connections() == 0, seconds=PATIENCE)
    clinic.settle()
    assert set(clinic.rows()) == before | answered


def test_a_body_sent_byte_by_byte_times_out(clinic: Clinic) -> None:
    with socket.create_connection(("127.0.0.1", clinic.port), timeout=0.2) as client:
        client.sendall(post("trickling", blanks=LARGEST_BODY // 2)[: -(LARGEST_BODY // 2)])

        def answered() -> bool:
            with suppress(BrokenPipeError, ConnectionResetError):  # once it is answered
                client.sendall(b" ")
            with suppress(TimeoutError):
                return b" 408 " in client.recv(4096)
            return False

        until_now(answered, seconds=PATIENCE)  # the body is hours long
        until_now(lambda: clinic.connections() == 0, seconds=PATIENCE)


def test_a_retried_request_gets_the_same_answer_and_one_row(clinic: Clinic) -> None:
    before = set(clinic.rows())
    whole = post("cut off")
    with clinic.far() as client:
        clinic.network.truncate(len(whole) + 1)  # the request arrives, and as many bytes of the longer answer
        client.sendall(whole)
        received = b"".join(iter(lambda: client.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 200 ")
    assert len(received) == len(whole) + 1
    clinic.network.heal()
    again = clinic.asked("cut off")
    clinic.settle()
    assert {again.json()["id"]} == set(clinic.rows()) - before


def test_a_client_that_does_not_read_blocks_no_other(clinic: Clinic) -> None:
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
    with clinic.far() as client:
        client.settimeout(1)
        with suppress(TimeoutError, ConnectionError):
            while True:  # until the buffers are full, or the process ends the connection
                client.sendall(ask)
        # A request while these responses are still being written may be rejected and must be repeated.
        until_now(lambda: clinic.asked("meanwhile").status_code == HTTPStatus.OK, seconds=PATIENCE)
    until_now(lambda: clinic.connections() == 0, seconds=PATIENCE)
