"""Rows of concurrent callers in one model call, without a timer: what arrives during a call is the next batch.

A quick model is called in the event loop, right after the callers that are ready now have left their rows: handing
over to a thread and back would cost more than the call. A blocking model is called in a thread of its own.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from shared.model import ModelUnavailableError, Score

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.inference.metrics import Metrics
    from services.inference.model import Model, Probabilities, Rows


class Batcher:
    """The `Scorer` of this process. It holds the one model that serves; `serve` swaps it between two batches."""

    def __init__(self, *, max_batch: int, max_queue: int, metrics: Metrics) -> None:
        """Let at most `max_queue` rows wait, and at most `max_batch` of them travel in one call."""
        self._max_batch, self._max_queue, self._metrics = max_batch, max_queue, metrics
        self._model: Model | None = None
        self._reason = "no model has been loaded yet"
        self._rows: list[list[float]] = []
        self._callers: list[asyncio.Future[Score]] = []
        self._busy = False
        self._queued = 0
        self._thread = ThreadPoolExecutor(1, "model")

    @property
    def model(self) -> Model | None:
        """The model that serves now."""
        return self._model

    def serve(self, model: Model) -> None:
        """Answer with `model` from the next batch on."""
        self._model = model
        self._metrics.serving(model.info)

    def refuse(self, reason: str) -> None:
        """Say why there is no model yet."""
        self._reason = reason

    def unavailable(self) -> str | None:
        """Why no score can be given right now, or None."""
        return self._reason if self._model is None else None

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row; see `shared.model.Scorer`."""
        if self._model is None:
            raise ModelUnavailableError(self._reason)
        if len(self._rows) >= self._max_queue:
            raise self._too_many()
        loop = asyncio.get_running_loop()
        caller: asyncio.Future[Score] = loop.create_future()
        self._rows.append(row)
        self._callers.append(caller)
        if not self._busy:
            self._busy = True
            loop.call_soon(self._next_batch)
        return await caller

    async def infer(self, rows: Rows, model: Model) -> Probabilities:
        """Compute the probabilities of `rows`, a batch that somebody else put together.

        Raises:
            ModelUnavailableError: too many rows wait already, or the model fails on these.

        """
        if not model.blocking and len(rows) <= self._max_batch:
            return self._computed(model, lambda: rows)
        if self._queued and self._queued + len(rows) > self._max_queue:
            raise self._too_many()
        self._queued += len(rows)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._computed, model, lambda: rows)
        finally:
            self._queued -= len(rows)

    def close(self) -> None:
        """Wait for the call in flight, if any, and fail those who wait."""
        self._thread.shutdown()
        self._fail(self._callers, ModelUnavailableError("the service stops"))
        self._rows, self._callers = [], []

    def _next_batch(self) -> None:
        rows, self._rows = self._rows[: self._max_batch], self._rows[self._max_batch :]
        callers, self._callers = self._callers[: self._max_batch], self._callers[self._max_batch :]
        model = self._model
        if not rows or model is None:
            self._busy = False
            return
        if model.blocking:
            asyncio.create_task(self._batch_in_thread(model, rows, callers))  # noqa: RUF006
            return
        try:
            answers = self._computed(model, lambda: np.array(rows, dtype=np.float32))
        except ModelUnavailableError as error:
            self._fail(callers, error)
        else:
            self._answer(callers, answers, model)
        self._continue()

    def _continue(self) -> None:
        if self._rows:
            asyncio.get_running_loop().call_soon(self._next_batch)
        else:
            self._busy = False

    async def _batch_in_thread(
        self, model: Model, rows: list[list[float]], callers: list[asyncio.Future[Score]]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(
                self._thread, self._computed, model, lambda: np.array(rows, dtype=np.float32)
            )
        except ModelUnavailableError as error:
            self._fail(callers, error)
        else:
            self._answer(callers, answers, model)
        self._continue()

    def _computed(self, model: Model, rows: Callable[[], Rows]) -> Probabilities:
        started = time.perf_counter()
        try:
            batch = rows()
            answers = model.probabilities(batch)
        except Exception as error:
            self._metrics.failed()
            message = f"model {model.info.version} failed on a batch ({type(error).__name__})"
            raise ModelUnavailableError(message) from error
        self._metrics.answered(len(batch), time.perf_counter() - started)
        return answers

    def _answer(self, callers: list[asyncio.Future[Score]], answers: Probabilities, model: Model) -> None:
        info = model.info
        for caller, probabilities in zip(callers, answers.tolist(), strict=True):
            if not caller.done():
                caller.set_result(Score(probabilities, info))

    def _fail(self, callers: list[asyncio.Future[Score]], error: ModelUnavailableError) -> None:
        for caller in callers:
            if not caller.done():
                caller.set_exception(ModelUnavailableError(str(error)))

    def _too_many(self) -> ModelUnavailableError:
        return ModelUnavailableError(f"more than {self._max_queue} patients wait for the model already")
