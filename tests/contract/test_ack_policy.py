"""`ACK_POLICY`: when the response is sent, and what it states about the broker's confirmation."""

from pathlib import Path

import pytest

from tests.support.doubles import Down, Remembering
from tests.support.gateway import HYPER, gateway
from tests.support.waiting import until


@pytest.mark.parametrize("policy", ["local", "broker", "strict"])
async def test_what_was_handed_over_in_time_is_a_plain_answer(tmp_path: Path, policy: str) -> None:
    async with gateway(tmp_path, ack_policy=policy, ack_wait_ms=10_000) as client:
        answer = await client.predict(HYPER)
        assert answer.status_code == 200
        assert "confirmada" not in answer.headers
        if policy != "local":
            assert client.gateway.outbox.pending == 0


async def test_local_answers_while_nothing_takes_it_over(tmp_path: Path) -> None:
    async with gateway(tmp_path, transport=Down(Remembering())) as client:
        answer = await client.predict(HYPER)
        assert (answer.status_code, "confirmada" in answer.headers) == (200, False)


async def test_broker_answers_unconfirmed_and_states_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, transport=Down(Remembering()), ack_policy="broker", ack_wait_ms=1) as client:
        answer = await client.predict(HYPER)
        assert (answer.status_code, answer.headers["confirmada"]) == (200, "false")
        assert client.gateway.outbox.pending == 1
        described = (await client.get("/openapi.json")).json()["paths"]["/predecir"]["post"]["responses"]["200"]
        assert set(described["headers"]) == {"confirmada"}


async def test_strict_sends_the_stored_answer_after_its_confirmation(tmp_path: Path) -> None:
    recorder = Remembering()
    down = Down(recorder)
    async with gateway(tmp_path, transport=down, ack_policy="strict", ack_wait_ms=50) as client:
        for _ in range(2):  # a retry does not bypass the confirmation
            refused = await client.predict(HYPER, **{"Idempotency-Key": "k"})
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:predecir:problema:sin_confirmar")
            assert refused.headers["retry-after"] == "1"
        assert client.gateway.outbox.pending == 1
        down.back.set()
        await until(lambda: client.gateway.outbox.pending == 0)
        given = await client.predict(HYPER, **{"Idempotency-Key": "k"})
        assert given.status_code == 200
    assert len(recorder.deliveries) == 1
