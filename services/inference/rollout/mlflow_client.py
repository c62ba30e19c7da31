"""Client of MLflow's model registry over its REST API, without the MLflow library.

Source: mlflow.org/docs/latest/api_reference/rest-api.html, "Get Model Version by Alias". Files of a run come from the
server's `/get-artifact`, which reads them from the artifact store of the run.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yarl import URL

from shared.artifacts.store import FORCED_TAG
from shared.http_client import BodyError, BodyTooLargeError, open_session, read_body

_ANSWER_SECONDS = 3
_LARGEST_ANSWER = 1024 * 1024
_NOT_FOUND = {400: "INVALID_PARAMETER_VALUE", 404: "RESOURCE_DOES_NOT_EXIST"}
"""Status and code of the answers "the model has no such alias" and "there is no such model"."""
_BUNDLE = "bundle"


class RegistryDownError(Exception):
    """The registry does not answer, or not as MLflow does; one line, without credentials."""


class NotInRegistryError(Exception):
    """The registry lacks a file, or has more bytes of it than allowed. The message has neither server nor version."""


class RegisteredVersion(BaseModel):
    """A version of the registry, and the run that made it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(pattern="^[0-9]{1,10}$")
    run_id: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$")
    forced_past: str = Field(default="", max_length=5000)
    """The gates that it was forced past into production, by the version's tag."""

    @model_validator(mode="before")
    @classmethod
    def _read_tag(cls, answer: Any) -> Any:  # noqa: ANN401 - as parsed; the fields are validated afterwards
        if not isinstance(answer, dict) or not isinstance(tags := answer.get("tags"), list):
            return answer
        values = [tag.get("value") for tag in tags if isinstance(tag, dict) and tag.get("key") == FORCED_TAG]
        return {**answer, "forced_past": values[0]} if values else answer


class _AliasAnswer(BaseModel):
    model_version: RegisteredVersion


class _ErrorAnswer(BaseModel):
    error_code: str


class ModelRegistryClient:
    """The versions of one model on an MLflow server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        """Send requests by `session`, whose base is the server's; `url` is its address without credentials."""
        self._session, self._name = session, name
        self.url = url

    async def version_at(self, alias: str) -> RegisteredVersion | None:
        """Return the version that `alias` leads to, or None if there is none.

        Raises:
            RegistryDownError: the registry does not answer.

        """
        query = {"name": self._name, "alias": alias}
        try:
            status, content = await self._get("api/2.0/mlflow/registered-models/alias", query, total=_ANSWER_SECONDS)
            code = _NOT_FOUND.get(status)
            if code is not None and _ErrorAnswer.model_validate_json(content).error_code == code:
                return None
            if status != HTTPStatus.OK:
                raise RegistryDownError(f"{self.url} answered {status}")
            return _AliasAnswer.model_validate_json(content).model_version
        except (ValidationError, BodyError):
            raise RegistryDownError(f"{self.url} does not answer as MLflow does") from None

    async def fetch(self, run_id: str, name: str, *, most: int) -> bytes:
        """Return the file `name` of the bundle of run `run_id`, of at most `most` bytes. The caller sets the deadline.

        Raises:
            NotInRegistryError: it is missing or larger.
            RegistryDownError: the registry does not answer, or stops in the middle.

        """
        query = {"run_uuid": run_id, "path": f"{_BUNDLE}/{name}"}
        try:
            status, content = await self._get("get-artifact", query, most=most)
        except BodyTooLargeError:
            raise NotInRegistryError(f"{name}: more than the {most} bytes that it may have") from None
        except BodyError as error:
            raise RegistryDownError(f"{self.url} answered {name} {error}") from None
        if status in _NOT_FOUND:
            raise NotInRegistryError(f"{name}: not there; register it again")
        if status != HTTPStatus.OK:
            raise RegistryDownError(f"{self.url} answered {status} for {name}")
        return content

    async def _get(
        self, path: str, query: Mapping[str, str], *, total: float | None = None, most: int = _LARGEST_ANSWER
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=total, connect=_ANSWER_SECONDS)
        try:
            async with self._session.get(path, params=query, timeout=timeout, allow_redirects=False) as response:
                try:
                    return response.status, await read_body(response, most)
                except BodyError:
                    if response.status == HTTPStatus.OK:
                        raise
                    return response.status, b""  # of an error page, perhaps a proxy's, the status counts
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RegistryDownError(f"{self.url} cannot be reached ({type(error).__name__})") from error


@asynccontextmanager
async def open_registry(url: str, name: str) -> AsyncIterator[ModelRegistryClient]:
    """Open a client of the MLflow server at `url`, which may hold a user and a password, for model `name`."""
    base = URL(url if url.endswith("/") else f"{url}/")
    shown = str(base.with_user(None)).rstrip("/")
    async with open_session(base, timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS), headers={}) as session:
        yield ModelRegistryClient(session, shown, name)
