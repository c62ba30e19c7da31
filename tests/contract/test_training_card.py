"""The model card: it shows the figures of the run, and a browser shows it without fetching anything."""

import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from shared.diseases.thyroid import DatosPaciente
from shared.patient import About
from tests.support.builds import good_build, version_of
from tests.support.training_cases import CLASSES, small_parameters
from training.card import render as card
from training.card.render import render
from training.evaluation.subgroups import UNKNOWN
from training.stage_files import Build, Rule

LARGEST = 400 * 1024


class Page(HTMLParser):
    """A parsed page: its tags with their attributes, its words, and the text of its headings."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[str, str]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(content.decode())
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += " "
        if tag not in {"meta", "br", "line", "circle", "polyline"}:
            self._inside.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((tag, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag  # well-formed, so that every browser reads the same

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if "style" in self._inside:
            return
        self.text += data
        if heading := next((tag for tag in self._inside if re.fullmatch("h[1-6]", tag)), None):
            self.headings[-1] = (heading, self.headings[-1][1] + data)


def with_about(build: Build, about: About) -> Build:
    disease = dataclasses.replace(build.preparation.disease, about=about)
    return dataclasses.replace(build, preparation=build.preparation.model_copy(update={"disease": disease}))


@pytest.fixture(scope="module")
def build() -> Build:
    return good_build()


@pytest.fixture(scope="module")
def content(build: Build) -> bytes:
    return render(build, version_of(build))


@pytest.fixture(scope="module")
def page(content: bytes) -> Page:
    return Page(content)


def test_every_figure_is_the_one_in_the_metrics_with_its_interval(build: Build, page: Page) -> None:
    metrics = build.metrics
    for name in ("accuracy", "balanced_accuracy", "coverage", *(f"recall.{code}" for code in CLASSES)):
        low, high = metrics.intervals[name]
        shown = [
            card.share(value).replace("\N{NARROW NO-BREAK SPACE}", " ") for value in (metrics.figures[name], low, high)
        ]
        assert f"{shown[0]} {shown[1]} a {shown[2]}" in page.words.replace("\N{NARROW NO-BREAK SPACE}", " ").replace(
            "(", ""
        )
    for code, row in metrics.confusion.items():
        counts = " ".join(str(count) for count in row.values())
        assert re.search(rf"\d\. {code} {counts} ", page.words)
    for group in metrics.subgroups:
        assert f"{card.band(group.group, 'number')} {group.cases} casos" in page.words


def test_every_item_of_tripod_ai_has_its_heading(page: Page) -> None:
    items = [text.partition("TRIPOD+AI")[2] for tag, text in page.headings if tag == "h2"]
    assert all(items)
    assert {int(item) for text in items for item in re.findall(r"\d+", text)} == set(range(1, 28))


def test_a_browser_fetches_nothing_and_runs_nothing(content: bytes, page: Page) -> None:
    assert len(content) < LARGEST
    assert b"url(" not in content
    assert b"@import" not in content
    assert [tag for tag, _ in page.tags if tag in {"script", "link", "iframe", "object", "img", "form"}] == []
    assert [tag for tag, _ in page.tags].count("style") == 1
    for _, attributes in page.tags:
        assert not [name for name in attributes if name in {"style", "src", "srcset"} or name.startswith("on")]
        assert str(attributes.get("href", "#")).startswith("#")


def test_it_can_be_read_aloud(page: Page) -> None:
    assert ("html", {"lang": "es"}) in page.tags
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    links = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= set(identifiers)
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in page.tags if tag == "th")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "table")
    assert all("role" in attributes or "aria-hidden" in attributes for tag, attributes in page.tags if tag == "svg")
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels[0] == levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_card_states_the_origin_of_the_model(build: Build, page: Page) -> None:
    for expected in (
        "versión 7",
        "run-of-the-test",
        "commit-of-the-test",
        "2024-05-06",
        build.preparation.patient_digest,
    ):
        assert expected in page.words
    assert hashlib.sha256(build.pickled).hexdigest() in page.words
    assert hashlib.sha256(build.onnx).hexdigest() in page.words


def test_the_card_states_when_files_differed_from_the_commit(build: Build, page: Page) -> None:
    assert "con cambios sin confirmar" not in page.words
    dirty = Page(render(build, version_of(build).model_copy(update={"git_dirty": True}))).words
    assert "commit-of-the-test con cambios sin confirmar" in dirty
    assert "da el mismo modelo" not in dirty
    unknown = Page(render(build, version_of(build).model_copy(update={"git_dirty": None}))).words
    assert "commit-of-the-test; no consta si había cambios sin confirmar" in unknown


def test_the_card_states_that_the_code_had_no_commit(build: Build) -> None:
    archive = Page(
        render(build, version_of(build).model_copy(update={"git_commit": "unknown", "git_dirty": None}))
    ).words
    assert "no consta: se entrenó con una copia del código sin su repositorio git" in archive
    assert "sin que conste en qué commit" in archive
    assert "en el commit indicado" not in archive


def test_the_authors_texts_are_shown_and_escaped(build: Build) -> None:
    about = About(purpose="Para <b>orientar</b> & nada más", limits=("Solo <i>adultos</i>",))
    words = render(with_about(build, about), version_of(build))
    assert b"<b>" not in words
    assert "Para <b>orientar</b> & nada más" in Page(words).words
    assert "Solo <i>adultos</i>" in Page(words).words


def test_the_card_marks_undeclared_facts(build: Build, page: Page) -> None:
    undeclared = "no lo ha declarado"
    filled = About(*("texto",) * 1, not_for=("a",), source="b", licence="c", population="d", exclusions="e")
    assert page.words.count(undeclared) == len(dataclasses.fields(About)) - 1  # without a rule, nobody asks for it
    assert Page(render(with_about(build, filled), version_of(build))).words.count(undeclared) == 4


def test_a_rule_is_compared_where_there_is_one(build: Build, page: Page) -> None:
    figures = {"accuracy": 0.6, "balanced_accuracy": 0.5, "recall.sano": 0.97, "precision.sano": 0.83}
    gain = {"accuracy": 0.3, "balanced_accuracy": 0.35}
    intervals = dict.fromkeys(figures, (0.25, 0.75))
    rule = Rule(answers=["sano"], figures=figures, intervals=intervals, gain=gain, gain_intervals=intervals)
    metrics = build.metrics.model_copy(update={"rule": rule})
    about = About(rule="Fiebre: enfermo.")
    words = Page(render(with_about(dataclasses.replace(build, metrics=metrics), about), version_of(build))).words
    assert re.search(r"Una regla sencilla 60,0.% 25,0.% a 75,0.% 50,0.%", words)
    assert re.search(r"Ventaja del modelo sobre la regla 30,0.% 25,0.% a 75,0.% 35,0.%", words)
    assert "La regla: Fiebre: enfermo. Solo conoce 1 de los 3 diagnósticos." in words
    assert re.search(r"sano 9.*? 97,0.% 25,0.% a 75,0.% .* 83,0.% 25,0.% a 75,0.% ", words)
    assert "Una regla sencilla" not in page.words


def test_ours_declares_everything() -> None:
    assert all(dataclasses.astuple(DatosPaciente.disease.about))


def test_the_card_states_how_the_cases_were_split(build: Build, page: Page) -> None:
    assert "Por fecha: se evalúa con los casos desde el 2020-10-01" in page.words
    parameters = build.parameters.model_copy(update={"split": small_parameters(split="random").split})
    words = Page(render(dataclasses.replace(build, parameters=parameters), version_of(build))).words
    assert re.search(r"Al azar: se evalúa con el 25,0.% de los casos de cada diagnóstico", words)
    assert "Por fecha" not in words


def test_a_random_split_is_nowhere_called_later(build: Build, page: Page) -> None:
    assert page.words.count("posteriores") == 3
    parameters = build.parameters.model_copy(update={"split": small_parameters(split="random").split})
    words = Page(render(dataclasses.replace(build, parameters=parameters), version_of(build))).words
    assert "posterior" not in words
    assert words.count("elegidos al azar") == 2


def test_two_cases_are_counted_and_get_no_interval(build: Build) -> None:
    """As of a disease with few patients: two held-out cases of the last class, both right, and three answers of it."""
    metrics = build.metrics
    confusion = {code: dict.fromkeys(CLASSES, 0) | {code: 60} for code in CLASSES[:2]}
    confusion[CLASSES[0]][CLASSES[2]] = 1
    confusion[CLASSES[2]] = dict.fromkeys(CLASSES, 0) | {CLASSES[2]: 2}
    of_it = {f"{kind}.{CLASSES[2]}": 1.0 for kind in ("recall", "average_precision", "roc_auc", "coverage")}
    figures = metrics.figures | of_it | {f"precision.{CLASSES[2]}": 2 / 3}
    intervals = {name: ends for name, ends in metrics.intervals.items() if not name.endswith(f".{CLASSES[2]}")}
    few = metrics.model_copy(update={"confusion": confusion, "figures": figures, "intervals": intervals})
    words = Page(render(dataclasses.replace(build, metrics=few), version_of(build))).words
    none = "muy pocos para un intervalo"
    assert f" 2 de 2 {none} 2 de 3 {none} muy pocos casos muy pocos casos" in words
    assert f" {CLASSES[2]} 2 de 2 {none} Respuestas concluyentes" in words
    assert f"Una cifra de menos de {build.parameters.subgroups.least_cases} casos se da como recuento" in words


def test_the_card_marks_groups_with_too_few_cases(build: Build) -> None:
    [first, *others] = build.metrics.subgroups
    few = first.model_copy(update={"group": UNKNOWN, "cases": 1, "figures": {}, "intervals": {}})
    metrics = build.metrics.model_copy(update={"subgroups": [few, *others]})
    words = Page(render(dataclasses.replace(build, metrics=metrics), version_of(build))).words
    assert "no consta 1 caso muy pocos casos" in words


def test_the_same_run_gives_the_same_card(build: Build, content: bytes) -> None:
    assert render(build, version_of(build)) == content


def test_numbers_and_groups_are_written_in_spanish() -> None:
    assert card.share(0.9287) == "92,9\N{NARROW NO-BREAK SPACE}%"
    assert (card.number(-0.0123), card.number(-0.0001)) == ("\N{MINUS SIGN}0,012", "0,000")
    assert card.whole(12345) == "12\N{NARROW NO-BREAK SPACE}345"
    bands = ["<18", "18-40", "-2.5--1", "0-1000", ">=65", UNKNOWN]
    assert [card.band(group, "number") for group in bands] == [
        "menos de 18",
        "de 18 a menos de 40",
        "de \N{MINUS SIGN}2,5 a menos de \N{MINUS SIGN}1",
        "de 0 a menos de 1000",
        "65 o más",
        "no consta",
    ]
    assert [card.band(option, "choice") for option in ("F", "<18-40", UNKNOWN)] == ["F", "<18-40", "no consta"]
    assert [card.shade(count, 100) for count in (0, 1, 10, 30, 60)] == ["s0", "s1", "s2", "s3", "s4"]
