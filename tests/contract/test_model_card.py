"""`GET /modelo/ficha`: the card of the model that serves, with a policy that lets a browser only show it."""

import asyncio
import base64
import hashlib
import time
from pathlib import Path

import pytest

from shared.contracts.scoring import ModelUnavailableError
from shared.web.security_headers import styles_policy
from tests.support.doubles import Card
from tests.support.gateway import PROBLEM, gateway

STYLE = "p { color: red; }\n"
CARD = f"<!doctype html><title>Ficha</title><style>{STYLE}</style><p>Más</p>".encode()


class Away:
    """Inference that cannot be reached."""

    async def card(self) -> bytes | None:
        raise ModelUnavailableError("inference cannot be reached (ClientConnectorError)")


class Slow:
    """Inference that never answers."""

    async def card(self) -> bytes | None:
        await asyncio.Event().wait()
        return None


def styles(content: bytes) -> str:
    [found] = [part for part in styles_policy(content).split("; ") if part.startswith("style-src")]
    return found


def hashed(style: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


async def test_the_card_is_sent_under_a_policy_for_its_own_style(tmp_path: Path) -> None:
    async with gateway(tmp_path, cards=Card(CARD)) as client:
        given = await client.get("/modelo/ficha")
    assert (given.status_code, given.content) == (200, CARD)
    assert given.headers["Content-Type"] == "text/html; charset=utf-8"
    assert given.headers["Cache-Control"] == "no-cache"
    assert given.headers["X-Content-Type-Options"] == "nosniff"
    assert given.headers["Content-Security-Policy"].split("; ") == [
        "default-src 'none'",
        f"style-src {hashed(STYLE)}",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox",
    ]


def test_styles_are_allowed_by_their_own_hash_only() -> None:
    assert styles(b"<p>no style</p>") == "style-src 'none'"
    assert styles(b"<style>a{}</style><style>b{}</style>") == f"style-src {hashed('a{}')} {hashed('b{}')}"


@pytest.mark.parametrize(
    "card",
    [b"<style>" * 250_000, b"<style></style>" * 250_000, b"".join(b"<style>%d</style>" % n for n in range(250_000))],
    ids=["unclosed", "alike", "different"],
)
def test_a_hostile_card_costs_no_time_and_no_long_header(card: bytes) -> None:
    started = time.process_time()
    length = len(styles(card))
    assert length <= 2048
    assert time.process_time() - started < 1


async def test_a_version_without_one_is_a_404_in_spanish(tmp_path: Path) -> None:
    async with gateway(tmp_path, cards=Card(None)) as client:
        missing = await client.get("/modelo/ficha")
    assert (missing.status_code, missing.headers["Content-Type"]) == (404, PROBLEM)
    assert missing.json()["detail"] == "La versión del modelo que responde ahora no tiene ficha."


async def test_a_model_that_is_away_or_slow_is_a_503_to_try_again(tmp_path: Path) -> None:
    for cards in (Away(), Slow()):
        async with gateway(tmp_path, cards=cards, gateway_deadline_seconds=0.2) as client:
            refused = await client.get("/modelo/ficha")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert "inténtelo de nuevo" in refused.json()["detail"]
