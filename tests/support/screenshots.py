"""Take the pictures of docs/guides/doctor.md: `python -m tests.support.screenshots`, after `make train`.

They show the model in production in var/, in a temporary folder, so that they contain no prediction of a real user.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, FloatRect, ViewportSize

from tests.support.browser import Doctor, chromium
from tests.support.database import is_settled
from tests.support.paths import ROOT
from tests.support.processes import Process, running
from tests.support.waiting import until_now

IMAGES = ROOT / "docs/img"
DESK: ViewportSize = {"width": 1200, "height": 800}
POCKET: ViewportSize = {"width": 390, "height": 844}


def tab(browser: Browser, process: Process, size: ViewportSize, *, dark: bool = False) -> Doctor:
    """Open the page as a doctor in Spain sees it."""
    page = browser.new_page(
        locale="es-ES", timezone_id="Europe/Madrid", viewport=size, color_scheme="dark" if dark else "light"
    )
    return Doctor(page, process.url).open()


def hyperthyroid(doctor: Doctor) -> Doctor:
    doctor.type(edad="47", tsh="0,05", t3="4,1", t4_total="210", captacion_t4="0,9")
    return doctor.tick("F", "Sospecha de hipertiroidismo")


def explained(doctor: Doctor) -> Doctor:
    doctor.calculate().answered()
    doctor.answer.locator(".both").wait_for()
    doctor.page.locator("h1").evaluate("heading => { heading.focus(); scrollTo(0, 0); }")
    return doctor


def picture(name: str) -> Path:
    return IMAGES / f"{name}.png"


def take(browser: Browser, process: Process) -> None:
    """Take all pictures."""
    desk = tab(browser, process, DESK)
    desk.type(edad="47", tsh="<0,01", t3="4,1", t4_total="16").tick("F")
    desk.page.locator(".group", has_text="Laboratorio").first.screenshot(path=picture("unidades"))
    explained(hyperthyroid(desk))
    desk.page.screenshot(path=picture("pagina"))
    desk.page.screenshot(path=picture("consulta"), full_page=True)
    desk.press("Corregir…")
    desk.answer.get_by_label("Diagnóstico correcto").select_option(index=1)
    desk.answer.get_by_label("Motivo").fill("Biotina en dosis altas: repetida sin ella, es normal")
    desk.answer.locator(".feedback").screenshot(path=picture("correccion"))
    desk.press("Guardar la corrección")
    desk.answer.get_by_text("Anotado: corregido").wait_for()
    desk.page.get_by_label("Sospecha de hipertiroidismo").uncheck()
    explained(desk.type(edad="35", tsh="0,05", t3="3,3", t4_total="165", captacion_t4="1,05"))
    panel = desk.answer.bounding_box()
    assert panel is not None
    top: FloatRect = {"x": panel["x"] - 8, "y": panel["y"] - 8, "width": panel["width"] + 16, "height": 560}
    desk.page.screenshot(path=picture("no-concluyente"), clip=top)
    desk.type(edad="68", tsh="7,5", t3="1,2", t4_total="80", captacion_t4="0,9")
    explained(desk)
    desk.press("Confirmar")
    until_now(lambda: is_settled(process))
    desk.page.get_by_role("link", name="Historial", exact=True).click()
    desk.page.locator(".history tbody tr").nth(2).wait_for()
    desk.page.screenshot(path=picture("historial"))
    desk.page.locator(".history a").last.click()
    desk.page.locator(".record").wait_for()
    desk.page.screenshot(path=picture("prediccion"), full_page=True)
    explained(hyperthyroid(tab(browser, process, POCKET, dark=True))).answer.evaluate("part => part.scrollIntoView()")
    browser.contexts[-1].pages[0].screenshot(path=picture("movil"))


def main() -> int:
    """Serve a copy of the model in production, and take the pictures."""
    if not (ROOT / "var/models/tiroides/production/manifest.json").exists():
        print("screenshots: no model in production; run `make train` first", file=sys.stderr)  # noqa: T201 - for the user
        return 1
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("models", "keys"):
            shutil.copytree(ROOT / "var" / name, folder / "var" / name, symlinks=True)
        with running("services.local", folder) as process, chromium() as browser:
            until_now(lambda: process.get("/health/ready").status_code == 200, seconds=30)
            take(browser, process)
    for path in IMAGES.glob("*.png"):
        Image.open(path).quantize(128).save(path, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
