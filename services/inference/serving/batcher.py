"""Batching without a timer: rows of concurrent callers share a model call; rows that arrive meanwhile form the next.

A quick call runs in the event loop, after all ready callers have queued their rows: a thread would cost more time than
it frees. A longer call runs in a thread, one at a time.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from services.inference.metrics import Metrics
from services.inference.serving.model import LoadedModel, Model, Probabilities, Rows
from shared.contracts.scoring import ModelUnavailableError, Score

_STOPPED = "the service stops"


class Batcher:
    """The `Scorer` of this process, with the one model that serves; `serve` swaps it between two batches."""

    def __init__(self, *, max_batch: int, max_queue: int, metrics: Metrics) -> None:
        """Queue at most `max_queue` rows, and score at most `max_batch` rows of different callers in one call."""
        self._max_batch, self._max_queue, self._metrics = max_batch, max_queue, metrics
        self.loaded: LoadedModel | None = None
        """The model that serves now."""
        self._reason = "no model has been loaded yet"
        self._rows: list[list[float]] = []
        self._callers: list[asyncio.Future[Score]] = []
        self._flushing = False
        self._rows_in_thread = 0
        self._thread = ThreadPoolExecutor(1, "model")

    def serve(self, loaded: LoadedModel) -> None:
        """Answer with this model from the next batch on."""
        self.loaded = loaded
        self._metrics.serving(loaded.model.facts)

    def note_unavailable(self, reason: str) -> None:
        """Keep the reason to return as long as no model serves."""
        self._reason = reason

    def close(self) -> None:
        """Reject new rows, and fail those that wait."""
        self.loaded, self._reason = None, _STOPPED
        self._fail(self._callers, _STOPPED)
        self._rows, self._callers = [], []
        self._thread.shutdown(wait=False)

    def unavailable(self) -> str | None:
        """Return why no score is available now, or None."""
        return self._reason if self.loaded is None else None

    async def card(self) -> bytes | None:
        """Return the card of the model that serves now; see `shared.contracts.scoring.Cards`."""
        if self.loaded is None:
            raise ModelUnavailableError(self._reason)
        return self.loaded.card

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row; see `shared.contracts.scoring.Scorer`."""
        if self.loaded is None:
            raise ModelUnavailableError(self._reason)
        if len(self._rows) >= self._max_queue:
            raise self._full()
        loop = asyncio.get_running_loop()
        caller: asyncio.Future[Score] = loop.create_future()
        self._rows.append(row)
        self._callers.append(caller)
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        return await caller

    async def infer(self, rows: Rows, loaded: LoadedModel) -> Probabilities:
        """Compute the probabilities of `rows`, the batch of one caller, by `loaded`.

        Raises:
            ModelUnavailableError: too many rows wait, or the model fails on these.

        """
        if len(rows) <= loaded.quick_rows:
            return self._compute(loaded.model, rows)
        if self._rows_in_thread and self._rows_in_thread + len(rows) > self._max_queue:
            raise self._full()
        self._rows_in_thread += len(rows)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._compute, loaded.model, rows)
        finally:
            self._rows_in_thread -= len(rows)

    def _flush(self) -> None:
        loaded, most = self.loaded, self._max_batch
        if loaded is None or not self._rows:
            self._flushing = False
            return
        rows, self._rows = self._rows[:most], self._rows[most:]
        callers, self._callers = self._callers[:most], self._callers[most:]
        loop = asyncio.get_running_loop()
        if len(rows) > loaded.quick_rows:
            call = loop.run_in_executor(self._thread, self._compute, loaded.model, rows)
            call.add_done_callback(partial(self._finish, callers, loaded.model))
            return
        try:
            self._answer(callers, loaded.model, self._compute(loaded.model, rows))
        except ModelUnavailableError as error:
            self._fail(callers, str(error))
        self._flush_later(loop)

    def _finish(self, callers: list[asyncio.Future[Score]], model: Model, call: asyncio.Future[Probabilities]) -> None:
        error = call.exception()
        if error is None:
            self._answer(callers, model, call.result())
        else:
            self._fail(callers, str(error))
        self._flush_later(call.get_loop())

    def _flush_later(self, loop: asyncio.AbstractEventLoop) -> None:
        self._flushing = bool(self._rows)
        if self._flushing:
            loop.call_soon(self._flush)

    def _compute(self, model: Model, rows: Rows | list[list[float]]) -> Probabilities:
        started = time.perf_counter()
        try:
            answers = model.probabilities(np.asarray(rows, dtype=np.float32))
        except Exception as error:  # a model may raise anything; the requests of its batch need an answer
            self._metrics.failures.inc()
            message = f"model {model.facts.version} failed on a batch ({type(error).__name__})"
            raise ModelUnavailableError(message) from error
        if not np.isfinite(answers).all():
            self._metrics.failures.inc()
            raise ModelUnavailableError(f"model {model.facts.version} gave a probability that is not a number")
        self._metrics.answered(len(rows), time.perf_counter() - started)
        return answers

    @staticmethod
    def _answer(callers: list[asyncio.Future[Score]], model: Model, answers: Probabilities) -> None:
        facts = model.facts
        for caller, probabilities in zip(callers, answers.tolist(), strict=True):
            if not caller.done():  # done: the caller was cancelled
                caller.set_result(Score(probabilities, facts))

    @staticmethod
    def _fail(callers: list[asyncio.Future[Score]], reason: str) -> None:
        for caller in callers:
            if not caller.done():
                caller.set_exception(ModelUnavailableError(reason))

    def _full(self) -> ModelUnavailableError:
        return ModelUnavailableError(f"more than {self._max_queue} patients wait for the model already")
