"""Transport from a gateway to the recorder in the same process."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.contracts.transport import Delivery


@dataclass(frozen=True, slots=True)
class InProcess:
    """A `shared.contracts.transport.Transport` that returns after the database's commit."""

    record: Callable[[Sequence[Delivery]], Awaitable[set[int]]]

    async def publish(self, batch: Sequence[Delivery]) -> set[int]:
        """Record `batch`; see `Store.record`."""
        return await self.record(batch)
