"""Policies of RabbitMQ on our queues that lose messages, read from its management API: AMQP does not show them."""

import asyncio
import contextlib
import http.client
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson
import structlog
from pydantic import SecretStr

from shared.broker.topology import Queue, Topology
from shared.settings import SettingsError

_SECONDS = 5
IN_ALL_SECONDS = 15
"""Time for one answer, from the connection to the last byte."""
LARGEST_ANSWER = 1024 * 1024
"""Bytes of an answer."""
_TRIES, _RETRY_SECONDS = 30, 2
_DEFINITION = "effective_policy_definition"
_LOSSY = ("message-ttl", "expires", "delivery-limit")
_LENGTHS = ("max-length", "max-length-bytes")
_log = structlog.get_logger()


class ManagementError(Exception):
    """The management API does not show a queue; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Management:
    """Address of the management API, the virtual host of our queues, and the header with the login."""

    secure: bool
    host: str
    port: int
    path: str
    vhost: str
    authorization: str


def read_management_url(url: SecretStr, broker_url: str) -> Management:
    """Return the parts of `BROKER_MANAGEMENT_URL`; the login is that of `broker_url` if it has none.

    Raises:
        SettingsError: it is not an HTTP URL.

    """
    broker = urlsplit(broker_url)
    try:
        parts = urlsplit(url.get_secret_value())
        port = parts.port or (15671 if parts.scheme == "https" else 15672)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError("settings: BROKER_MANAGEMENT_URL: expected http://host:15672 (see .env.example)")
    login = parts if parts.username else broker
    credentials = f"{unquote(login.username or '')}:{unquote(login.password or '')}"
    return Management(
        secure=parts.scheme == "https",
        host=parts.hostname,
        port=port,
        path=parts.path.rstrip("/"),
        vhost=unquote(broker.path[1:]) or "/",
        authorization=f"Basic {b64encode(credentials.encode()).decode()}",
    )


async def log_lossy_policies(management: Management, topology: Topology) -> None:
    """Log a warning for each policy by which the broker may lose events, or why that is unknown."""
    for queue in (topology.events, topology.dead):  # a lost status of an outbox does no harm
        try:
            shown = await _with_policy(management, queue.name)
        except ManagementError as error:
            _log.warning("broker_policies_unknown", queue=queue.name, reason=str(error))
            return
        if lossy := dict(_lossy(shown[_DEFINITION], queue)):
            names = [shown[kind] for kind in ("policy", "operator_policy") if shown.get(kind)]
            _log.warning("broker_policy_loses_messages", queue=queue.name, policies=names, settings=lossy)


async def _with_policy(management: Management, queue: str) -> Mapping[str, Any]:
    """Return what the management API shows of `queue`; of a new one, it shows the policy about ten seconds later."""
    for _ in range(_TRIES):
        shown = await asyncio.to_thread(_shown, management, queue)
        if _DEFINITION in shown:
            return shown
        await asyncio.sleep(_RETRY_SECONDS)
    raise ManagementError("BROKER_MANAGEMENT_URL shows no policies: are its statistics disabled?")


def _lossy(definition: object, queue: Queue) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a policy's `definition` that make the broker drop messages of `queue`."""
    if not isinstance(definition, Mapping):  # an empty list, if there is no policy
        return
    yield from ((key, definition[key]) for key in _LOSSY if key in definition)
    overflow = definition.get("overflow", queue.arguments.get("x-overflow", "drop-head"))
    if overflow != "reject-publish":
        yield from ((key, definition[key]) for key in _LENGTHS if key in definition)


def _shown(management: Management, queue: str) -> Mapping[str, Any]:
    """Return what the management API shows of `queue`. Redirects are not followed, and nothing is inflated."""
    kind = http.client.HTTPSConnection if management.secure else http.client.HTTPConnection
    connection = kind(management.host, management.port, timeout=_SECONDS)
    path = "/".join((management.path, "api/queues", *(quote(part, safe="") for part in (management.vhost, queue))))
    timer = threading.Timer(IN_ALL_SECONDS, _cut, [connection])  # the connection's time is for each read alone
    timer.start()
    try:
        connection.request("GET", path, headers={"Authorization": management.authorization})
        response = connection.getresponse()
        if response.status != http.client.OK:
            tag = "; does its user have the tag `management`?" if response.status == http.client.UNAUTHORIZED else ""
            phrase = http.client.responses.get(response.status, "")  # not the server's, which may be any text
            raise ManagementError(f"BROKER_MANAGEMENT_URL answers {response.status} {phrase}{tag}")
        content = response.read(LARGEST_ANSWER + 1)
        if len(content) > LARGEST_ANSWER:
            raise ManagementError(f"BROKER_MANAGEMENT_URL answers more than {LARGEST_ANSWER} bytes")
        shown = orjson.loads(content)
    except (OSError, http.client.HTTPException, ValueError) as error:  # no JSON; a name that is no host's
        raise ManagementError(f"BROKER_MANAGEMENT_URL: {str(error) or type(error).__name__}") from None
    finally:
        timer.cancel()
        connection.close()
    if not isinstance(shown, Mapping):
        raise ManagementError("BROKER_MANAGEMENT_URL is not RabbitMQ's management API")
    return shown


def _cut(connection: http.client.HTTPConnection) -> None:
    """End the read that waits on `connection` in another thread."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):  # it ended meanwhile
            connection.sock.shutdown(socket.SHUT_RDWR)
