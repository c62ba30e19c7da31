"""The doctor's page after an answer: explanation, feedback, history, print and CSV."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from playwright.sync_api import Browser, Download, Route, expect

from shared.diseases.thyroid import DatosPaciente
from tests.support.browser import Doctor, Held
from tests.support.database import is_settled, query
from tests.support.load import PATIENT
from tests.support.processes import Process
from tests.support.waiting import until_now

LABELS = {diagnosis.code: diagnosis.label for diagnosis in DatosPaciente.disease.diagnoses}


@pytest.fixture
def doctor(browser: Browser, page_server: Process) -> Iterator[Doctor]:
    with browser.new_context(locale="es-ES", timezone_id="Europe/Madrid") as context:
        doctor = Doctor(context.new_page(), page_server.url).open()
        yield doctor
        assert doctor.faults == []


def ask(doctor: Doctor, page_server: Process, *, reference: str = "", tsh: str = "0,05") -> str:
    """Request a prediction and wait until it is recorded; return its id."""
    doctor.type(edad="47", tsh=tsh).tick("F")
    doctor.page.get_by_label("Referencia propia", exact=True).fill(reference)
    given = doctor.calculate().answered()
    until_now(lambda: is_settled(page_server))
    return given


def history(doctor: Doctor) -> Doctor:
    doctor.page.get_by_role("link", name="Historial", exact=True).click()
    expect(doctor.page.locator(".results [role=status]")).to_contain_text("predicci")
    return doctor


def shown(doctor: Doctor) -> list[str]:
    """The ids in the table."""
    found: list[str] = doctor.page.locator(".history a").evaluate_all("links => links.map(link => link.title)")
    return found


def search(doctor: Doctor, text: str) -> list[str]:
    doctor.page.get_by_label("Identificador o referencia propia").fill(text)
    with doctor.page.expect_response("**/predicciones*/**" if len(text) == 36 else "**/predicciones?*"):
        doctor.press("Buscar")
    expect(doctor.page.locator(".results [role=status]")).not_to_have_text("Buscando…")
    return shown(doctor)


def test_confirmation_and_correction_are_both_recorded(doctor: Doctor, page_server: Process, page_folder: Path) -> None:
    given = ask(doctor, page_server)
    outcome = doctor.answer.locator(".feedback")
    lost: list[int] = []

    def lose_the_first(route: Route) -> None:
        lost.append(route.fetch().status)
        if len(lost) == 1:
            route.abort()
        else:
            route.continue_()

    doctor.page.route("**/resultado", lose_the_first)
    doctor.press("Confirmar")
    expect(outcome).to_contain_text("Anotado: diagnóstico confirmado.")
    assert len(lost) > 1
    doctor.press("Corregir…")
    doctor.press("Guardar la corrección")
    assert doctor.alert() == "Elija el diagnóstico correcto."
    assert doctor.violations() == ""
    choices = outcome.get_by_label("Diagnóstico correcto")
    code = choices.locator("option").nth(1).get_attribute("value") or ""
    choices.select_option(code)
    outcome.get_by_label("Motivo").fill("La ecografía muestra otra cosa")
    doctor.press("Guardar la corrección")
    expect(outcome).to_contain_text(f"Anotado: corregido a «{LABELS[code]}».")
    until_now(lambda: len(query(page_folder, "SELECT id FROM resultados WHERE prediccion_id = ?", given)) == 2)
    assert search(history(doctor), given) == [given]
    expect(doctor.page.locator(".history tbody")).to_contain_text(f"Corregido: {LABELS[code]}")
    doctor.page.locator(".history a").click()
    record = doctor.page.locator("#prediccion")
    expect(record).to_contain_text("Lo anotado hasta ahora")
    expect(record).to_contain_text("La ecografía muestra otra cosa")
    expect(record).to_contain_text("Confirmado")
    assert doctor.violations() == ""


def test_a_prediction_is_found_by_id_and_by_reference(doctor: Doctor, page_server: Process, page_folder: Path) -> None:
    addresses: list[str] = []
    doctor.page.on("request", lambda request: addresses.append(request.url))
    reference = "Historia 4711, García"
    given = ask(doctor, page_server, reference=reference, tsh="0,07")
    history(doctor)
    assert given in shown(doctor)
    assert search(doctor, reference) == [given]
    assert search(doctor, "Historia 4711") == []
    expect(doctor.page.locator(".results [role=status]")).to_have_text("No hay predicciones que mostrar.")
    assert search(doctor, given.upper()) == [given]
    assert not [address for address in addresses if "Historia" in address or "Garc" in address]
    kept = b"".join(path.read_bytes() for path in page_folder.rglob("*") if path.is_file())
    assert not [word for word in ("Historia", "García") if word.encode() in kept]


def test_filters_and_pages(doctor: Doctor, page_server: Process, page_folder: Path) -> None:
    given = ask(doctor, page_server, tsh="0,08")
    [[code]] = query(page_folder, "SELECT output FROM predicciones WHERE id = ?", given)
    history(doctor)
    doctor.page.get_by_label("Diagnóstico", exact=True).select_option(code)
    assert given in search(doctor, "")
    another = next(other for other in LABELS if other != code)
    doctor.page.get_by_label("Diagnóstico", exact=True).select_option(another)
    assert given not in search(doctor, "")
    doctor.page.get_by_label("Desde").fill("2001-01-01")
    doctor.page.get_by_label("Hasta").fill("2001-12-31")
    assert search(doctor, "") == []
    assert doctor.violations() == ""
    doctor.press("Quitar filtros")
    expect(doctor.page.locator(f".history a[title='{given}']")).to_be_visible()
    assert doctor.page.get_by_label("Desde").input_value() == ""


def saved(download: Download) -> list[dict[str, str]]:
    """The rows of a saved CSV file."""
    return list(csv.DictReader(io.StringIO(Path(download.path()).read_text("utf-8-sig")), delimiter=";"))


def in_pages_of_10(route: Route) -> None:
    """Let the server return shorter pages than the page of the browser wants for a file."""
    route.continue_(url=route.request.url.replace("limite=500", "limite=10"))


def many(page_server: Process, reference: str) -> list[str]:
    """Record 30 predictions with a reference; return their ids, the newest first."""
    with httpx.Client(base_url=page_server.url, headers={"Referencia-Paciente": reference}) as client:
        ids = [client.post("/predecir", json=PATIENT).raise_for_status().json()["id"] for _ in range(30)]
    until_now(lambda: is_settled(page_server))
    return ids[::-1]


def test_all_rows_of_the_filter_are_saved_and_not_only_those_shown(doctor: Doctor, page_server: Process) -> None:
    ids = many(page_server, "Historia-1")
    assert search(history(doctor), "Historia-1") == ids[:25]
    doctor.page.get_by_label("Identificador o referencia propia").fill("not searched for yet")
    doctor.page.route("**/predicciones?limite=500*", in_pages_of_10)
    with doctor.page.expect_download() as download:
        doctor.press("Guardar como CSV")
    rows = saved(download.value)
    assert [row["id"] for row in rows] == ids
    assert {row["referencia"] for row in rows} == {"Historia-1"}
    expect(doctor.page.locator(".saving")).to_have_text("Guardado: 30 predicciones.")
    assert shown(doctor) == ids[:25]
    assert doctor.violations() == ""


def test_saving_shows_its_progress_and_can_be_cancelled(doctor: Doctor, page_server: Process) -> None:
    many(page_server, "Historia-2")
    search(history(doctor), "Historia-2")
    files: list[Download] = []
    doctor.page.on("download", lambda file: files.append(file))  # noqa: PLW0108 - Playwright takes no builtin
    held = Held(doctor.page, "**/predicciones?limite=500*")
    doctor.press("Guardar como CSV")
    in_pages_of_10(held.next())
    second = held.next()
    expect(doctor.page.locator(".saving")).to_have_text("Guardando: 10 predicciones…")
    assert doctor.violations() == ""
    doctor.press("Cancelar")
    expect(doctor.page.locator(".saving")).to_have_text("Cancelado: no se ha guardado nada.")
    with doctor.page.expect_response("**/predicciones?*cursor=*") as answered:
        second.continue_()
    answered.value.finished()
    doctor.page.evaluate("new Promise(requestAnimationFrame)")
    expect(doctor.page.get_by_role("button", name="Guardar como CSV")).to_be_focused()
    assert files == []


def test_an_interrupted_file_is_continued_without_repeating_a_row(doctor: Doctor, page_server: Process) -> None:
    ids = many(page_server, "Historia-3")
    search(history(doctor), "Historia-3")
    held = Held(doctor.page, "**/predicciones?limite=500*")
    doctor.press("Guardar como CSV")
    in_pages_of_10(held.next())
    held.next().fulfill(status=500, json={"type": "urn:x:interno", "detail": "Ha fallado."})
    assert "Ha fallado." in doctor.alert()
    expect(doctor.page.locator(".saving")).to_have_text(
        "Interrumpido tras 10 predicciones: no se ha guardado nada todavía."
    )
    with doctor.page.expect_download() as download:
        doctor.press("Reintentar")
        held.next().continue_()
    assert [row["id"] for row in saved(download.value)] == ids


def test_the_file_has_the_readers_time_labels_and_the_stored_reference(
    doctor: Doctor, page_server: Process, page_folder: Path
) -> None:
    given = ask(doctor, page_server, reference="Historia 4712", tsh="0,11")
    assert search(history(doctor), given) == [given]
    with doctor.page.expect_download() as download:
        doctor.press("Guardar como CSV")
    [row] = saved(download.value)
    answered = page_server.get(f"/predicciones/{given}").json()
    local = datetime.fromisoformat(answered["timestamp"]).astimezone(ZoneInfo("Europe/Madrid"))
    [[reference]] = query(page_folder, "SELECT referencia FROM predicciones WHERE id = ?", given)
    assert row["fecha (Europe/Madrid)"] == f"{local:%Y-%m-%d %H:%M:%S}"
    assert row["referencia"] == reference
    assert (row["diagnostico"], row["diagnostico_codigo"]) == (LABELS[answered["output"]], answered["output"])
    assert list(row)[-len(DatosPaciente.features) :] == [
        f"{feature.label} ({feature.unit})" if feature.unit else feature.label for feature in DatosPaciente.features
    ]


@pytest.mark.parametrize(
    ("moment", "local"),
    [
        ("2026-11-30T16:04:05.999999Z", "2026-11-30 17:04:05"),
        ("2026-07-31T22:30:00Z", "2026-08-01 00:30:00"),
        ("2026-10-25T01:00:00Z", "2026-10-25 02:00:00"),
    ],
)
def test_a_time_in_the_file_is_one_that_spreadsheets_read(doctor: Doctor, moment: str, local: str) -> None:
    with doctor.page.expect_download() as download:
        doctor.page.evaluate(SAVED, {"row": {"timestamp": moment, "inputs": {}}, "reference": ""})
    [row] = saved(download.value)
    assert row["fecha (Europe/Madrid)"] == local


SAVED = """async ({ row, reference }) => {
    const { CsvFile } = await import("/pagina/csv.js");
    const file = new CsvFile({ campos: [], diagnosticos: {} }, reference);
    file.add([row]);
    file.download();
}"""
"""Save a file of one row."""


def test_a_file_is_a_table_that_spanish_excel_opens(doctor: Doctor, page_server: Process) -> None:
    given = ask(doctor, page_server, tsh="0,09")
    doctor.press("Corregir…")
    doctor.answer.get_by_label("Diagnóstico correcto").select_option(index=1)
    doctor.answer.get_by_label("Motivo").fill("=SUMA(A1;A2)")
    doctor.press("Guardar la corrección")
    until_now(lambda: is_settled(page_server))
    assert search(history(doctor), given) == [given]
    with doctor.page.expect_download() as download:
        doctor.press("Guardar como CSV")
    assert download.value.suggested_filename.endswith(".csv")
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.endswith(b"\r\n")
    [row] = saved(download.value)
    assert (row["id"], row["TSH (mU/L)"], row["Edad (años)"], row["Bocio"]) == (given, "0,09", "47", "no")
    assert row["motivo"] == "'=SUMA(A1;A2)"
    assert row["comprobado"] == "corregido"
    named = (row["plausibles"] or row["diagnostico"]).split(", ")
    assert row["conclusion"] == ("No concluyente" if len(named) > 1 else "Concluyente")


@pytest.mark.parametrize("start", ["\uff1d", "\uff0b", "\uff0d", "\uff20", "|"])
def test_no_reason_is_run_as_a_formula(doctor: Doctor, start: str) -> None:
    feedback = {"aceptada": False, "motivo": f"{start}A1"}
    with doctor.page.expect_download() as download:
        doctor.page.evaluate(SAVED, {"row": {"inputs": {}, "resultado": feedback}, "reference": f"{start}B2"})
    content = Path(download.value.path()).read_text("utf-8-sig")
    assert f"'{start}A1" in content
    assert f"'{start}B2" in content


STARTS = "=+-@|\uff1d\uff0b\uff0d\uff20"
"""Characters that begin a formula in a spreadsheet; the last four are the full-width forms of the first ones."""
NUMBER = re.compile(r"-?\d+(,\d+)?")
TRICKS = [
    *STARTS,
    *(f"{start}1+1" for start in STARTS),
    *(
        f"a{between}=1+1"
        for between in (",", ";", "\t", "\n", "\r", "\r\n", "\n\n", ",,", '"', ',"', ';""', '\t"""', '",', '";"')
    ),
    *(
        "\t=1",
        "\r=1",
        "\n=1",
        "\0=1",
        ",=1",
        ";=1",
        '"=1',
        '""=1',
        '","=1',
        "a,",
        'a,"',
        'a"',
        "a\n",
        'a\n"',
        'a;"',
        "\t",
        "a,=1,+1;-1\t@1",
    ),
]
"""Texts that become a formula in some dialect if they are written as they are."""


