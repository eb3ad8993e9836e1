"""A browser, and catalogues for it to visit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.servers.web import serving
from tests.sharing.catalogue.web.browsing import Visit, running_chromium, visiting
from tests.sharing.catalogue.web.catalogues import (
    PETS,
    TAGS,
    VERSIONS,
    write_about,
    write_card,
    write_catalogue,
    write_figures,
    write_signature,
)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def catalogue_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a catalogue below a server's root, where one version has all that may lie beside it."""
    root = tmp_path_factory.mktemp("site")
    write_catalogue(root / "labels", VERSIONS, TAGS)
    write_card(root / "labels", PETS)
    write_figures(root / "labels", PETS)
    write_about(root / "labels", PETS)
    write_signature(root / "labels", PETS)
    with serving(root) as server:
        yield f"{server}/labels/"


@pytest.fixture
def visit(browser: Browser, catalogue_url: str) -> Iterator[Visit]:
    with visiting(browser, catalogue_url) as visit:
        yield visit


@pytest.fixture
def site(tmp_path: Path, browser: Browser) -> Iterator[Visit]:
    """Of what a test writes to its own folder."""
    with serving(tmp_path) as server, visiting(browser, f"{server}/") as visit:
        yield visit
