"""The documentation is consistent with the repository: settings, targets, links, paths and figures exist."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from bench.suites.field.report import summary
from services.gateway.settings import GatewaySettings
from services.inference.settings import InferenceSettings
from services.recorder.settings import RecorderSettings
from training.settings import TrainingSettings

ROOT = Path(__file__).parent.parent.parent


def _markdown() -> list[Path]:
    """Return the Markdown files of the repository, new ones too, or those of a source archive, which has no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:  # not those of a repository around an archive
        found = {ROOT / name for name in listed.stdout.split("\0") if name}
    else:
        found = {page for page in ROOT.glob("**/*.md") if not _is_made(page.relative_to(ROOT))}
    return sorted(page for page in found if page.exists())


def _is_made(page: Path) -> bool:
    """Whether tools made the file: the environment, `var/`, and caches such as `.pytest_cache`."""
    top = page.parts[0]
    return top == "var" or (top.startswith(".") and top != ".github")


PAGES = _markdown()

PATHS_CHECKED = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/adr").glob("*.md"))]
FOLDERS = {"bench", "chaos", "data", "deploy", "docs", "findings", "services", "shared", "tests", "training"}


def variables() -> dict[str, str]:
    """Each variable that a service or the training reads, with its default as text."""
    return {
        (info.alias or name).upper(): str(info.default.get_secret_value() if name == "database_url" else info.default)
        for kind in (TrainingSettings, RecorderSettings, InferenceSettings, GatewaySettings)
        for name, info in kind.model_fields.items()
    }


def test_env_example_lists_every_setting_with_its_default_and_no_other() -> None:
    listed = re.findall(r"^#([A-Z_]+)=(\S*)", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name: default or "None" for name, default in listed} == variables() | {"PORT": "8000"}


def test_every_make_target_that_is_documented_exists_and_is_in_the_menu() -> None:
    menu = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for target in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert {"run", "test"} <= named <= menu


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_the_python_that_make_has_set_up(page: Path) -> None:
    assert re.findall(r"^python -m .*|.* && .*[ =]python -m .*", page.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_name_an_existing_heading(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*\.md|)#([^)]+)\)", page.read_text())
    assert [link for link in links if link[1] not in anchors(page.parent / link[0] if link[0] else page)] == []


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of `page`, formed as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PATHS_CHECKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_in_the_text_exist(page: Path) -> None:
    words = set(re.findall(r"`([\w./*-]+)`", page.read_text()))
    paths = {word for word in words if word.split("/")[0] in FOLDERS and "NAME" not in word}
    assert {path for path in paths if not any(ROOT.glob(path))} == set()
    bare = {word for word in words if re.fullmatch(r"\w+\.py", word)}
    assert bare <= {"__main__.py", "app.py", "settings.py"}, "write the path from the root of the repository"


def test_the_readme_has_the_last_benchmark_in_at_most_ten_lines() -> None:
    said = summary(json.loads((ROOT / "docs/benchmarks/field.json").read_text()))
    assert said in (ROOT / "README.md").read_text()
    assert sum(line.startswith("|") for line in said.splitlines()) <= 10


@pytest.mark.parametrize("page", ["docs/proof/README.md", "docs/operations/threat-model.md"])
def test_every_test_that_a_promise_rests_on_exists(page: str) -> None:
    named = named_tests((ROOT / page).read_text())
    assert len(named) > 9
    assert [test for file, test in named if f"def {test}(" not in (ROOT / file).read_text()] == []


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return file and name of each test in `text`; a name alone (`::test_x`) is in the file named before it."""
    named: list[tuple[str, str]] = []
    for file, test in re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", text):
        named.append((file or named[-1][0], test))
    return named


def test_every_threat_has_a_defence_and_a_test() -> None:
    page = (ROOT / "docs/operations/threat-model.md").read_text()
    rows = re.findall(r"^\| (?:B\d )?\| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)[1:]
    assert len(rows) > 9
    assert [
        row for row in rows if not (all(row) and re.fullmatch(r"`tests/[^`]+`(, `(tests/|::)[^`]+`)*", row[2]))
    ] == []


def test_every_page_is_in_the_index_of_docs() -> None:
    index = (ROOT / "docs/README.md").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}
    unlisted = {page for page in pages if not page.startswith(("benchmarks/", "proof/")) and f"({page})" not in index}
    assert unlisted == {"README.md"}


def test_every_finding_is_in_the_index_of_findings() -> None:
    scripts = {path.name for path in (ROOT / "findings").iterdir()} - {"README.md"}
    assert scripts == set(re.findall(r"^\| \[([^\]]+)\]", (ROOT / "findings/README.md").read_text(), re.MULTILINE))
