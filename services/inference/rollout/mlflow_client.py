"""MLflow's registry, asked over its REST API: no MLflow in this process.

Source: mlflow.org/docs/latest/api_reference/rest-api.html, "Get Model Version by Alias"; files of a run come from the
server's `/get-artifact`, which reads them from wherever its artifacts are.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_ASK_SECONDS = 3
_FETCH_SECONDS = 60
_CHUNK_BYTES = 64 * 1024
_LARGEST_ANSWER = 1024 * 1024
_NO_SUCH = {400: "INVALID_PARAMETER_VALUE", 404: "RESOURCE_DOES_NOT_EXIST"}
"""How the server says that the model has no such alias, and that there is no such model."""
_BUNDLE = "bundle"


class RegistryDownError(Exception):
    """The registry does not answer, or not as MLflow does; one line, without credentials."""


class NotInRegistryError(Exception):
    """The registry has no such file, or a larger one than was asked for."""


class _TooLargeError(Exception):
    """A body has more bytes than it may have."""


class Registered(BaseModel):
    """A version, and the run that it came from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(pattern="^[0-9]{1,10}$")
    run_id: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    model_version: Registered


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="ignore")

    error_code: str


class Registry:
    """The versions of one model on an MLflow server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        """Ask by `session`, whose base is the server's; `url` is how to call it, without credentials."""
        self._session, self._name = session, name
        self.url = url

    async def at(self, alias: str) -> Registered | None:
        """Give the version that has `alias`, or None if none has.

        Raises:
            RegistryDownError: it does not answer.

        """
        asked = {"name": self._name, "alias": alias}
        try:
            async with self._session.get(
                "api/2.0/mlflow/registered-models/alias",
                params=asked,
                timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS),
                allow_redirects=False,
            ) as response:
                content = b"".join([chunk async for chunk in _chunks(response, _LARGEST_ANSWER)])
            said = _NO_SUCH.get(response.status)
            if said is not None and _Refusal.model_validate_json(content).error_code == said:
                return None
            if response.status != HTTPStatus.OK:
                raise RegistryDownError(f"{self.url} answered {response.status}")
            return _Answer.model_validate_json(content).model_version
        except (ValidationError, _TooLargeError):
            raise RegistryDownError(f"{self.url} does not answer as MLflow does") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def fetch(self, run_id: str, name: str, folder: Path, *, most: int) -> None:
        """Write the file `name` of the bundle of `run_id` into `folder`; it may have up to `most` bytes.

        Raises:
            NotInRegistryError: it is not there, or larger.
            RegistryDownError: the registry does not answer, or stops to.
            OSError: the disk does not let us.

        """
        asked = {"run_uuid": run_id, "path": f"{_BUNDLE}/{name}"}
        try:
            async with self._session.get(
                "get-artifact",
                params=asked,
                timeout=aiohttp.ClientTimeout(total=_FETCH_SECONDS, connect=_ASK_SECONDS),
                allow_redirects=False,
            ) as response:
                if response.status in _NO_SUCH:
                    raise NotInRegistryError(f"{folder / name}: not there; register it again")
                if response.status != HTTPStatus.OK:
                    raise RegistryDownError(f"{self.url} answered {response.status} for {name}")
                with (folder / name).open("wb") as file:
                    async for chunk in _chunks(response, most):
                        file.write(chunk)
        except _TooLargeError:
            raise NotInRegistryError(f"{folder / name}: more than the {most} bytes that it may have") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> RegistryDownError:
        return RegistryDownError(f"{self.url} cannot be reached ({type(error).__name__})")


async def _chunks(response: aiohttp.ClientResponse, most: int) -> AsyncIterator[bytes]:
    """Give the body piece by piece, up to `most` bytes."""
    read = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        read += len(chunk)
        if read > most:
            raise _TooLargeError
        yield chunk


@asynccontextmanager
async def open_registry(url: str, name: str) -> AsyncIterator[Registry]:
    """Reach the MLflow server at `url`, which may hold a user and a password, for model `name`."""
    base = URL(url if url.endswith("/") else f"{url}/")
    shown = str(base.with_user(None)).rstrip("/")
    async with aiohttp.ClientSession(base) as session:
        yield Registry(session, shown, name)
