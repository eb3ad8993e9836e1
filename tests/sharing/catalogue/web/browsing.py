"""A real browser, and what it did while it showed a page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
WIDE, NARROW = 1400, 360


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Of the system: none is downloaded. Skips where there is none."""
    command = next(filter(None, map(shutil.which, COMMANDS)), None)
    if command is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own refuses to run as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=sandbox)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(kw_only=True)
class Visit:
    """One page in a browser of its own."""

    page: Page
    url: str
    """Of the catalogue, with a slash at its end."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Errors that the page's script raised, and what the console says."""

    def show(self, route: str = "") -> None:
        """A route is a new page, as from a link of elsewhere."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}{route}")
        self.page.wait_for_selector("h1")
        self.page.wait_for_selector("[aria-busy]", state="detached")

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()

    @property
    def names(self) -> list[str]:
        """Of the versions in the list, in its order."""
        return self.texts("td.name a")

    @property
    def strangers(self) -> list[str]:
        """Requests to other places than the catalogue's server."""
        own = urlsplit(self.url).netloc
        return [url for url in self.requests if urlsplit(url).scheme not in ("data", "about") and own not in url]

    @property
    def excess_width(self) -> int:
        """By how much the page is wider than the window."""
        excess: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return excess


@contextmanager
def visiting(browser: Browser, url: str, *, width: int = WIDE) -> Iterator[Visit]:
    """Visit a catalogue."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(10_000)
    visit = Visit(page=context.new_page(), url=url)
    visit.page.on("request", lambda request: visit.requests.append(request.url))
    visit.page.on("console", lambda message: visit.complaints.append(message.text))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    try:
        yield visit
    finally:
        context.close()