def cells(content: str, delimiter: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter) for cell in row]


def save_texts(doctor: Doctor, texts: list[Any]) -> str:
    """Save a row for each text, as motive, reference and value between ordinary values; return the file."""
    with doctor.page.expect_download() as download:
        doctor.page.evaluate(SAVED_TEXTS, texts)
    return Path(download.value.path()).read_bytes().decode("utf-8-sig")


SAVED_TEXTS = """async (texts) => {
    const { CsvFile } = await import("/pagina/csv.js");
    const field = (nombre) => ({ nombre, etiqueta: nombre, unidad: "" });
    const campos = [field("tsh"), { ...field("a"), etiqueta: texts[0] }, field("t4")];
    const spec = { campos, diagnosticos: { texto: texts[0] } };
    const file = new CsvFile(spec, "");
    const feedback = (motivo) => ({ aceptada: false, diagnostico: motivo, motivo });
    const rows = texts.map((text) => ({ id: text, referencia: text, output: text, modelo: text, modelo_version: text,
        plausibles: ["texto", text], resultado: feedback(text), inputs: { tsh: -0.5, a: text, t4: 3 } }));
    file.add(rows);
    file.add(texts.flatMap((one) => rows.map((row) => ({ ...row, modelo: one }))));
    file.download();
}"""
"""Save files of texts: each in every column, and each pair of them side by side."""


