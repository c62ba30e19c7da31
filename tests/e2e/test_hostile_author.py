"""A compromised author: markup in the texts of a disease and in its signed card does nothing in a browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import Doctor
from tests.support.bundles import make_bundle
from tests.support.database import is_settled
from tests.support.hostile_author import AWAY, CARD, MARKUP, RAN, PacienteHostil
from tests.support.paths import ROOT
from tests.support.processes import Process, running
from tests.support.waiting import until_now

PATIENT = {"PREDECIR_PACIENTE": "tests.support.hostile_author:PacienteHostil", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("hostile")
    make_bundle(folder / "var", PacienteHostil, card=CARD)
    with running("services.local", folder, PATIENT) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        yield process


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab; afterwards nothing of the author's has run, and no address of the author's was requested."""
    with browser.new_context(locale="es-ES") as context:
        page = context.new_page()
        requested: list[str] = []
        dialogs: list[str] = []
        page.on("response", lambda response: requested.append(response.url))  # a blocked request has none
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        yield page
        assert page.title() != RAN
        assert requested
        assert [url for url in requested if AWAY in url] == []
        assert dialogs == []


def test_markup_in_a_disease_s_texts_is_shown_as_text_on_the_page(tab: Page, hostile_server: Process) -> None:
    doctor = Doctor(tab, hostile_server.url).open()
    form = tab.locator("#patient")
    for text in (f"Edad {MARKUP}", f"Glucosa {MARKUP}", f"Fumador {MARKUP}", f"mg/dL {MARKUP}"):
        expect(form).to_contain_text(text)
    doctor.type(edad="47", glucosa="90").calculate()
    given = doctor.answered()
    expect(doctor.answer.locator(".headline")).to_contain_text(MARKUP)
    until_now(lambda: is_settled(hostile_server))
    tab.get_by_role("link", name="Historial", exact=True).click()
    tab.locator(f".history a[title='{given}']").click()
    expect(tab.locator("#prediccion")).to_contain_text(MARKUP)
    assert tab.locator("img[onerror], b:text('negrita'), #prediccion script, #patient script").count() == 0
    assert doctor.faults == []


def test_a_signed_card_runs_nothing_fetches_nothing_and_leads_nowhere(tab: Page, hostile_server: Process) -> None:
    tab.goto(f"{hostile_server.url}/modelo/ficha")
    expect(tab.locator("h1")).to_have_text("Ficha")
    tab.get_by_role("button", name="Entrar").click()
    tab.get_by_role("link", name="enlace").click(no_wait_after=True)
    tab.wait_for_load_state("networkidle")
    assert tab.url == f"{hostile_server.url}/modelo/ficha"


def test_markup_in_a_disease_s_texts_runs_nothing_in_the_documentation(tab: Page, hostile_server: Process) -> None:
    tab.goto(f"{hostile_server.url}/docs")
    tab.locator(".opblock-summary-path", has_text="/predecir").first.click()
    expect(tab.locator(".opblock.is-open")).to_contain_text("negrita")
    assert tab.title() != RAN
    assert tab.locator("#swagger-ui script").count() == 0
