"""The doctor's page in a real browser, against the real system: a consultation from the form to the answer."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from shared.diseases.thyroid import DatosPaciente
from tests.support.browser import DESKTOP, PHONE, Doctor
from tests.support.bundles import PacienteDePrueba, make_bundle
from tests.support.database import query
from tests.support.processes import Process, running
from tests.support.waiting import until_now

REFUSED = "TSH: debe ser un número entre 0,001 y 1000 mU/L."


@pytest.fixture
def doctor(browser: Browser, page_server: Process) -> Iterator[Doctor]:
    with browser.new_context(locale="es-ES", viewport=DESKTOP) as context:
        doctor = Doctor(context.new_page(), page_server.url).open()
        yield doctor
        assert doctor.faults == []


def rows(page_folder: Path) -> int:
    count: int = query(page_folder, "SELECT count(*) FROM predicciones")[0][0]
    return count


def fill(doctor: Doctor) -> Doctor:
    return doctor.type(edad="47", tsh="0,05", t3="4.1", t4_total="210").tick("F", "Sospecha de hipertiroidismo")


def test_what_is_typed_is_answered_in_words_and_bars_and_recorded(doctor: Doctor, page_folder: Path) -> None:
    given = fill(doctor).calculate().answered()
    assert doctor.focused() == "answer-title"
    shares = doctor.answer.locator(".bars").first.locator(".share").all_inner_texts()
    percents = [float(share.strip("<> %\xa0").replace(",", ".")) for share in shares]
    assert len(percents) == len(DatosPaciente.disease.classes)
    assert percents == sorted(percents, reverse=True)
    assert "de cada 100" in doctor.answer.inner_text().lower() or "No concluyente" in doctor.answer.inner_text()
    until_now(lambda: bool(query(page_folder, "SELECT id FROM predicciones WHERE id = ?", given)))
    [[inputs]] = query(page_folder, "SELECT inputs FROM predicciones WHERE id = ?", given)
    kept = json.loads(inputs)
    assert (kept["tsh"], kept["t3"], kept["edad"], kept["sexo"]) == (0.05, 4.1, 47, "F")
    assert (kept["sospecha_hipertiroidismo"], kept["bocio"], kept["captacion_t4"]) == (True, False, None)
    assert doctor.violations() == ""


def test_the_documentation_works_under_its_policy(doctor: Doctor) -> None:
    page = doctor.page
    page.goto(f"{doctor.url}/docs")
    live = page.locator(".opblock").filter(has_text="¿Vive el proceso?")
    live.locator(".opblock-summary-control").click()
    live.get_by_role("button", name="Try it out").click()
    live.get_by_role("button", name="Execute").click()
    expect(live.locator(".live-responses-table")).to_contain_text('"estado"')
    assert doctor.faults == []
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
          document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:1/author.png" }));
        })"""
    )
    assert blocked == "img-src"
    doctor.faults.clear()


def test_remarks_of_the_answer_lead_to_their_field(doctor: Doctor) -> None:
    fill(doctor).calculate().answered()
    remark = doctor.answer.locator(".remarks li").filter(has_text="TSH: fuera del rango de referencia")
    remark.get_by_role("button").click()
    assert doctor.focused() == "f-tsh"


def test_an_answer_is_marked_when_its_data_change(doctor: Doctor) -> None:
    fill(doctor).calculate().answered()
    note = doctor.answer.get_by_text("Ha cambiado los datos")
    expect(note).to_be_hidden()
    doctor.type(tsh="3")
    expect(note).to_be_visible()
    doctor.type(tsh="0,05")
    expect(note).to_be_hidden()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("1001", REFUSED),
        ("0", REFUSED),
        ("<0,01", "TSH: escriba solo el número, sin «<»."),
        ("1.234,5", "TSH: escriba un número, con coma o punto para los decimales y sin separar los millares."),
        ("NaN", "TSH: escriba un número, con coma o punto para los decimales y sin separar los millares."),
    ],
)
def test_an_invalid_number_is_marked_beside_its_field_on_blur(doctor: Doctor, typed: str, said: str) -> None:
    doctor.type(tsh=typed)
    assert said in doctor.problem("tsh")
    doctor.type(tsh="2,5")
    assert doctor.problem("tsh") == ""


def test_nothing_is_sent_before_the_fields_are_valid(doctor: Doctor) -> None:
    asked: list[str] = []
    doctor.page.on("request", lambda request: asked.append(request.url))
    doctor.type(edad="47,5").calculate()
    assert doctor.alert() == "Revise los campos señalados."
    assert "Edad: debe ser un número entero" in doctor.problem("edad")
    assert "Sexo: falta este dato" in doctor.problem("sexo")
    assert doctor.focused() == "f-edad"
    assert doctor.violations() == ""
    assert asked == []
    doctor.type(edad="").calculate()
    assert "Edad: falta este dato; si no se conoce, marque «No consta»" in doctor.problem("edad")


def test_a_value_marked_unknown_is_recorded_as_null(doctor: Doctor, page_folder: Path) -> None:
    doctor.page.locator("#f-edad-unknown").check()
    doctor.page.locator("#patient .segments").get_by_label("No consta").check(force=True)
    given = doctor.type(tsh="2").calculate().answered()
    until_now(lambda: bool(query(page_folder, "SELECT id FROM predicciones WHERE id = ?", given)))
    [[inputs]] = query(page_folder, "SELECT inputs FROM predicciones WHERE id = ?", given)
    assert (json.loads(inputs)["edad"], json.loads(inputs)["sexo"]) == (None, None)