@pytest.mark.parametrize("delimiter", [";", ",", "\t"])
def test_no_cell_begins_as_a_formula_in_any_dialect(doctor: Doctor, delimiter: str) -> None:
    found = cells(save_texts(doctor, TRICKS), delimiter)
    assert [cell for cell in found if cell[:1] in {*STARTS, "\0"} and not NUMBER.fullmatch(cell)] == []
    assert len(found) > len(TRICKS) ** 2


def test_a_spreadsheet_shows_the_text_that_was_typed(doctor: Doctor) -> None:
    texts = [
        "TSH 5, T4 -2; revisar",
        'dijo "no, - gracias"',
        "línea 1\nlínea 2",
        "a=b",
        "3-5",
        "p@h.es",
        "it's",
        "a, b",
    ]
    rows = csv.DictReader(io.StringIO(save_texts(doctor, texts), newline=""), delimiter=";")
    assert [row["motivo"] for row, _ in zip(rows, texts, strict=False)] == texts


def test_a_list_or_object_among_the_values_does_not_stop_the_file(doctor: Doctor) -> None:
    odd = [[1, -2], {"a": [True, None]}, [], "=1"]
    with doctor.page.expect_download() as download:
        doctor.page.evaluate(SAVED_VALUES, odd)
    rows = csv.DictReader(io.StringIO(Path(download.value.path()).read_text("utf-8-sig")), delimiter=";")
    assert [row["x"] for row in rows] == ["[1,'-2]", '{"a":[true,null]}', "[]", "'=1"]


