"""Trust in messages costs no query per message, and its log is bounded."""

from collections.abc import Callable
from typing import Any

from structlog.testing import capture_logs

from services.recorder.ingest.trust import GatewayTrust, TrustPolicy
from shared.contracts.gateway_proof import Claim, GatewayKey
from tests.support.enrolment import SECRET


class EnrolsEach:
    """A writer that enrols every gateway, without a database, and counts."""

    def __init__(self) -> None:
        self.transactions = 0

    async def transaction(self, work: Callable[..., Any]) -> Any:  # noqa: ANN401 - as the work returns
        del work
        self.transactions += 1
        return True


def claim_of(key: GatewayKey, number: int = 1) -> Claim:
    return Claim("events", key.gateway_id, number, 1, b"[{}]")


async def test_a_gateway_costs_one_transaction_however_many_messages_it_sends() -> None:
    writer, key = EnrolsEach(), GatewayKey.generate()
    trust = GatewayTrust(TrustPolicy(SECRET), writer)
    for number in range(1, 101):
        claim = claim_of(key, number)
        assert await trust.objection(claim, key.proof(claim, SECRET)) is None
    assert writer.transactions == 1


async def test_messages_that_are_not_believed_cost_no_transaction() -> None:
    writer, known = EnrolsEach(), GatewayKey.generate()
    trust = GatewayTrust(TrustPolicy(SECRET, most_gateways=1), writer)
    assert await trust.objection(claim_of(known), known.proof(claim_of(known), SECRET)) is None
    for _ in range(20):
        key = GatewayKey.generate()
        claim = claim_of(key)
        for headers in ({}, key.proof(claim), key.proof(claim, b"wrong"), key.proof(claim, SECRET)):
            assert await trust.objection(claim, headers) is not None
    assert writer.transactions == 1


async def test_a_flood_of_forged_messages_writes_a_bounded_log() -> None:
    trust = GatewayTrust(TrustPolicy(SECRET), EnrolsEach())
    with capture_logs() as logs:
        for number in range(3000):
            for _ in range(2):
                assert await trust.examine(Claim("events", f"{number:032x}", 1, 1, b"[{}]"), {})
    assert len(logs) == 1000
    assert {(line["event"], line["reason"]) for line in logs} == {("messages_not_believed", "it has no signature")}
