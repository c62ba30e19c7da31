"""The model card in a real browser, as the system serves it."""

from typing import Literal

import pytest
from playwright.sync_api import Browser, ViewportSize

from tests.support.browser import DESKTOP, PHONE, Doctor
from tests.support.processes import Process


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_it_is_readable_in_a_strict_browser_at_every_width(
    browser: Browser, page_server: Process, viewport: ViewportSize, scheme: Literal["light", "dark"]
) -> None:
    with browser.new_context(viewport=viewport, color_scheme=scheme) as context:
        reader = Doctor(context.new_page(), page_server.url)
        asked: list[str] = []
        reader.page.on("request", lambda request: asked.append(request.url))
        reader.page.goto(f"{page_server.url}/modelo/ficha")
        assert "modelo inventada, versión 7" in reader.page.locator("h1").inner_text()
        tile = reader.page.locator(".tiles li").first
        assert tile.evaluate("element => getComputedStyle(element).borderTopStyle") == "solid"  # styled, then
        dark = reader.page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark is (scheme == "dark")
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert reader.faults == []
        assert asked == [f"{page_server.url}/modelo/ficha"]
    with browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True) as context:  # axe is a script
        reader = Doctor(context.new_page(), page_server.url)
        reader.page.goto(f"{page_server.url}/modelo/ficha")
        assert reader.violations() == ""