SAVED_VALUES = """async (values) => {
    const { CsvFile } = await import("/pagina/csv.js");
    const file = new CsvFile({ campos: [{ nombre: "x", etiqueta: "x" }], diagnosticos: {} }, "");
    file.add(values.map((x) => ({ inputs: { x } })));
    file.download();
}"""
"""Save a file of a row for each value."""


@pytest.mark.parametrize("count", [None, 1, 3])
def test_an_answer_that_was_not_conclusive_stays_so(doctor: Doctor, page_server: Process, count: int | None) -> None:
    given = ask(doctor, page_server)
    codes: list[str] = []

    def answered_so(route: Route) -> None:
        found = route.fetch().json()
        for row in found.get("predicciones", [found]):
            codes[:] = [row["output"], *(code for code in LABELS if code != row["output"])]
            row["plausibles"] = None if count is None else codes[:count]
        route.fulfill(json=found)

    doctor.page.route("**/predicciones*/**", answered_so)
    doctor.page.route("**/predicciones?*", answered_so)
    assert search(history(doctor), given) == [given]
    label = LABELS[codes[0]]
    is_open = count is not None and count > 1
    wanted = f"No concluyente. Más probable: {label}" if is_open else label
    expect(doctor.page.locator(".history td").nth(1).locator("span").last).to_have_text(wanted)
    with doctor.page.expect_download() as download:
        doctor.press("Guardar como CSV")
    [row] = saved(download.value)
    assert row["conclusion"] == {None: "", 1: "Concluyente", 3: "No concluyente"}[count]
    assert row["plausibles"] == ", ".join(LABELS[code] for code in codes[: count or 0])
    doctor.page.locator(".history a").click()
    record = doctor.page.locator("#prediccion")
    expect(record.locator("h2").first).to_have_text(f"Más probable: {label}" if is_open else label)
    expect(record.locator(".feedback h3")).to_have_text(f"¿{'Fue' if is_open else 'Se confirma'} «{label}»?")
    expect(record.get_by_text("No concluyente")).to_have_count(int(is_open))
    expect(record.locator(".bars .candidate")).to_have_count(count or 1)
    assert doctor.violations() == ""


