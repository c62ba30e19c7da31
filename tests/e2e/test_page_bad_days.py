"""The doctor's page under failures: no input is lost, nothing is recorded twice, and a message gives the next step."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Route, expect

from tests.support import plain_http
from tests.support.browser import Doctor, Held
from tests.support.database import is_settled, query
from tests.support.processes import Process, command, running
from tests.support.waiting import until_now

TYPED = {"edad": "61", "tsh": "12,5", "t4_total": "40"}


@pytest.fixture
def tabs(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(locale="es-ES") as context:
        yield context


def opened(tabs: BrowserContext, url: str) -> Doctor:
    return Doctor(tabs.new_page(), url).open().type(**TYPED).tick("F")


def still_typed(doctor: Doctor) -> bool:
    return {name: doctor.field(name).input_value() for name in TYPED} == TYPED


def recorded(page_server: Process, page_folder: Path) -> set[str]:
    until_now(lambda: is_settled(page_server))
    return {row[0] for row in query(page_folder, "SELECT id FROM predicciones")}


def test_without_a_connection_typing_stays_and_a_retry_is_one_record(
    tabs: BrowserContext, page_server: Process, page_folder: Path
) -> None:
    before = recorded(page_server, page_folder)
    doctor = opened(tabs, page_server.url)
    tabs.set_offline(True)
    doctor.calculate()
    assert "No hay conexión con el servidor. Lo que ha escrito sigue aquí" in doctor.alert()
    assert still_typed(doctor)
    assert doctor.violations() == ""
    tabs.set_offline(False)
    doctor.press("Reintentar", within="#patient")
    given = doctor.answered()
    expect(doctor.page.locator("#patient .note")).to_have_count(0)
    assert recorded(page_server, page_folder) - before == {given}


def test_an_answer_that_got_lost_on_its_way_is_the_same_record(
    tabs: BrowserContext, page_server: Process, page_folder: Path
) -> None:
    before = recorded(page_server, page_folder)
    doctor = opened(tabs, page_server.url)
    lost = []

    def lose_the_first(route: Route) -> None:
        lost.append(route.fetch().json()["id"])
        if len(lost) == 1:
            route.abort()
        else:
            route.continue_()

    doctor.page.route("**/predecir", lose_the_first)
    given = doctor.calculate().answered()
    assert lost[0] == given
    assert recorded(page_server, page_folder) - before == {given}


def test_pressing_twice_and_once_more_is_one_record(
    tabs: BrowserContext, page_server: Process, page_folder: Path
) -> None:
    before = recorded(page_server, page_folder)
    doctor = opened(tabs, page_server.url)
    doctor.page.get_by_role("button", name="Calcular").dblclick()
    given = doctor.answered()
    doctor.press("Confirmar")
    expect(doctor.answer).to_contain_text("Anotado: diagnóstico confirmado.")
    doctor.field("tsh").press("Enter")
    expect(doctor.page.get_by_role("button", name="Calcular")).to_have_attribute("aria-disabled", "false")
    assert doctor.answered() == given
    expect(doctor.answer).to_contain_text("Anotado: diagnóstico confirmado.")
    assert recorded(page_server, page_folder) - before == {given}


def test_two_tabs_are_two_patients(tabs: BrowserContext, page_server: Process, page_folder: Path) -> None:
    before = recorded(page_server, page_folder)
    one, other = opened(tabs, page_server.url), opened(tabs, page_server.url)
    other.type(edad="23")
    given = {one.calculate().answered(), other.calculate().answered()}
    assert still_typed(one)
    assert recorded(page_server, page_folder) - before == given
    assert len(given) == 2


def test_going_back_finds_what_was_typed(tabs: BrowserContext, page_server: Process) -> None:
    doctor = opened(tabs, page_server.url)
    doctor.page.get_by_role("link", name="Historial").click()
    expect(doctor.page.get_by_role("heading", level=1)).to_have_text("Historial")
    doctor.page.go_back()
    expect(doctor.page.get_by_role("heading", level=1)).to_have_text("Diagnóstico tiroideo")
    assert still_typed(doctor)
    doctor.calculate().answered()
    doctor.page.go_back()
    assert still_typed(doctor)


def test_leaving_asks_before_typing_is_lost_and_an_answered_patient_may_go(
    tabs: BrowserContext, page_server: Process
) -> None:
    doctor = opened(tabs, page_server.url)
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    doctor.page.on("dialog", stay)
    with doctor.page.expect_event("dialog"):
        doctor.page.close(run_before_unload=True)
    assert still_typed(doctor)
    doctor.press("Nuevo paciente")
    assert asked == ["beforeunload", "confirm"]
    assert still_typed(doctor)
    doctor.calculate().answered()
    doctor.press("Nuevo paciente")
    assert asked == ["beforeunload", "confirm"]
    assert doctor.field("tsh").input_value() == ""
    assert doctor.focused() == "f-edad"
    expect(doctor.answer).to_contain_text("Aparecerá aquí")


def test_a_slow_answer_is_waited_for_and_shown(tabs: BrowserContext, page_server: Process, page_folder: Path) -> None:
    before = recorded(page_server, page_folder)
    doctor = opened(tabs, page_server.url)
    asked: list[str] = []
    doctor.page.on("request", lambda request: asked.append(request.url))
    page_server.popen.send_signal(signal.SIGSTOP)
    try:
        doctor.calculate()
        expect(doctor.page.get_by_role("button", name="Calculando…")).to_be_visible()
        expect(doctor.page.get_by_role("status").last).to_have_text("Calculando…")
        doctor.field("tsh").press("Enter")
        assert still_typed(doctor)
        assert asked == [f"{page_server.url}/predecir"]
    finally:
        page_server.popen.send_signal(signal.SIGCONT)
    given = doctor.answered()
    assert recorded(page_server, page_folder) - before == {given}


def test_without_a_model_the_page_keeps_the_input(tabs: BrowserContext, tmp_path: Path) -> None:
    with running("services.local", tmp_path) as process:
        doctor = opened(tabs, process.url).calculate()
        assert "El modelo no está disponible en este momento." in doctor.alert()
        assert still_typed(doctor)
        assert doctor.violations() == ""


def test_the_page_requests_a_key_once_and_again_after_revocation(
    tabs: BrowserContext, page_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "var").mkdir()
    for shared in ("models", "keys"):
        (tmp_path / "var" / shared).symlink_to(page_folder / "var" / shared)
    keys = tmp_path / "access.json"
    environment = {"PREDECIR_KEYS": str(keys)}

    def manage(*words: str) -> str:
        return command(["services.gateway", "keys", *words], tmp_path, environment).stdout.strip()

    first = manage("create", "--role", "medico")
    with running("services.local", tmp_path, environment) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        doctor = opened(tabs, process.url).calculate()
        dialog = doctor.page.get_by_role("dialog")
        expect(dialog).to_contain_text("Este servicio pide una clave")
        assert doctor.violations() == ""
        dialog.get_by_label("Clave").fill("pdk_wrong")
        doctor.press("Entrar")
        expect(dialog).to_contain_text("La clave no es válida o ha sido revocada.")
        dialog.get_by_label("Clave").fill(f"\u201c{first}\u200b\u201d")  # as pasted from a letter
        doctor.page.keyboard.press("Enter")
        doctor.answered()
        manage("revoke", manage("list").split("\n")[-1].split()[0])
        second = manage("create", "--role", "medico")
        until_now(
            lambda: (
                plain_http.get(f"{process.url}/docs", headers={"Authorization": f"Bearer {first}"}).status_code == 401
            )
        )
        doctor.type(tsh="3").calculate()
        doctor.press("Cancelar")
        assert "La clave no es válida o ha sido revocada. Lo que ha escrito sigue aquí" in doctor.alert()
        assert doctor.field("tsh").input_value() == "3"
        doctor.press("Reintentar", within="#patient")
        dialog.get_by_label("Clave").fill(second)
        doctor.press("Entrar")
        doctor.answered()
        assert doctor.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        doctor.press("Cerrar sesión")
        doctor.page.wait_for_load_state()
        doctor.page.get_by_role("link", name="Historial").click()
        expect(dialog).to_contain_text("Este servicio pide una clave")


def test_a_late_answer_is_not_shown_for_the_next_patient(tabs: BrowserContext, page_server: Process) -> None:
    doctor = opened(tabs, page_server.url)
    doctor.page.on("dialog", lambda dialog: dialog.accept())
    held = Held(doctor.page, "**/predecir")
    doctor.calculate()
    late = held.next()
    doctor.press("Nuevo paciente")
    expect(doctor.page.get_by_role("button", name="Calcular")).to_have_attribute("aria-disabled", "false")
    doctor.type(edad="23", tsh="2").tick("M")
    doctor.calculate()
    own = held.next()
    with doctor.page.expect_response("**/predecir") as answered:
        late.continue_()
    answered.value.finished()
    expect(doctor.page.get_by_role("button", name="Calculando…")).to_be_visible()
    expect(doctor.answer).to_contain_text("Aparecerá aquí")
    own.continue_()
    doctor.answered()
    expect(doctor.answer.locator(".sheet")).to_contain_text("23 años")
