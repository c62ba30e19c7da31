import asyncio

from structlog.testing import capture_logs

from services.gateway.outbox.status_reports import REPORT_SECONDS, reporting
from services.recorder.accounting.outbox_reports import SETTLED_AFTER
from shared.contracts.transport import OutboxState, TransportDownError


class Listening:
    """A transport that accepts every report but the first."""

    def __init__(self) -> None:
        self.tried = 0
        self.heard: asyncio.Queue[OutboxState] = asyncio.Queue()

    async def report(self, state: OutboxState) -> None:
        self.tried += 1
        if self.tried == 1:
            raise TransportDownError("not yet")
        self.heard.put_nowait(state)


async def test_the_current_state_is_reported_repeatedly_whatever_fails() -> None:
    states = iter([OutboxState("g1", answered, 1)] for answered in range(100))
    listening = Listening()
    with capture_logs() as logs:
        async with asyncio.timeout(60), reporting(lambda: next(states), listening.report, every_seconds=0.001):
            heard = [await listening.heard.get() for _ in range(3)]

    assert [state.answered for state in heard] == [1, 2, 3]
    assert [line["reason"] for line in logs if line["event"] == "outbox_status_not_sent"] == ["not yet"]


def test_a_report_is_evaluated_before_the_next_one_is_due() -> None:
    settled = SETTLED_AFTER.total_seconds()
    assert settled < REPORT_SECONDS <= 30
    assert REPORT_SECONDS + settled < 60