def test_more_results_keep_the_filters_of_the_first_request(doctor: Doctor, page_server: Process) -> None:
    ask(doctor, page_server)
    asked: list[str] = []

    def with_more(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(json=route.fetch(url=route.request.url.split("&cursor")[0]).json() | {"siguiente": "abc"})

    doctor.page.route("**/predicciones?*", with_more)
    history(doctor)
    doctor.page.get_by_label("Diagnóstico", exact=True).select_option(index=2)
    with doctor.page.expect_response("**/predicciones?*"):
        doctor.press("Ver más")
    assert asked[-1] == f"{asked[0]}&cursor=abc"


def test_an_invalid_search_is_rejected_in_spanish(doctor: Doctor, page_server: Process) -> None:
    ask(doctor, page_server)
    history(doctor).page.get_by_label("Desde").fill("12026-01-01")
    doctor.press("Buscar")
    assert "La página no ha podido enviar algo de lo escrito; revíselo." in doctor.alert()
    doctor.page.get_by_role("link", name="Consulta").click()
    doctor.page.get_by_label("Referencia propia", exact=True).evaluate("input => { input.value = '\\ud83d' }")
    doctor.type(tsh="3").calculate()
    assert "La página no ha podido enviar algo de lo escrito; revíselo." in doctor.alert()


def test_on_paper_there_are_answer_and_data_and_no_controls(doctor: Doctor, page_server: Process) -> None:
    given = ask(doctor, page_server, tsh="0,06")
    doctor.page.emulate_media(media="print")
    expect(doctor.answer.get_by_text("Todos los diagnósticos")).to_be_visible()
    expect(doctor.answer.get_by_text("0,06 mU/L").last).to_be_visible()
    assert doctor.page.get_by_role("button").count() == 0
    assert doctor.page.pdf().startswith(b"%PDF")
    doctor.page.emulate_media(media="screen")
    doctor.open(f"#prediccion/{given}")
    doctor.page.reload()
    doctor.page.emulate_media(media="print")
    expect(doctor.page.locator("#prediccion").get_by_text("0,06 mU/L")).to_be_visible()


def test_an_unrecorded_id_shows_a_message(doctor: Doctor) -> None:
    doctor.open("#prediccion/00000000-0000-7000-8000-000000000000")
    doctor.page.reload()
    assert "No hay ninguna predicción registrada con ese id." in doctor.alert()
    assert doctor.violations() == ""


def test_a_late_record_is_not_shown_under_another_address(doctor: Doctor, page_server: Process) -> None:
    late, wanted = ask(doctor, page_server), ask(doctor, page_server, tsh="0,03")
    held = Held(doctor.page, f"**/predicciones/{late}")
    doctor.page.evaluate("id => { location.hash = `prediccion/${id}` }", late)
    reading = held.next()
    doctor.page.evaluate("id => { location.hash = `prediccion/${id}` }", wanted)
    record = doctor.page.locator("#prediccion")
    expect(record).to_contain_text(wanted)
    with doctor.page.expect_response(f"**/predicciones/{late}") as answered:
        reading.continue_()
    answered.value.finished()
    doctor.page.evaluate("new Promise(requestAnimationFrame)")
    expect(record).to_contain_text(wanted)


def test_the_explanation_shows_shares_and_method(doctor: Doctor, page_server: Process) -> None:
    ask(doctor, page_server)
    why = doctor.answer.locator("section", has_text="Qué ha pesado")
    expect(why.locator(".bars li").first).to_be_visible()
    assert "de partida" in why.inner_text()
    assert all(share.endswith(("puntos", "punto")) for share in why.locator(".share").all_inner_texts())
    assert len(why.locator("p.hint").inner_text()) > 20
    assert doctor.violations() == ""


def test_bars_of_another_model_are_not_shown_as_of_this_answer(doctor: Doctor, page_server: Process) -> None:
    def promoted(route: Route) -> None:
        found = route.fetch().json()
        found["modelo"]["version"] = "2"
        route.fulfill(json=found)

    doctor.page.route("**/explicar", promoted)
    ask(doctor, page_server)
    expect(doctor.answer).to_contain_text("El modelo ha cambiado desde este resultado")
    expect(doctor.answer.locator(".both")).to_have_count(0)


def test_an_explanation_is_not_retried_on_an_overloaded_server(doctor: Doctor, page_server: Process) -> None:
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=503, json={"type": "urn:x:saturado", "detail": "Hay demasiadas peticiones a la vez."})

    doctor.page.route("**/explicar", refuse)
    ask(doctor, page_server)
    expect(doctor.answer).to_contain_text("No se ha podido calcular. Hay demasiadas peticiones")
    assert len(asked) == 1


