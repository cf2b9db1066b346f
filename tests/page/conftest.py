"""One library and one browser for all tests of the page; both end with them, since Playwright keeps an event loop running in its thread."""

from collections.abc import Iterator

import pytest
from bench._browser import CHROMIUM
from playwright.sync_api import Browser, Page, sync_playwright

from embedrl.server.run import index_beside, make_service
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner
from tests.page.browser import LOOKS, TIMEOUT_MS, Look, ServedIndex, opened, settled
from tests.served import Served, fill, running
from tests.world_library import KnowingReasoner, make_library


@pytest.fixture(scope="package")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedIndex]:
    """A served library with a Reasoner before and one after training: colours only, and the truth."""
    files = tmp_path_factory.mktemp("page") / "files"
    truths = make_library(files)
    embedder, hasty, knowing = FakeEmbedder(), FakeReasoner("hasty"), KnowingReasoner(truths)
    fill(files, knowing, embedder)
    indexes = {"after": (files, "knowing", knowing), "before": (index_beside(files, (), hasty, embedder), "hasty", hasty)}
    service = make_service(Settings(port=0), indexes, embedder, "fake")
    with running(service) as url:
        server = Served(service, url, files, knowing, embedder)
        with server.client:
            yield server, truths


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=TIMEOUT_MS)
        yield browser
        browser.close()


@pytest.fixture(params=LOOKS, ids=str)
def look(request: pytest.FixtureRequest) -> Look:
    """Screens that behaviour is tested on; `test_page_look.py` holds each state at each width, in each scheme, to the rules."""
    return LOOKS[request.param]


@pytest.fixture
def page(browser: Browser, library: ServedIndex, look: Look) -> Iterator[Page]:
    """The page, opened. A complaint of the browser (an error, a broken policy, a request to elsewhere) fails the test."""
    with opened(browser, library[0].url, **look) as page:
        settled(page)
        yield page
