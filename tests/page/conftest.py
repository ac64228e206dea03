"""A browser, the demo's site, and a page of it that is open."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.page_site import Site, a_browser, a_page, require_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_chromium()
    with a_browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    started = Site(tmp_path_factory.mktemp("page"))
    with started.gateway:
        yield started


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with a_page(browser, accept_downloads=True, permissions=["clipboard-read", "clipboard-write"]) as opened:
        opened.goto(site.url)
        yield opened
