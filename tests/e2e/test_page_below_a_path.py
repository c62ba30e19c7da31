"""The doctor's page and the documentation below a path of HAProxy, with the lines of docs/operations/running.md."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import plain_http
from tests.support.browser import Doctor
from tests.support.haproxy import haproxy_with
from tests.support.paths import ROOT
from tests.support.ports import free_ports
from tests.support.processes import Process

DOCUMENTED = (ROOT / "docs/operations/running.md").read_text().partition("```\nfrontend")[2].partition("```")[0]


@pytest.fixture
def address(tmp_path: Path, page_server: Process) -> Iterator[str]:
    [port] = free_ports(1)
    sections = f"frontend{DOCUMENTED}".replace("bind :8080", f"bind 127.0.0.1:{port}")
    with haproxy_with(tmp_path, sections.replace("127.0.0.1:8000", f"127.0.0.1:{page_server.port}"), port) as proxy:
        yield f"{proxy.url}/tiroides"


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    with browser.new_context(locale="es-ES") as context:
        yield context.new_page()


def requests(tab: Page) -> list[str]:
    """Return the list to which the address of each request of `tab` will be added."""
    sent: list[str] = []
    tab.on("request", lambda request: sent.append(request.url))
    return sent


def test_a_consultation_and_its_record_stay_below_the_path(tab: Page, address: str) -> None:
    sent = requests(tab)
    doctor = Doctor(tab, address).open().type(edad="47", tsh="0,05").tick("F").calculate()
    answer = doctor.answered()
    tab.goto(f"{address}/#prediccion/{answer}")
    expect(tab.locator("#prediccion")).to_contain_text(answer)
    tab.goto(f"{address}/#historial")
    expect(tab.locator("#historial")).to_contain_text(answer[-6:])
    with tab.context.expect_page() as opened:
        tab.locator("footer a").click()
    expect(opened.value.locator("h1")).to_be_visible()
    assert opened.value.url == f"{address}/modelo/ficha"
    assert [url for url in sent if not url.startswith(f"{address}/")] == []
    assert doctor.faults == []


def test_the_path_without_its_slash_leads_to_the_page(tab: Page, address: str) -> None:
    response = plain_http.get(address)
    assert (response.status_code, response.headers["location"]) == (301, "/tiroides/")
    tab.goto(address)
    expect(tab.locator("#patient .field").first).to_be_attached()


def test_the_documentation_stays_below_the_path(tab: Page, address: str) -> None:
    sent = requests(tab)
    tab.goto(f"{address}/docs")
    expect(tab.locator(".opblock").first).to_be_visible()
    assert f"{address}/openapi.json" in sent
    assert [url for url in sent if not url.startswith((f"{address}/", "data:"))] == []
