"""HTTP clients of ours: sessions that keep nothing a server sends, and response bodies of a bounded size.

The server may be compromised. Its body is read up to a stated size, as it is: a compressed one could be a thousand
times larger than its bytes, so none is requested, and none is read. Cookies are not stored.
"""

from collections.abc import Mapping

import aiohttp
from yarl import URL

_CODING, _IDENTITY = "Content-Encoding", "identity"


class BodyError(Exception):
    """A response body that is not read; the message is the reason as a phrase, without a value of the server."""


class BodyTooLargeError(BodyError):
    """The body has more bytes than allowed."""


def open_session(
    base: URL | str, *, timeout: aiohttp.ClientTimeout, headers: Mapping[str, str]
) -> aiohttp.ClientSession:
    """Return a session whose requests go to `base` with `headers`, each within `timeout`."""
    return aiohttp.ClientSession(
        base,
        timeout=timeout,
        headers={"Accept-Encoding": _IDENTITY, **headers},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body of `response`; on an error, close `response` to close its connection.

    Raises:
        BodyTooLargeError: it has more than `most` bytes.
        BodyError: it has a content coding.
        aiohttp.ClientError: the connection failed.
        TimeoutError: the session's time is over.

    """
    if response.headers.get(_CODING, _IDENTITY) != _IDENTITY:
        raise BodyError(f"with a {_CODING}, which was not requested")
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > most:
            raise BodyTooLargeError(f"of more than {most} bytes")
    return bytes(content)
