"""Headers of every response, which tell a browser what it may do with it. They are made once, not per response."""

import base64
import hashlib
from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]

UNSTORED = (b"cache-control", b"no-store")
"""The header of a response that no browser or proxy may store."""
CONTENT_POLICY = b"content-security-policy"
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (CONTENT_POLICY, b"default-src 'none'; frame-ancestors 'none'"),
)
"""Of every response: it is what its Content-Type states, pages of other sites cannot embed it, and it loads nothing.

A page that loads something has a Content-Security-Policy of its own.
"""

_MOST_INLINE = 16
"""Inline elements of a page that a policy allows; ours have one or two."""

CLOSED = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Directives of every page's policy: no site frames it, and its markup cannot redirect addresses or forms."""


def styles_policy(page: bytes) -> str:
    """Return the policy that allows the inline styles of `page`, and nothing else.

    `sandbox` also stops a `meta` element that would lead to another address.
    """
    return f"default-src 'none'; style-src {inline_sources(page, 'style')}; {CLOSED}; sandbox"


def inline_sources(page: bytes, element: str) -> str:
    """Return the hashes of the first inline elements of `page`, `style` or `script`: sources of a policy (CSP level 3).

    A page may be of another author than ours: the time is linear in its length, and the result short.
    """
    opening, closing = f"<{element}>".encode(), f"</{element}>".encode()
    ended = page.split(closing, _MOST_INLINE)[:-1]
    contents = [part.partition(opening)[2] for part in ended if opening in part]
    hashes = [base64.b64encode(hashlib.sha256(content).digest()).decode() for content in contents]
    return " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"


def secured(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return `headers` of a response, and those of `SECURITY_HEADERS` that it lacks."""
    own = list(headers)
    names = {name for name, _ in own}
    return own + [header for header in SECURITY_HEADERS if header[0] not in names]
