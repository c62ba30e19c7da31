"""Fixtures of the page's tests: one browser and one server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from shared.diseases.thyroid import DatosPaciente
from tests.support.browser import chromium
from tests.support.builds import good_build, version_of
from tests.support.bundles import make_bundle
from tests.support.processes import Process, running
from tests.support.waiting import until_now
from training.card.render import render


@pytest.fixture(scope="module")  # not longer: while it runs, no test can have an event loop
def browser() -> Iterator[Browser]:
    with chromium() as running_browser:
        yield running_browser


@pytest.fixture(scope="session")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `page_server`."""
    folder = tmp_path_factory.mktemp("page")
    make_bundle(folder / "var", DatosPaciente, card=render(good_build(), version_of(good_build())))
    return folder


@pytest.fixture(scope="session")
def page_server(page_folder: Path) -> Iterator[Process]:
    with running("services.local", page_folder) as process:
        until_now(lambda: process.get("/health/ready").status_code == 200)
        yield process
