"""What the tests of the page share: a browser, a gateway with the demo's fleet, and screenshots."""

import json
import re
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, FloatRect, Locator, Page, expect, sync_playwright

from puppetmaster import ranges
from sandbox.demo import FLEET
from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests.conftest import needed
from tests.desk import until

#: Debian's chromium. The headless shell has no windows of its own, which cost more than the pages do.
WHOLE = Path("/usr/bin/chromium")
BROWSERS = (Path("/usr/bin/chromium-headless-shell"), WHOLE)
#: The page asks so often how the gateway is, and reads so often anew what no WebSocket tells of.
CHECK_S, AGAIN_S = 3, 10
SCREENSHOTS = Path(__file__).parent.parent / "test-output" / "screenshots"
#: A slow machine is not a fault of the page.
PATIENCE_MS = 15_000
WIDE = {"width": 1280, "height": 860}
NARROW = {"width": 360, "height": 740}
#: Gateways of the demo's fleet: those that never answer, some that do, some that fail.
SILENT = ranges.expand("cg-[180-183]")
GOOD = ranges.expand("cg-[001-040]")
FAILING = ranges.expand("cg-[101-108]")
ATTACK = "<img src=x onerror=\"document.title='attacked'\">"

expect.set_options(timeout=PATIENCE_MS)


def require_chromium() -> None:
    """Skip where Debian's chromium is not installed; in CI fail instead."""
    needed(any(map(Path.exists, BROWSERS)), "chromium-headless-shell")


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        program = next(filter(Path.exists, BROWSERS))
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@contextmanager
def a_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page of a context of its own. In the end it must not have complained about anything."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: _note(message.type, message.text, complaints))
    yield page
    context.close()
    assert not complaints, complaints


def _note(kind: str, text: str, complaints: list[str]) -> None:
    # What the network refuses is written there too; tests that provoke it look at the page instead.
    network = ("net::ERR", "Failed to load resource", "WebSocket connection to")
    if kind in ("error", "warning") and not any(one in text for one in network):
        complaints.append(text)


class Site:
    """A gateway of the sandbox with the demo's fleet, and its API."""

    def __init__(self, directory: Path, fleet: Sequence[str] = FLEET) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.gateway = Gateway(
            directory, fleet=fleet, settings={"PUPPETMASTER_HTTP": f"127.0.0.1:{self.port}"}
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path.removeprefix('/')}", data, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def ended(self, id_: int) -> None:
        """Return when this job has ended."""
        until(lambda: self.ask("GET", f"/jobs/{id_}?collection=false")["finishedAt"], f"job {id_} ends")

    def job(self, resource: str, to: Sequence[str], method: str = "get", **more: Any) -> int:
        """The id of a new job of one item; ``data`` is the item's, all else the job's."""
        command = item(method, resource, list(to))
        if "data" in more:
            command["data"] = more.pop("data")
        return int(self.ask("POST", "/jobs", {**more, "batch": [command]})["id"])


def item(method: str, resource: str, to: object, **more: Any) -> dict[str, Any]:
    """An item of a batch, for these destinations."""
    return {"method": method, "resource": resource, "__request": {"destination": to}, **more}


def later(page: Page, seconds: int) -> None:
    """Let so much time pass at once on a page whose clock was installed before it was loaded."""
    page.clock.run_for(1000 * seconds)


def button(page: Page, name: str | re.Pattern[str]) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def row(page: Page, text: str) -> Locator:
    return page.locator(".space .row:not([hidden])", has_text=text)


def open_job(page: Page, site: Site, id_: int, status: str = "") -> None:
    """Show a job, and wait until it has this status, if one is named."""
    page.goto(f"{site.url}#/jobs/{id_}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    if status:
        ended(page, status)


def box(seen: Locator) -> FloatRect:
    """Where it is on the page."""
    found = seen.bounding_box()
    assert found
    return found


def cancel(page: Page) -> None:
    """Cancel the job that is shown, and say that it is meant."""
    button(page, "Cancel").click()
    button(page, "Cancel the job").click()


def ended(page: Page, status: str) -> None:
    expect(page.locator(".job-head .badge")).to_contain_text(status)


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot as test output."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def nameless(page: Page) -> list[str]:
    """The controls that a screen reader would find without a name."""
    roles = {"button", "link", "textbox", "searchbox", "combobox", "radio", "tab", "grid", "img", "dialog"}
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")
    found = []
    for node in tree["nodes"]:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in roles and not node.get("name", {}).get("value"):
            found.append(role)
    return found


def too_wide(page: Page) -> bool:
    """Whether one must scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
