"""The served page: its files, their headers, and a form that follows the patient class."""

import re
from pathlib import Path

import pytest

from services.gateway.page.routes import form, page_router
from shared.diseases.thyroid import DatosPaciente
from shared.web.routing import PUBLIC, route_roles
from tests.support.bundles import PacienteDePrueba
from tests.support.gateway import gateway
from tests.support.paths import ROOT

FILES = sorted(path.name for path in (ROOT / "services/gateway/page/static").iterdir())
KIB = 1024


def text(name: str) -> str:
    return (ROOT / "services/gateway/page/static" / name).read_text()


async def test_every_file_has_a_strict_policy_and_is_revalidated(tmp_path: Path) -> None:
    async with gateway(tmp_path) as client:
        for path in ["/", "/pagina/form.json", *(f"/pagina/{name}" for name in FILES)]:
            sent = await client.get(path)
            assert sent.status_code == 200, path
            policy = sent.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert (sent.headers["x-content-type-options"], sent.headers["referrer-policy"]) == (
                "nosniff",
                "no-referrer",
            )
            again = await client.get(path, headers={"If-None-Match": sent.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            assert sent.headers["cache-control"] == again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/pagina/none.js", "/pagina/..%2fpage.py", "/pagina/%2e%2e/page.py"])
async def test_nothing_else_is_served(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path) as client:
        assert (await client.get(path)).status_code == 404


async def test_the_page_weighs_less_than_150_kib(tmp_path: Path) -> None:
    async with gateway(tmp_path) as client:
        paths = ["/pagina/form.json", *(f"/pagina/{name}" for name in FILES)]
        assert sum([len((await client.get(path)).content) for path in paths]) < 150 * KIB


def test_the_page_needs_no_key() -> None:
    assert set(route_roles(page_router(DatosPaciente)).values()) == {PUBLIC}


def test_the_page_asks_no_other_host_and_has_nothing_inline() -> None:
    html = text("page.html")
    assert re.findall(r"(?:src|href)=\"(?!pagina/|modelo/ficha\"|#)[^\"]*", html) == []
    assert re.findall(r"<style|style=|\son\w+=|<script(?! type=\"module\" src=)", html) == []
    addresses = {name: re.findall(r"https?://(?!www\.w3\.org/2000/svg)\S+", text(name)) for name in FILES}
    assert {name: found for name, found in addresses.items() if found} == {}


def test_every_address_of_the_page_is_relative() -> None:
    absolute = re.compile(r"""(?:get|post|fetch|outside|import)\(\s*["'`]/|(?:href|src|action)=["'`]?/""")
    assert [name for name in FILES if absolute.search(text(name))] == []


def test_no_script_parses_text_as_html_or_writes_to_the_browsers_storage() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|localStorage|sessionStorage|indexedDB|\.cookie"
    )
    assert [name for name in FILES if name.endswith(".js") and forbidden.search(text(name))] == []


def test_everything_that_is_imported_is_there() -> None:
    named = {found for name in FILES for found in re.findall(r"from \"\./([\w.]+)\"", text(name))}
    assert named <= set(FILES)
    assert {name for name in FILES if name.endswith(".js")} == named | {"main.js"}
    assert set(re.findall(r"modulepreload\" href=\"pagina/([\w.]+)", text("page.html"))) == named


@pytest.mark.parametrize("patient", [DatosPaciente, PacienteDePrueba])
def test_the_form_is_the_patient_class(patient: type[DatosPaciente | PacienteDePrueba]) -> None:
    described = form(patient)
    assert [field["nombre"] for field in described["campos"]] == list(patient.columns)
    assert described["diagnosticos"] == {d.code: d.label for d in patient.disease.diagnoses}
    by_name = {field["nombre"]: field for field in described["campos"]}
    for feature in patient.features:
        field = by_name[feature.name]
        assert (field["limites"], field["referencia"], field["unidad"]) == (
            feature.limits,
            feature.reference,
            feature.unit,
        )
        assert (field["opciones"], field["etiqueta"], field["grupo"]) == (feature.choices, feature.label, feature.group)


def test_no_field_of_a_disease_is_named_in_a_file_of_the_page() -> None:
    named = re.compile(rf"\b(?:{'|'.join((*DatosPaciente.columns, *DatosPaciente.disease.classes))})\b")
    assert [name for name in FILES if named.search(text(name))] == []
