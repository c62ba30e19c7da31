"""Client that continues over a restart of the server, and retries unanswered requests with their `Idempotency-Key`."""

import asyncio
from http import HTTPStatus
from itertools import count

import aiohttp

_CONNECTIONS = 8
_SECONDS = 120
_PAUSE = 0.01


class RetryingClient:
    """Sends over several connections, on each one request at a time; `answers` are the ids by key."""

    def __init__(self, name: str) -> None:
        """Start without requests; `name` makes the keys differ from those of other clients."""
        self._name = name
        self.answers: dict[str, str] = {}
        self.contradicted = 0
        """Number of answers with another id than an earlier answer to the same key."""
        self._numbers = count()
        self._unanswered: list[int] = []

    def send_until_cut(self, url: str) -> None:
        """Send requests until the server does not respond any more.

        Raises:
            TimeoutError: it still responds.

        """
        asyncio.run(self._all(url, finish=False))

    def finish(self, url: str) -> None:
        """Retry every unanswered request, then send a new one, whose event is the last.

        Raises:
            TimeoutError: a request got no answer.

        """
        self._unanswered.insert(0, next(self._numbers))
        asyncio.run(self._all(url, finish=True))

    async def _all(self, url: str, *, finish: bool) -> None:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        async with (
            asyncio.timeout(_SECONDS),
            aiohttp.ClientSession(url, timeout=timeout) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(_CONNECTIONS):
                tasks.create_task(self._work(client, finish=finish))

    async def _work(self, client: aiohttp.ClientSession, *, finish: bool) -> None:
        while self._unanswered or not finish:
            number = self._unanswered.pop() if self._unanswered else next(self._numbers)
            patient, key = {"edad": number % 100, "sexo": "F", "tsh": 1.5}, f"{self._name}-{number}"
            try:
                async with client.post("/predecir", json=patient, headers={"Idempotency-Key": key}) as response:
                    answer = await response.json()
            except (aiohttp.ClientError, OSError):
                self._unanswered.append(number)
                if finish:
                    raise
                return
            if response.status == HTTPStatus.OK:
                self.contradicted += self.answers.setdefault(key, answer["id"]) != answer["id"]
            else:  # rejected for now
                self._unanswered.append(number)
                await asyncio.sleep(_PAUSE)
