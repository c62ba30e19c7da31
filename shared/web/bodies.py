"""Request bodies: read within a limit, decoded if they are compressed, without a byte order mark."""

import asyncio
import zlib
from collections.abc import Iterable

from starlette.types import Receive, Scope

from shared.web.header_fields import header_fields
from shared.web.problems import ProblemError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WINDOW_BITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""The codings that can be decoded (RFC 9110, 8.4.1), with zlib's code of their format."""


async def read_body(scope: Scope, receive: Receive, largest: int) -> bytes:
    """Return the body. It may have `largest` bytes, as sent and decoded: decoding stops there.

    Raises:
        ProblemError: 413 too large; 400 cut off, or not in its content coding; 415 another content coding.

    """
    fields = header_fields(scope)
    coding = _coding(scope["headers"]) if b"content-encoding" in fields else None
    if int(fields.get(b"content-length", b"0")) > largest:
        raise _too_large(largest)
    body = await _received(receive, largest)
    if coding is not None:
        body = await asyncio.to_thread(_decoded, body, _WINDOW_BITS[coding], largest)
    return body.removeprefix(_BYTE_ORDER_MARK)


def _coding(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the one coding of a body, or None."""
    listed = b",".join(value for name, value in headers if name == b"content-encoding").lower().split(b",")
    codings = [coding for coding in map(bytes.strip, listed) if coding not in {b"", b"identity"}]
    if len(codings) > 1 or not set(codings) <= _WINDOW_BITS.keys():
        detail = "Content-Encoding: envíe el cuerpo sin comprimir, o comprimido una vez con gzip o deflate."
        raise ProblemError(415, "codificacion", detail)
    return codings[0] if codings else None


async def _received(receive: Receive, largest: int) -> bytes:
    body: bytes | bytearray = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "cortada", "La petición llegó incompleta.")
        part: bytes = message.get("body", b"")
        if len(body) + len(part) > largest:
            raise _too_large(largest)
        more = message.get("more_body", False)
        if not more and not body:  # nearly always: it arrived whole
            return part
        body = body or bytearray()  # a list of small parts would take many times their size
        body += part
        if not more:
            return bytes(body)


def _decoded(body: bytes, window_bits: int, largest: int) -> bytes:
    decoder = zlib.decompressobj(window_bits)
    try:
        decoded = decoder.decompress(body, largest + 1)
    except zlib.error:
        raise _damaged() from None
    if len(decoded) > largest:
        raise _too_large(largest)
    if not decoder.eof or decoder.unused_data:
        raise _damaged()
    return decoded


def _too_large(largest: int) -> ProblemError:
    return ProblemError(413, "tamano", f"El cuerpo supera {largest // 1024} KiB.")


def _damaged() -> ProblemError:
    return ProblemError(
        400, "comprimido", "El cuerpo no está comprimido como indica Content-Encoding, o llegó cortado."
    )