def test_a_rejected_reason_is_marked_and_not_sent_again(doctor: Doctor, page_server: Process) -> None:
    given = ask(doctor, page_server)
    doctor.press("Corregir…")
    doctor.answer.get_by_label("Diagnóstico correcto").select_option(index=1)
    doctor.answer.get_by_label("Motivo").fill("Ecografía\u0001")
    doctor.press("Guardar la corrección")
    assert "caracteres que no se pueden guardar" in doctor.alert()
    assert "Puede repetirlo" not in doctor.alert()
    assert doctor.focused() == f"reason-{given}"
    expect(doctor.answer.get_by_label("Motivo")).to_have_attribute("aria-invalid", "true")
    assert doctor.violations() == ""
    doctor.answer.get_by_label("Motivo").fill("Ecografía")
    doctor.press("Guardar la corrección")
    expect(doctor.answer).to_contain_text("Anotado: corregido")


def test_the_card_is_of_the_serving_model_and_opens_in_a_tab(doctor: Doctor, page_server: Process) -> None:
    ask(doctor, page_server, tsh="0,04")
    expect(doctor.answer.locator(".provenance")).to_contain_text("tiroides, versión 1")
    with doctor.page.expect_popup() as opened:
        doctor.answer.get_by_role("link", name="Ficha del modelo que responde ahora").click()
    expect(opened.value.get_by_role("heading", level=1)).to_contain_text("modelo")
    assert doctor.field("tsh").input_value() == "0,04"
