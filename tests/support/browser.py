"""A doctor at the page, in Debian's Chromium: typing, pressing, reading, and axe's accessibility check."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, ViewportSize, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 320, "height": 640}
WAIT_MS = 15_000
"""Longest time in which anything must show, on a busy machine."""
_STEP_MS = 10


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser; while it runs, this thread cannot run an event loop of its own."""
    arguments = ["--lang=es-ES", *(["--no-sandbox"] if os.geteuid() == 0 else [])]  # Chromium has none for root
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, env={**os.environ, "LANGUAGE": "es"}
        )
        try:
            yield browser
        finally:
            browser.close()


class Doctor:
    """A doctor with one tab."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if "Security Policy" in said.text else None)

    def open(self, view: str = "") -> Self:
        self.page.goto(f"{self.url}/{view}")
        self.page.locator("#patient .field").first.wait_for(state="attached")
        return self

    def type(self, **values: str) -> Self:
        """Type into fields of these names, and leave each."""
        for name, value in values.items():
            self.field(name).fill(value)
            self.field(name).blur()
        return self

    def tick(self, *labels: str) -> Self:
        """Tick boxes, or choose options, of these labels."""
        for label in labels:
            self.page.locator("#patient").get_by_label(label, exact=True).check(force=True)
        return self

    def calculate(self) -> Self:
        self.press("Calcular")
        return self

    def answered(self) -> str:
        """Wait for the answer to the form's present data, not to earlier ones; return its id."""
        self.page.locator("#answer:not(.stale) .headline").wait_for()
        return self.answer.locator("dd.code").inner_text()

    def press(self, name: str, *, within: str = "body") -> None:
        self.page.locator(within).get_by_role("button", name=name, exact=True).click()

    def field(self, name: str) -> Locator:
        return self.page.locator(f"#f-{name}")

    def problem(self, name: str) -> str:
        return self.page.locator(f"#f-{name}-problem").inner_text()

    def notice(self, name: str) -> str:
        return self.page.locator(f"#f-{name}-notice").inner_text()

    def alert(self) -> str:
        """Wait for an error message and return it."""
        alert = self.page.locator(":is([role=alert] .note, .note[role=alert]):visible").first
        alert.wait_for()
        return alert.inner_text()

    def focused(self) -> str:
        found: str = self.page.evaluate("document.activeElement.id")
        return found

    @property
    def answer(self) -> Locator:
        return self.page.locator("#answer")

    def violations(self) -> str:
        """Return axe's violations of WCAG 2.2 AA and of its best practices on the present screen; empty if none."""
        found = Axe().run(self.page, options={"resultTypes": ["violations"], "runOnly": WCAG})
        return str(found.generate_report()) if found.violations_count else ""


class Held:
    """Requests to URLs of `pattern`, held back in the browser."""

    def __init__(self, page: Page, pattern: str) -> None:
        self._page = page
        self._routes: list[Route] = []
        page.route(pattern, lambda route: self._routes.append(route))  # noqa: PLW0108 - Playwright takes no builtin

    def next(self) -> Route:
        """Wait for the oldest request that was not taken yet."""
        deadline = time.monotonic() + WAIT_MS / 1000
        while not self._routes:
            if time.monotonic() > deadline:
                raise TimeoutError
            self._page.wait_for_timeout(_STEP_MS)  # meanwhile Playwright calls the route
        return self._routes.pop(0)
