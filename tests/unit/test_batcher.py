"""Batching: few calls for many callers; each caller gets its own answer, also if another one fails or leaves."""

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from services.inference.metrics import Metrics
from services.inference.serving.batcher import Batcher
from services.inference.serving.model import LoadedModel, Probabilities, Rows
from shared.contracts.scoring import ModelFacts, ModelUnavailableError

INLINE, IN_THREAD = 1000, 0


def facts(version: str = "1") -> ModelFacts:
    return ModelFacts(
        name="prueba",
        version=version,
        digest="d" * 64,
        patient_digest="p" * 64,
        columns=("a", "b"),
        classes=("sum",),
        prevalence={},
        low_prevalence=(),
        training_ranges={},
        never_missing=(),
    )


class SumModel:
    """Answers the sum of the row, and remembers the size of each call."""

    platform = "sum"

    def __init__(self, version: str = "1") -> None:
        self.facts = facts(version)
        self.calls: list[int] = []
        self.threads: set[str] = set()

    def probabilities(self, rows: Rows) -> Probabilities:
        self.calls.append(len(rows))
        self.threads.add(threading.current_thread().name)
        answers: Probabilities = rows.sum(axis=1, keepdims=True).astype(np.float64)
        return answers


class HeldModel(SumModel):
    """Answers once it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def probabilities(self, rows: Rows) -> Probabilities:
        self.released.wait(60)
        return super().probabilities(rows)


class FailingModel(SumModel):
    """Fails on a batch that has a negative number."""

    def probabilities(self, rows: Rows) -> Probabilities:
        if (rows < 0).any():
            raise ValueError("negative")
        return super().probabilities(rows)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def batcher(registry: CollectorRegistry) -> Iterator[Batcher]:
    batcher = Batcher(max_batch=64, max_queue=200, metrics=Metrics(registry))
    yield batcher
    batcher.close()


@pytest.mark.parametrize("quick_rows", [INLINE, IN_THREAD])
async def test_a_hundred_callers_share_two_calls_and_each_gets_its_own_answer(
    batcher: Batcher, registry: CollectorRegistry, quick_rows: int
) -> None:
    model = SumModel()
    batcher.serve(LoadedModel(model, quick_rows))
    scores = await asyncio.gather(*(batcher.score([float(n), 0.5]) for n in range(100)))
    assert [score.probabilities for score in scores] == [[n + 0.5] for n in range(100)]
    assert model.calls == [64, 36]
    assert registry.get_sample_value("inference_batch_rows_count") == 2
    assert registry.get_sample_value("inference_batch_rows_sum") == 100


async def test_a_quick_model_runs_in_the_event_loop_and_a_slow_one_in_a_thread(batcher: Batcher) -> None:
    quick, slow = SumModel(), SumModel()
    for model, rows in ((quick, INLINE), (slow, IN_THREAD)):
        batcher.serve(LoadedModel(model, rows))
        await batcher.score([1, 1])
    assert quick.threads == {threading.current_thread().name}
    assert slow.threads.isdisjoint(quick.threads)


async def test_callers_that_come_during_a_call_form_the_next_batch(batcher: Batcher) -> None:
    model = HeldModel()
    batcher.serve(LoadedModel(model, IN_THREAD))
    first = asyncio.create_task(batcher.score([1, 0]))
    await asyncio.sleep(0)  # the caller leaves its row
    await asyncio.sleep(0)  # the batch leaves with it
    others = [asyncio.create_task(batcher.score([n, 0])) for n in range(10)]
    await asyncio.sleep(0)
    assert not first.done()
    model.released.set()
    await asyncio.gather(first, *others)
    assert model.calls == [1, 10]


@pytest.mark.parametrize("quick_rows", [INLINE, IN_THREAD])
async def test_a_cancelled_caller_does_not_disturb_its_batch(batcher: Batcher, quick_rows: int) -> None:
    batcher.serve(LoadedModel(SumModel(), quick_rows))
    tasks = [asyncio.create_task(batcher.score([n, 0])) for n in range(5)]
    await asyncio.sleep(0)  # they leave their rows
    tasks[2].cancel()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers.pop(2), asyncio.CancelledError)
    assert [getattr(answer, "probabilities", None) for answer in answers] == [[0], [1], [3], [4]]


@pytest.mark.parametrize("quick_rows", [INLINE, IN_THREAD])
async def test_a_failing_call_fails_its_callers_and_not_the_next(
    batcher: Batcher, registry: CollectorRegistry, quick_rows: int
) -> None:
    batcher.serve(LoadedModel(FailingModel(), quick_rows))
    failed = await asyncio.gather(batcher.score([-1, 0]), batcher.score([1, 0]), return_exceptions=True)
    assert [type(error) for error in failed] == [ModelUnavailableError] * 2
    assert "ValueError" in str(failed[0])
    assert failed[0] is not failed[1]  # one exception raised twice would chain tracebacks
    assert (await batcher.score([1, 0])).probabilities == [1]
    assert registry.get_sample_value("inference_batch_failures_total") == 1


async def test_a_full_queue_rejects_one_more_at_once(batcher: Batcher) -> None:
    batcher.serve(LoadedModel(SumModel(), INLINE))
    waiting = [asyncio.create_task(batcher.score([0, 0])) for _ in range(200)]
    await asyncio.sleep(0)
    with pytest.raises(ModelUnavailableError, match="200"):
        await batcher.score([0, 0])
    assert len(await asyncio.gather(*waiting)) == 200


async def test_a_swap_lies_between_two_batches_and_each_score_has_its_model(batcher: Batcher) -> None:
    old, new = HeldModel(), SumModel("2")
    batcher.serve(LoadedModel(old, IN_THREAD))
    before = asyncio.create_task(batcher.score([1, 0]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    batcher.serve(LoadedModel(new, IN_THREAD))
    after = asyncio.create_task(batcher.score([2, 0]))
    old.released.set()
    assert (await before).model is old.facts
    assert (await after).model is new.facts
    assert (old.calls, new.calls) == ([1], [1])


async def test_without_a_model_the_error_has_the_reason(batcher: Batcher) -> None:
    batcher.note_unavailable("no model: train one")
    assert batcher.unavailable() == "no model: train one"
    with pytest.raises(ModelUnavailableError, match="train one"):
        await batcher.score([0, 0])


async def test_closing_fails_waiting_callers(batcher: Batcher) -> None:
    batcher.serve(LoadedModel(SumModel(), INLINE))
    waiting = asyncio.create_task(batcher.score([0, 0]))
    await asyncio.sleep(0)
    batcher.close()
    with pytest.raises(ModelUnavailableError, match="stops"):
        await asyncio.wait_for(waiting, 60)
    assert batcher.unavailable() is not None


async def test_big_batches_of_others_are_bounded_too(batcher: Batcher) -> None:
    model = HeldModel()
    loaded = LoadedModel(model, IN_THREAD)
    batcher.serve(loaded)
    rows = np.ones((150, 2), dtype=np.float32)
    first = asyncio.create_task(batcher.infer(rows, loaded))
    await asyncio.sleep(0)
    with pytest.raises(ModelUnavailableError, match="200"):
        await batcher.infer(rows, loaded)
    model.released.set()
    assert (await first).tolist() == [[2.0]] * 150


async def test_a_probability_that_is_not_a_number_is_no_answer(batcher: Batcher) -> None:
    batcher.serve(LoadedModel(SumModel(), INLINE))
    with pytest.raises(ModelUnavailableError, match="not a number"):
        await batcher.score([float("nan"), 1])
