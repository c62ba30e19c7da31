"""Requests that stop in the middle, in the forms that a balancer must not take for work."""

SOURCES = [f"127.0.1.{number}" for number in range(1, 11)]
"""Addresses of this machine from which clients connect."""
LARGEST_BODY, LARGEST_FIELDS, LARGEST_ADDRESS = 49_152, 10_000, 4_000
"""Limits of deploy/haproxy/haproxy.cfg in bytes."""
_CHUNKED = "Transfer-Encoding: chunked\r\n"


def unfinished(*, fields: str = "", address: str = "/predecir", sent: bytes = b"") -> bytes:
    """Return a request without a key whose body does not end."""
    return f"POST {address} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode() + sent


def _chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b" " * size + b"\r\n"


def _largest() -> bytes:
    """Return the largest request within the limits, in many pieces, without its end."""
    fields = "".join(f"X-{number}: {'a' * 1_000}\r\n" for number in range(9))
    last = f"X: {'a' * (LARGEST_FIELDS - len(fields) - 60)}\r\n"
    address = "/predecir?" + "a" * (LARGEST_ADDRESS - 10)
    sent = _chunk(1) * 100 + _chunk(LARGEST_BODY - 100)
    return unfinished(fields=fields + last + _CHUNKED, address=address, sent=sent)


UNFINISHED = {
    "nothing of a small body": (unfinished(fields="Content-Length: 50\r\n"), 408),
    "half of a body": (unfinished(fields="Content-Length: 40000\r\n", sent=b" " * 20_000), 408),
    "half of a body that is too large": (unfinished(fields="Content-Length: 100000\r\n", sent=b" " * 20_000), 413),
    "a chunk": (unfinished(fields=_CHUNKED, sent=_chunk(30_000)), 408),
    "a chunk that is too large": (unfinished(fields=_CHUNKED, sent=_chunk(65_535)), 413),
    "all that the limits allow": (_largest(), 408),
}
"""Each form, with the status of its rejection."""