def test_what_only_the_server_knows_is_wrong_is_shown_at_its_field(doctor: Doctor, page_folder: Path) -> None:
    before = rows(page_folder)
    doctor.type(edad="40", tsh="2").tick("M", "Embarazo").calculate()
    assert "Revise los campos indicados." in doctor.alert()
    assert "El embarazo no es compatible con sexo M." in doctor.problem("embarazo")
    assert doctor.focused() == "f-embarazo"
    assert doctor.violations() == ""
    doctor.page.locator("#f-embarazo").uncheck()
    assert doctor.problem("embarazo") == ""
    doctor.type(tsh="").calculate()
    assert "Indique al menos un resultado de laboratorio." in doctor.alert() + doctor.problem("tsh")
    assert rows(page_folder) == before


@pytest.mark.parametrize(
    ("name", "typed", "said", "converted"),
    [
        ("t4_total", "8", "¿Está en µg/dL? 8 en µg/dL son 103 nmol/L.", "103"),
        ("t4_total", "16", "¿Está en µg/dL? 16 en µg/dL son 206 nmol/L.", "206"),
        ("t3", "120", "¿Está en ng/dL? 120 en ng/dL son 1,84 nmol/L.", "1,84"),
    ],
)
def test_a_slip_of_units_is_suspected_out_loud(
    doctor: Doctor, name: str, typed: str, said: str, converted: str
) -> None:
    doctor.type(**{name: typed})
    assert said in doctor.notice(name)
    assert doctor.violations() == ""
    doctor.press(f"Cambiar a {converted} nmol/L")
    assert doctor.field(name).input_value() == converted
    assert "¿Está en" not in doctor.notice(name)
    assert doctor.problem(name) == ""


def test_a_point_that_may_separate_thousands_raises_a_question(doctor: Doctor) -> None:
    doctor.type(tsh="1.500")
    assert doctor.notice("tsh") == "«1.500» se lee como 1,5, no como 1500: el punto separa decimales."
    assert doctor.violations() == ""
    doctor.type(tsh="1.000")
    doctor.press("Cambiar a 1000 mU/L")
    assert doctor.field("tsh").input_value() == "1000"
    assert "se lee como" not in doctor.notice("tsh")
    doctor.type(tsh="0.005")
    assert "se lee como" not in doctor.notice("tsh")


@pytest.mark.parametrize("typed", ["25", "100", "400"])
def test_a_value_that_is_no_nearer_in_another_unit_is_not_suspected(doctor: Doctor, typed: str) -> None:
    doctor.type(t4_total=typed)
    assert "¿Está en" not in doctor.notice("t4_total")


def test_it_works_from_the_keyboard_alone(doctor: Doctor) -> None:
    keyboard = doctor.page.keyboard
    keyboard.press("Tab")
    assert doctor.page.evaluate("document.activeElement.textContent") == "Saltar al contenido"
    keyboard.press("Enter")
    assert doctor.focused() == "principal"
    keyboard.press("Tab")
    keyboard.type("47")
    for _ in range(2):  # past «No consta»
        keyboard.press("Tab")
    keyboard.press("Space")
    keyboard.press("Tab")
    assert doctor.focused() == "f-tsh"
    keyboard.type("0,05")
    keyboard.press("Enter")
    doctor.answered()
    assert doctor.focused() == "answer-title"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_without_scrolling_sideways(browser: Browser, page_server: Process, scheme: str) -> None:
    with browser.new_context(
        locale="es-ES", viewport=PHONE, color_scheme="dark" if scheme == "dark" else "light"
    ) as context:
        doctor = Doctor(context.new_page(), page_server.url).open()
        assert doctor.violations() == ""
        fill(doctor).type(t4_total="8").calculate().answered()
        doctor.press("Corregir…")
        assert doctor.violations() == ""
        assert doctor.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        doctor.page.get_by_role("link", name="Historial").click()
        doctor.page.locator(".history td").first.wait_for()
        assert doctor.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert doctor.violations() == ""


def test_another_disease_has_a_form_of_its_own(browser: Browser, tmp_path: Path) -> None:
    make_bundle(tmp_path / "var", PacienteDePrueba)
    environment = {"PREDECIR_PACIENTE": "tests.support.bundles:PacienteDePrueba"}
    with running("services.local", tmp_path, environment) as process, browser.new_context(locale="es-ES") as context:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        doctor = Doctor(context.new_page(), process.url).open().type(edad="50", glucosa="130").tick("Fumador")
        expect(doctor.page.get_by_role("heading", level=1)).to_have_text("Enfermedad de prueba")
        assert "Por encima de la referencia." in doctor.notice("glucosa")
        given = doctor.calculate().answered()
        until_now(lambda: bool(query(tmp_path, "SELECT id FROM predicciones WHERE id = ?", given)))
        assert doctor.violations() == ""


def test_the_browser_keeps_nothing_of_the_patient(doctor: Doctor) -> None:
    asked: list[str] = []
    doctor.page.on("request", lambda request: asked.append(request.url))
    fill(doctor).calculate().answered()
    kept = "[localStorage.length, sessionStorage.length, document.cookie, location.search, location.hash]"
    assert doctor.page.evaluate(kept) == [0, 0, "", "", "#resultado"]
    assert all("?" not in url for url in asked)
    assert all(
        field.get_attribute("autocomplete") == "off" for field in doctor.page.locator("#patient input[type=text]").all()
    )
