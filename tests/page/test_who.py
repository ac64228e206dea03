"""Who did what, and who may do what, on the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from puppetmaster.model.caller import Role, digest
from puppetmaster.model.leadership import Free, Leadership
from tests.page_site import FAILING, Site, a_page, button, ended, open_job, shoot
from tests.web_client import Door, batch, hooks, running

TOKENS = {role: f"pm_the-token-of-{role}" for role in Role}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A bundle without a bus, with a caller of each role, and a job."""
    file = tmp_path / "tokens"
    file.write_text("".join(f"{role}-1 {role} {digest(token)}\n" for role, token in TOKENS.items()))
    with running(tmp_path / "data", tokens=str(file)) as started:
        started.ask("POST", "/jobs", batch("a"), Authorization=f"Bearer {TOKENS[Role.OPERATOR]}")
        yield started


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Door]:
    """A bundle without a bus, with a webhook ``ops``."""
    with running(tmp_path / "data", webhooks=hooks(tmp_path)) as started:
        yield started


def test_who_leads_is_said_where_more_than_one_may(
    browser: Browser, telling: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead = Leadership("puppetmaster host:2 b", 2, 0, Free.STOPPED, None, 4.5, sure=True)
    with a_page(browser) as page:
        page.goto(f"http://127.0.0.1:{telling.port}/")
        expect(page.locator("#link")).to_contain_text("the broker cannot be reached")
        expect(page.locator("#leader")).to_be_hidden()
        monkeypatch.setattr(telling.app.store, "leadership", lambda: lead)
        page.reload()
        expect(page.locator("#leader")).to_contain_text("leader 2 since 1 Jan 1970")
        about = "puppetmaster host:2 b, since 1970-01-01 00:00:00.000 UTC: the leader before has stopped."
        expect(page.locator("#leader")).to_have_attribute("title", about)


def at(page: Page, door: Door, role: Role, where: str) -> None:
    page.goto(f"http://127.0.0.1:{door.port}/#/{where}")
    page.locator("#token").fill(TOKENS[role])
    button(page, "Go on").click()


def test_the_time_line_says_what_happened_and_who_did_it(page: Page, site: Site) -> None:
    id_ = site.job("/system/fail", FAILING[:3], "post", waves=[1], gate={"errors": 0})
    open_job(page, site, id_)
    button(page, "Next wave").click()
    button(page, "Open the gate").click()
    ended(page, "resolved")
    page.get_by_role("tab", name="Time line").click()
    lines = page.locator(".tabpanel:visible .events > li")
    expect(lines).to_have_count(6)
    said = [
        "Created by http",
        "Started: its first request was sent",
        "The gate behind wave 1 closed",
        "Resumed by http",
        "Wave 2 opened by http",
        "Ended: resolved",
    ]
    for place, words in enumerate(said):
        expect(lines.nth(place)).to_contain_text(words)
    expect(lines.nth(2)).to_contain_text("Wave 1 failed its gate")
    shoot(page, "time-line")
    page.reload()
    expect(lines).to_have_count(6)


def test_the_time_line_goes_on_while_it_is_looked_at(page: Page, site: Site) -> None:
    id_ = site.job("/system/time", ["cg-180"])
    page.goto(f"{site.url}#/jobs/{id_}/timeline")
    lines = page.locator(".tabpanel:visible .events > li")
    expect(lines).to_have_count(2)
    button(page, "Pause").click()
    expect(lines).to_have_count(3)
    expect(lines.nth(2)).to_contain_text("Paused by http")
    button(page, "Force to end").click()
    page.get_by_role("dialog").get_by_role("button", name="Force to end").click()
    expect(lines).to_have_count(5)


def test_a_viewer_finds_all_that_changes_something_disabled_and_told_why(
    browser: Browser, door: Door
) -> None:
    with a_page(browser) as page:
        at(page, door, Role.VIEWER, "jobs/1")
        why = "This needs the role operator, and viewer-1 has the role viewer."
        for name in ("Pause", "Cancel"):
            expect(button(page, name)).to_be_disabled()
            expect(button(page, name)).to_have_attribute("title", why)
        expect(button(page, "Delete")).to_have_attribute("title", why.replace("operator", "admin"))
        expect(button(page, "Export as JSON")).to_be_enabled()
        expect(page.get_by_text("by operator-1").first).to_be_visible()
        page.goto(f"http://127.0.0.1:{door.port}/#/gateways/a")
        expect(button(page, "Save labels and note")).to_have_attribute("title", why)
        expect(button(page, "Check now")).to_be_enabled()
        page.goto(f"http://127.0.0.1:{door.port}/#/new")
        expect(page.get_by_text(why)).to_be_visible()
        expect(page.get_by_role("textbox")).to_have_count(0)
        shoot(page, "viewer")
        page.reload()
        expect(page.get_by_text(why)).to_be_visible()


def test_an_operator_may_all_but_delete(browser: Browser, door: Door) -> None:
    with a_page(browser) as page:
        at(page, door, Role.OPERATOR, "jobs/1")
        expect(button(page, "Delete")).to_be_disabled()
        button(page, "Pause").click()
        expect(button(page, "Resume")).to_be_enabled()
        page.goto(f"http://127.0.0.1:{door.port}/#/new")
        expect(page.get_by_role("textbox").first).to_be_visible()


def test_an_admin_may_all(browser: Browser, door: Door) -> None:
    with a_page(browser) as page:
        at(page, door, Role.ADMIN, "jobs/1")
        expect(button(page, "Delete")).to_be_enabled()


def test_a_job_says_whom_it_tells(browser: Browser, telling: Door) -> None:
    telling.ask("POST", "/jobs", batch("a", notify=["ops"]))
    with a_page(browser) as page:
        page.goto(f"http://127.0.0.1:{telling.port}/#/new?job=1")
        expect(page.locator("[name=notify]")).to_have_value("ops")
        page.goto(f"http://127.0.0.1:{telling.port}/#/jobs/1")
        expect(page.locator(".about")).to_contain_text("Tells")
        expect(page.locator(".about")).to_contain_text("ops")
