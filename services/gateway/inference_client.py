"""Client of the inference service (Open Inference Protocol v2); rows of concurrent requests share calls.

Batching needs no timer: while the allowed number of calls is in flight, rows wait for the next call.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from urllib.parse import quote

import aiohttp
import orjson
import structlog
from pydantic import SecretStr, ValidationError

from services.gateway.inference_answers import (
    SEE,
    WrongAnswerError,
    check_tensors,
    check_version,
    facts_of,
    numbers_of,
    read_answer,
    read_metadata,
)
from shared.cancellation import background, cancel_and_wait
from shared.contracts.open_inference import INPUT, OTHER_CLASS, ErrorBody, InferResponse, ModelMetadata
from shared.contracts.scoring import ModelFacts, ModelUnavailableError, Score
from shared.http_client import BodyError, open_session, read_body
from shared.patient import Patient

CALLS = 2
"""Calls in flight: while one is computed, the next one is sent."""
LARGEST_BATCH = 64
"""Rows in one call."""
MOST_WAITING = 4096
"""Rows that wait for a call, including cancelled ones."""
KNOWN_MODELS = 8
"""Versions whose description is stored; an older one is described again when it answers."""
LARGEST_DESCRIPTION = 256 * 1024
"""Bytes of a description of a model, of readiness, and of an error."""
LARGEST_CARD = 4 * 1024 * 1024
"""Bytes of a model card."""
LONGEST_NUMBER = 32
"""Bytes of a probability in an answer, with its comma and white space."""
_WATCH_SECONDS = 1
_LONGEST_REASON = 200
_JSON, _HTML = "application/json", "text/html"
_UNKNOWN = "application/octet-stream"
"""The type of an answer without a `Content-Type`, as some balancers send it (RFC 9110, 8.3)."""


class _NotFoundError(ModelUnavailableError):
    """The service answered 404."""


class RemoteScorer:
    """A `shared.contracts.scoring.Scorer` and `Cards` over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, patient: type[Patient]) -> None:
        """Use `session`, whose base is the service's URL, for the model of `patient`."""
        self._session, self._patient = session, patient
        self._model_path = f"/v2/models/{patient.disease.name}"
        self._largest_answer = LARGEST_DESCRIPTION + LARGEST_BATCH * len(patient.disease.classes) * LONGEST_NUMBER
        self._known: dict[str, ModelFacts] = {}
        self._waiting: list[tuple[list[float], asyncio.Future[Score]]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._reason: str | None = "inference has not been reached yet"
        self._verified = False

    def unavailable(self) -> str | None:
        """Return why no score can be computed, as of the last poll, or None."""
        return self._reason

    async def score(self, row: list[float]) -> Score:
        """Score one encoded row; see `shared.contracts.scoring.Scorer`."""
        if len(self._waiting) >= MOST_WAITING:
            raise ModelUnavailableError(f"more than {MOST_WAITING} patients wait for inference already")
        loop = asyncio.get_running_loop()
        scored: asyncio.Future[Score] = loop.create_future()
        self._waiting.append((row, scored))
        if len(self._waiting) == 1:
            loop.call_soon(self._call)
        return await scored

    async def card(self) -> bytes | None:
        """Return the card of a serving model; see `shared.contracts.scoring.Cards`."""
        try:
            return await self._request("GET", f"{self._model_path}/card", most=LARGEST_CARD, media_type=_HTML)
        except _NotFoundError:
            return None

    async def aclose(self) -> None:
        """Cancel the calls in flight."""
        await cancel_and_wait(*self._calls)

    async def watch(self) -> None:
        """Poll the readiness of the service once a second, until cancelled.

        A service that becomes ready, or whose answer was wrong, is verified once: another server than ours may be
        ready for other clients, while no answer of it can be used here.
        """
        while True:
            reason = await self._poll()
            if reason not in {None, self._reason}:
                structlog.get_logger().warning("inference_unavailable", reason=reason)
            self._reason = reason
            await asyncio.sleep(_WATCH_SECONDS)

    def _call(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]  # without cancelled rows
        while self._waiting and len(self._calls) < CALLS:
            batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
            call = asyncio.create_task(self._score_batch(batch))
            self._calls.add(call)
            call.add_done_callback(self._called)

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._call()

    async def _score_batch(self, batch: list[tuple[list[float], asyncio.Future[Score]]]) -> None:
        try:
            scores = await self._scores([row for row, _ in batch])
        except ModelUnavailableError as error:
            self._verified &= not isinstance(error, WrongAnswerError)
            for _, scored in batch:
                if not scored.done():
                    scored.set_exception(ModelUnavailableError(str(error)))
            return
        for (_, scored), score in zip(batch, scores, strict=True):
            if not scored.done():
                scored.set_result(score)

    async def _scores(self, rows: list[list[float]], *, of_patients: bool = True) -> list[Score]:
        tensor = {"name": INPUT, "datatype": "FP32", "shape": [len(rows), len(self._patient.columns)], "data": rows}
        parameters = {"known_digests": " ".join(self._known), "patient_digest": self._patient.digest}
        body = orjson.dumps({"inputs": [tensor], "parameters": parameters})  # NaN becomes null, which means missing
        content = await self._request(
            "POST", f"{self._model_path}/infer", body, most=self._largest_answer, of_patients=of_patients
        )
        answer = read_answer(content)
        model = await self._model(answer)
        if len(answer.outputs) != 1:
            raise WrongAnswerError(f"an answer of inference: {len(answer.outputs)} outputs instead of one")
        classes = len(model.classes)
        data = numbers_of(answer.outputs[0], len(rows), classes)
        return [Score(data[start : start + classes], model) for start in range(0, len(data), classes)]

    async def _model(self, answer: InferResponse) -> ModelFacts:
        """Return the model that computed `answer`; the answer describes a model that is new here.

        Only a service that cannot do so gets a second request, which may reach a replica of another version.
        """
        digest = answer.parameters.digest
        if digest not in self._known:
            check_version(answer.model_version)
            metadata = answer.parameters.model or await self._described(f"/versions/{quote(answer.model_version)}")
            if metadata.parameters.digest != digest:
                raise ModelUnavailableError(f"inference no longer describes version {answer.model_version}")
            self._remember(facts_of(metadata, self._patient))
        return self._known[digest]

    def _remember(self, model: ModelFacts) -> None:
        self._known[model.digest] = model
        if len(self._known) > KNOWN_MODELS:
            del self._known[next(iter(self._known))]

    async def _described(self, version: str = "") -> ModelMetadata:
        return read_metadata(await self._request("GET", self._model_path + version))

    async def _verify(self) -> None:
        """Check the metadata of the service, and its answer for a row without the values that a model may lack."""
        metadata = await self._described()
        model = facts_of(metadata, self._patient)
        check_tensors(metadata, model)
        self._remember(model)
        row = [0.0 if name in model.never_missing else math.nan for name in model.columns]
        await self._scores([row], of_patients=False)
        self._verified = True

    async def _request(  # noqa: PLR0913 - the parts of a request, and what its answer may be
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        most: int = LARGEST_DESCRIPTION,
        media_type: str | None = _JSON,
        of_patients: bool = False,
    ) -> bytes:
        """Return the body of an answer 200 with at most `most` bytes of `media_type`; None: of any type."""
        headers = {"Content-Type": _JSON} if body is not None else None
        try:
            async with self._session.request(
                method, path, data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise await _failure(response, f"{method} {path}", of_patients=of_patients)
                if media_type is not None and response.content_type not in {media_type, _UNKNOWN}:
                    raise WrongAnswerError(f"an answer of inference: not of type {media_type}; {SEE}")
                return await read_body(response, most)
        except BodyError as error:
            raise WrongAnswerError(f"an answer of inference: {error}; {SEE}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ModelUnavailableError(f"inference cannot be reached ({type(error).__name__})") from error

    async def _poll(self) -> str | None:
        try:
            await self._request("GET", f"{self._model_path}/ready", media_type=None)
            if not self._verified:
                await self._verify()
        except ModelUnavailableError as error:
            self._verified = False
            return str(error)
        return None


async def _failure(response: aiohttp.ClientResponse, request: str, *, of_patients: bool) -> ModelUnavailableError:
    """Return the error for another status than 200; a redirect is not followed: rows go to one address only."""
    if response.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ModelUnavailableError("inference rejects INFERENCE_KEY; it needs a key of servicio")
    if response.status == HTTPStatus.NOT_FOUND:
        return _NotFoundError(f"inference answered 404 to {request}")
    if "Location" in response.headers:
        return ModelUnavailableError(f"inference answered {response.status}, a redirect, which is not followed")
    try:
        content = await read_body(response, LARGEST_DESCRIPTION)
    except BodyError:
        content = b""  # the status counts
    return ModelUnavailableError(f"inference answered {response.status}{_reason(content, of_patients=of_patients)}")


def _reason(content: bytes, *, of_patients: bool) -> str:
    """Return the reason in the protocol's error body; empty for another body, such as a balancer's.

    Of errors about patients only our own text is returned: another server may quote rows, and the reason is logged.
    """
    try:
        reason = ErrorBody.model_validate_json(content).error[:_LONGEST_REASON]
    except ValidationError:
        return ""
    return "" if of_patients and reason != OTHER_CLASS else f": {reason}"


@asynccontextmanager
async def open_remote_scorer(
    url: str, patient: type[Patient], *, key: SecretStr | None, deadline: float
) -> AsyncIterator[RemoteScorer]:
    """Connect to the inference service at `url`, with `key` if it needs one; a call may take `deadline` seconds."""
    timeout = aiohttp.ClientTimeout(total=deadline)
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    async with (
        open_session(url, timeout=timeout, headers=headers) as session,
        aclosing(RemoteScorer(session, patient)) as scorer,
        background(scorer.watch()),
    ):
        yield scorer
