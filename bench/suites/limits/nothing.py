"""HTTP server without an application: `python -m bench.suites.limits.nothing PORT`.

It has the uvicorn settings of our services, reads the whole request, and sends as many bytes as an answer has.
"""

import sys

import uvicorn
from starlette.types import Receive, Scope, Send

from shared.web.write_coalescing import CoalescingProtocol

_BYTES = b" " * 700
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BYTES))]


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one request."""
    del scope
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BYTES})


if __name__ == "__main__":
    uvicorn.run(
        nothing,
        port=int(sys.argv[1]),
        loop="uvloop",
        http=CoalescingProtocol,
        lifespan="off",
        access_log=False,
        log_level="error",
    )
