"""Every route of every service, by every caller, in every spelling: only the declared roles open it.

Routes come from the routers, so a new route is covered by itself. The expectation is the table of
`tests/contract/test_authorization.py`.
"""

import re
from collections.abc import Iterator
from itertools import product

import pytest

from shared.web.api_keys import Role
from tests.contract.test_authorization import CONCRETE, OPENS
from tests.support.attack_table import Attack
from tests.support.attacked import Answer, Attacked, Target

FUNCTIONS = "API5 Broken function level authorization"
SERVICES = ("gateway", "inference", "recorder", "local")
UNKNOWN = ("GET /nowhere", "POST /nowhere", "GET /predicciones/1/otra", "POST /v2/models/tiroides", "GET /keys")
DENIED = {400, 401, 403, 404, 405, 429}
"""Statuses of a request that no handler of a route has seen; 429 is for many wrong keys."""
WRONG = {401, 429}
"""Statuses for a wrong key."""
OVERRIDES = (
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Forwarded-Path",
    "X-Forwarded-Prefix",
    "X-Forwarded-For",
    "X-Real-IP",
    "X-Original-Method",
    "Forwarded",
)


def role_of(caller: str) -> Role | None:
    """Return the role of a caller, or None for one without a valid key."""
    return Role(caller) if caller in {*Role} else None


def closed_to(caller: str, target: Target) -> list[tuple[str, str]]:
    """Return the routes of a service, as method and path, that the caller may not use."""
    role = role_of(caller)
    return [(method, path) for method, path in target.roles if f"{method} {path}" not in OPENS[role]]


def concrete(path: str) -> str:
    for name, value in CONCRETE.items():
        path = path.replace(name, value)
    return re.sub(r"\{[^}]*\}", "1", path)


def spellings(path: str) -> Iterator[str]:
    """Yield other spellings of a path, which another part between client and service may take for the same."""
    first, *_ = segments = path.removeprefix("/").split("/")
    last = segments[-1]
    yield f"/{path}"
    yield path.replace("/", "//")
    yield f"/.{path}"
    yield f"/%2e{path}"
    yield f"/x/..{path}"
    yield f"/health/..{path}"
    yield f"/health/live/../..{path}"
    yield f"/health/live/%2e%2e/%2e%2e{path}"
    yield f"/health/live/..%2f..{path}"
    yield f"/pagina/..{path}"
    yield f"/pagina/%2e%2e%2f{path[1:]}"
    yield f"/pagina/..;{path}"
    yield f"/;x{path}"
    yield f"/\\{path[1:]}"
    yield path.replace("/", "%2f")
    yield "/" + "/".join(segments).replace("/", "%2F")
    yield "/" + "".join(f"%{ord(char):02x}" for char in first) + path[1 + len(first) :]
    yield f"{path[: -len(last)]}%{ord(last[0]):02X}{last[1:]}" if last else path
    yield f"/%25{ord(first[0]):02x}{path[2:]}" if first else "/%2500"
    yield path.upper()
    yield path.title()
    yield path.swapcase()
    for ending in (
        "/",
        "//",
        "/.",
        "/..",
        "/%2e",
        "%20",
        "%00",
        "%0a",
        "%09",
        ";",
        ";a=b",
        ".json",
        ".html",
        "~",
        "%2f",
    ):
        yield path + ending
    for ending in ("?", "?x=1", "?_method=GET", "#x", "?/health/live", "%3f", "%23"):
        yield path + ending


@pytest.mark.parametrize("name", SERVICES)
def test_each_caller_opens_the_routes_of_its_role_and_no_other(services: Attacked, attack: Attack, name: str) -> None:
    target = services[name]
    with attack(FUNCTIONS, "each route, each caller") as tries:
        for caller, key in services.callers.items():
            denials = {403} if role_of(caller) else WRONG if key else {401}
            for method, path in target.roles:
                answer = target.send(method, concrete(path), key=key)
                opened = answer.status not in {401, 403, 429}
                may = f"{method} {path}" in OPENS[role_of(caller)]
                assert opened or not may, (name, caller, method, path, answer.status)
                assert opened or answer.status in denials, (name, caller, method, path, answer.status)
                if not may:
                    tries.add((name, caller, method, path, answer.status), success=opened)
        for caller, key in services.callers.items():
            expected = {404} if role_of(caller) else WRONG if key else {401}
            for method, path in (route.split() for route in UNKNOWN):
                if (method, path) not in target.roles:
                    answer = target.send(method, path, key=key)
                    tries.add((name, caller, method, path, answer.status), success=answer.status not in expected)


@pytest.mark.parametrize("name", SERVICES)
def test_no_spelling_of_a_path_opens_a_route(services: Attacked, attack: Attack, name: str) -> None:
    target = services[name]
    with attack(FUNCTIONS, "spellings of the path") as tries:
        for caller, key in services.callers.items():
            for method, path in closed_to(caller, target):
                for spelling in sorted({*spellings(concrete(path))}):
                    answer = target.send(method, spelling, key=key)
                    denied = answer.status in DENIED or is_page(answer)
                    tries.add((name, caller, method, spelling, answer.status), success=not denied)


def is_page(answer: Answer) -> bool:
    """Return whether the answer is the public page, of which some spellings of a path are a query or a fragment."""
    return answer.status == 200 and answer.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("name", SERVICES)
def test_no_method_or_override_opens_a_route(services: Attacked, attack: Attack, name: str) -> None:
    target = services[name]
    methods = ("HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get", "post", "GETT", "PURGE")
    with attack(FUNCTIONS, "methods and override headers") as tries:
        for caller, key in services.callers.items():
            for method, path in closed_to(caller, target):
                address = concrete(path)
                other = "GET" if method == "POST" else "POST"
                sent: list[tuple[str, str, dict[str, str]]] = [(each, address, {}) for each in methods]
                sent += [(other, address, {header: method}) for header in OVERRIDES]
                sent += [(method, address, {header: "127.0.0.1"}) for header in OVERRIDES[-5:]]
                for each, where, headers in sent:
                    may = (each, path) in target.roles and f"{each} {path}" in OPENS[role_of(caller)]
                    answer = target.send(each, where, key=key, headers=headers)
                    success = answer.status not in DENIED and not may
                    tries.add((name, caller, each, where, headers, answer.status), success=success)


@pytest.mark.parametrize("name", SERVICES)
def test_no_header_sends_a_public_route_to_another(services: Attacked, attack: Attack, name: str) -> None:
    target = services[name]
    public = target.get("/health/live").body
    with attack(FUNCTIONS, "headers that name another address") as tries:
        for header, (method, path) in product(OVERRIDES, closed_to("none", target)):
            answer = target.send("GET", "/health/live", headers={header: concrete(path)})
            tries.add((name, header, method, path, answer.status), success=answer.body != public)


def test_the_services_are_up_and_logged_no_error(services: Attacked) -> None:
    assert services.failures() == []
