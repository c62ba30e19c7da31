"""The server profile: every service in its own process, RabbitMQ between gateway and recorder, from HTTP to row."""

from pathlib import Path

import pytest

from tests.support import plain_http
from tests.support.broker import Broker
from tests.support.postgres import PostgresServer
from tests.support.processes import refused
from tests.support.stack import ids, server_stack
from tests.support.waiting import until_now


def test_an_answer_becomes_a_row_in_postgresql(tmp_path: Path, broker: Broker, postgres: PostgresServer) -> None:
    with (
        server_stack(tmp_path, broker) as stack,
        stack.recorder(postgres.url(postgres.new_database())) as recorder,
    ):
        answered = sorted(stack.predict(number).json()["id"] for number in range(20))
        until_now(lambda: ids(recorder) == answered, seconds=30)
        said = {"aceptada": False, "diagnostico": "hipotiroidismo"}
        outcome = plain_http.post(f"{stack.gateway.url}/predicciones/{answered[0]}/resultado", json=said)
        assert outcome.status_code == 200
        until_now(lambda: recorder.get(f"/predicciones/{answered[0]}").json()["resultado"] is not None, seconds=30)
        assert stack.gateway.stop() == 0
        until_now(lambda: recorder.get("/conciliacion").json()["gateways"][0]["visto"] is not None)
        (account,) = recorder.get("/conciliacion").json()["gateways"]
        assert (account["respondidas"], account["registradas"], account["en_silencio"]) == (21, 21, False)
        assert recorder.stop() == 0


def test_sqlite_behind_the_broker_works_with_a_late_recorder(tmp_path: Path, broker: Broker) -> None:
    with server_stack(tmp_path, broker) as stack:
        answered = [stack.predict(number).json()["id"] for number in range(20)]
        assert stack.pending() == 20  # nobody has declared a queue yet
        with stack.recorder() as recorder:
            until_now(lambda: ids(recorder) == sorted(answered), seconds=30)
            until_now(lambda: stack.pending() == 0)
        answered += [stack.predict(number).json()["id"] for number in range(20)]
        until_now(lambda: stack.pending() == 0)  # the queue holds them now
        with stack.recorder() as recorder:
            until_now(lambda: ids(recorder) == sorted(answered), seconds=30)


def test_strict_gives_no_answer_that_the_broker_has_not_confirmed(tmp_path: Path, broker: Broker) -> None:
    with server_stack(tmp_path, broker, "strict") as stack:
        assert stack.predict().status_code == 503
        with stack.recorder():
            until_now(lambda: stack.predict().status_code == 200, seconds=30)


@pytest.mark.parametrize("service", ["services.gateway", "services.recorder"])
@pytest.mark.parametrize("url", ["http://user:geheim@host/", "amqp://host:5672/", "amqp://user:geheim@host:port/"])
def test_a_broker_url_that_is_none_is_one_line_and_78(tmp_path: Path, service: str, url: str) -> None:
    code, said = refused(service, tmp_path, {"BROKER_URL": url})
    assert (code, said.count("\n")) == (78, 1)
    assert "BROKER_URL" in said
    assert "geheim" not in said
