"""What the address says, Back and Forward, keys, and the ways on which the page may lie."""

import json
import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.desk import until
from tests.page_site import (
    CHECK_S,
    FAILING,
    GOOD,
    SILENT,
    Site,
    a_page,
    button,
    ended,
    item,
    later,
    nameless,
    open_job,
    row,
    shoot,
)
from tests.web_proxy import WebProxy

# -- addresses -------------------------------------------------------------------------------------


def test_a_request_has_an_address_and_back_closes_it(page: Page, site: Site) -> None:
    id_ = site.job("/system/info", [*GOOD[:3], *FAILING[:2]])
    first = site.ask("GET", f"/jobs/{id_}?collection=false")["requests"][0]
    drawer = page.get_by_role("dialog")
    open_job(page, site, id_, "resolved, with failures")
    button(page, "2 error").click()
    page.get_by_role("tab", name="Gateways").click()
    page.get_by_role("tab", name="Requests").click()
    row(page, "cg-101").click()
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}?status=error&request={first + 3}")
    button(page, "Next").click()
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}?status=error&request={first + 4}")
    page.go_back()
    expect(drawer).to_have_count(0)
    expect(page.get_by_role("grid")).to_be_focused()
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}?status=error")
    page.go_forward()
    expect(drawer.get_by_role("heading", level=2)).to_have_text("cg-102")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}?status=error")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    expect(drawer).to_have_count(0)


#: Close the drawer, and open the row above before Back has taken the request out of the address.
AT_ONCE = """(when) => {
  const grid = document.querySelector('[role=grid].scroller');
  const enter = () => {
    for (const key of ['ArrowUp', 'Enter']) grid.dispatchEvent(new KeyboardEvent('keydown', { key }));
  };
  const drawer = document.querySelector('dialog.drawer');
  if (when === 'it was closed') drawer.addEventListener('close', enter);
  drawer.close();
  if (when === 'it is being closed') enter();
}"""


@pytest.mark.parametrize("when", ["it is being closed", "it was closed"])
def test_a_request_is_opened_at_once_after_another(page: Page, site: Site, when: str) -> None:
    id_ = site.job("/system/info", GOOD[:3])
    first = site.ask("GET", f"/jobs/{id_}?collection=false")["requests"][0]
    open_job(page, site, id_, "resolved")
    row(page, GOOD[1]).click()
    drawer = page.get_by_role("dialog")
    expect(drawer.get_by_role("heading", level=2)).to_have_text(GOOD[1])
    page.evaluate(AT_ONCE, when)
    expect(drawer.get_by_role("heading", level=2)).to_have_text(GOOD[0])
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}?request={first}")
    page.go_back()
    expect(drawer).to_have_count(0)
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}")


def test_an_address_of_a_request_opens_it(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/info", GOOD[:3])
    first = site.ask("GET", f"/jobs/{id_}?collection=false")["requests"][0]
    with a_page(browser) as page:
        page.goto(f"{site.url}#/jobs/{id_}/results?request={first + 1}")
        drawer = page.get_by_role("dialog")
        expect(drawer.get_by_role("heading", level=2)).to_have_text("cg-002")
        page.keyboard.press("Escape")
        # There is nothing of this page to go back to.
        expect(page).to_have_url(f"{site.url}#/jobs/{id_}/results")
        expect(page.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")
        page.goto(f"{site.url}#/jobs/{id_}?request=7")
        expect(page.get_by_role("alert")).to_contain_text("There is no request 7 in this job.")
        expect(page).to_have_url(f"{site.url}#/jobs/{id_}")


def test_back_and_forward_inside_a_job_show_the_tab_and_the_filter_that_were(page: Page, site: Site) -> None:
    id_ = site.job("/system/info", [*GOOD[:3], *FAILING[:2]])
    open_job(page, site, id_, "resolved, with failures")
    page.goto(f"{site.url}#/jobs/{id_}/results")
    expect(page.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")
    page.goto(f"{site.url}#/jobs/{id_}?status=error&text=purpose")
    expect(page.locator(".found")).to_have_text("2 of 5 requests")
    page.go_back()
    expect(page.get_by_role("tab", name="Results")).to_have_attribute("aria-selected", "true")
    page.go_forward()
    expect(page.locator(".found")).to_have_text("2 of 5 requests")
    expect(page.get_by_label(re.compile("^Filter requests"))).to_have_value("purpose")
    expect(button(page, "2 error")).to_have_attribute("aria-pressed", "true")
    page.go_back()
    page.go_back()
    expect(page.locator(".found")).to_have_text("5 requests")
    expect(button(page, "2 error")).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(
    "address", ["nowhere", "jobs/first", "jobs/0", "jobs/1/nothing", "jobs/1/results/2", "new/thing"]
)
def test_an_unknown_address_says_so(page: Page, site: Site, address: str) -> None:
    page.goto(f"{site.url}#/{address}")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page.")
    expect(page.locator("main")).to_contain_text(f"Nothing is at #/{address}.")
    expect(page.locator("#link")).to_have_text("connected")
    page.get_by_role("link", name="To the list of jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")


def test_a_job_s_data_and_what_was_sent_are_read_on_the_page(page: Page, site: Site) -> None:
    notes = [("<b>", GOOD[30:35]), ("<b>", ["cg-lost"]), ("other", GOOD[35:36])]
    batch = [item("put", "/system/note", to, data={"note": note}) for note, to in notes]
    id_ = site.ask("POST", "/jobs", {"batch": batch, "name": "notes", "concurrency": 3})["id"]
    page.goto(f"{site.url}#/jobs/{id_}/data")
    ended(page, "resolved, with failures")
    commands = page.locator(".data section")
    expect(commands).to_have_count(2)
    expect(commands.first).to_contain_text("PUT /system/note6 requests to cg-[031-035]cg-lost")
    expect(commands.first.get_by_label("Data of PUT /system/note")).to_have_text(
        re.compile(r'^\{\s+"note": "<b>"\s+\}$')
    )
    shown = json.loads(page.get_by_label("The job as JSON").inner_text())
    told = site.ask("GET", f"/jobs/{id_}?limit=0")
    assert shown == {name: value for name, value in told.items() if name not in ("requests", "collection")}
    button(page, "Copy as JSON").click()
    expect(button(page, "Copied")).to_be_focused()
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == shown
    assert nameless(page) == []
    shoot(page, "data")


def test_names_are_folded_as_they_are_spread(page: Page) -> None:
    lists = [
        ["cg-001", "cg-002", "cg-003"],
        ["cg-9", "cg-10", "cg-11"],
        ["b", "a", "a-2-x", "a-3-x"],
        ["00:0c:29", "00:0c:2a"],
        ["1", "2", "4"],
        [],
    ]
    folded = page.evaluate(
        "async (all) => { const {fold} = await import('/static/ranges.js'); return all.map(fold); }", lists
    )
    assert folded == [
        ["cg-[001-003]"],
        ["cg-[10-11]", "cg-9"],
        ["a", "a-[2-3]-x", "b"],
        ["00:0c:29", "00:0c:2a"],
        ["[1-2]", "4"],
        [],
    ]


# -- keys ------------------------------------------------------------------------------------------


def test_the_keys_are_told(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_label("Resource").press("?")
    expect(page.get_by_label("Resource")).to_have_value("?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    button(page, "Keys").focus()
    for key in ("?", "Enter"):
        page.keyboard.press(key)
        help_ = page.get_by_role("dialog", name="Keys")
        expect(help_).to_contain_text("/to the filter")
        expect(help_).to_contain_text("Escclose it")
        shoot(page, "keys")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(button(page, "Keys")).to_be_focused()


def test_a_job_is_handled_with_keys_alone(page: Page, site: Site) -> None:
    id_ = site.job("/system/info", [*SILENT[:1], *GOOD[:4]], concurrency=1, requestTimeout=60)
    open_job(page, site, id_)
    expect(button(page, "1 sent")).to_be_visible()
    reached: list[str] = []
    page.locator("main").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent")
        )
    for name in ("Pause", "Resume", "Cancel", "Re-run failed", "Export as JSON", "Force to end", "Delete"):
        assert reached.count(name) >= 1, reached
    page.get_by_role("grid").press("Enter")
    drawer = page.get_by_role("dialog")
    expect(drawer.get_by_role("heading", level=2)).to_have_text(SILENT[0])
    page.keyboard.press("ArrowRight")
    expect(drawer.get_by_role("heading", level=2)).to_have_text("cg-001")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(drawer.get_by_role("heading", level=2)).to_have_text(SILENT[0])
    drawer.get_by_title("Copy the name").focus()
    page.keyboard.press("ArrowRight")  # what has the focus is drawn anew
    page.keyboard.press("ArrowRight")
    expect(drawer.get_by_role("heading", level=2)).to_have_text("cg-002")
    page.keyboard.press("Escape")
    site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})
    ended(page, "canceled")


# -- ways ------------------------------------------------------------------------------------------


def test_the_page_works_below_a_path(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/time", GOOD[:2])
    with WebProxy(site.port, "/gateways/puppet") as proxy, a_page(browser, accept_downloads=True) as page:
        page.goto(proxy.url)
        expect(page.locator("#link")).to_have_text("connected")
        assert page.locator(".brand img").evaluate("(one) => one.naturalWidth > 0")
        page.goto(f"{proxy.url}#/jobs/{id_}")
        ended(page, "resolved")
        for tab in ("Results", "Data"):
            page.get_by_role("tab", name=tab).click()
        with page.expect_download():
            button(page, "Export as JSON").click()
        page.goto(f"{proxy.url}#/new")
        expect(page.locator("#requestTimeout-hint, [name=requestTimeout]").first).to_have_count(1)
        # What is asked for outside of the path would have ended the proxy's connection with an error.
        for asked in ("GET /jobs/ws", f"GET /jobs/{id_}/ws?collection=true", "GET /openapi.json"):
            assert asked in proxy.passed


def test_without_a_websocket_the_page_says_why_and_asks(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/info", [*SILENT[:1], *GOOD[:3]], requestTimeout=60, name="polled")
    with WebProxy(site.port, websockets=False) as proxy, a_page(browser) as page:
        page.clock.install()
        page.goto(f"{proxy.url}#/jobs/{id_}")
        expect(button(page, "3 resolved")).to_be_visible()
        expect(row(page, "cg-003")).to_contain_text("resolved")
        said = page.locator("#link")
        expect(said).to_have_text("connected; no WebSocket gets through: asks every 3 s")
        expect(said).to_have_attribute("title", re.compile("Some proxies do not pass WebSockets on"))
        shoot(page, "polled")
        button(page, "Pause").click()
        until(lambda: site.ask("GET", f"/jobs/{id_}")["status"] == "paused", "it is paused")
        later(page, CHECK_S)
        expect(page.locator(".job-head .badge")).to_have_text("paused")
        page.goto(f"{proxy.url}#/")
        card = page.get_by_role("listitem").filter(has_text="polled")
        expect(card).to_contain_text("paused")
        site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})
        later(page, CHECK_S)
        expect(card).to_contain_text("canceled")
        # As soon as one is passed on it is used again.
        proxy.websockets = True
        page.goto(f"{proxy.url}#/jobs/{id_}")
        expect(said).to_have_text("connected")
        site.ask("DELETE", f"/jobs/{id_}")
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Job {id_} was deleted.")
        proxy.websockets = False
        page.goto(f"{proxy.url}#/jobs/{id_ + 1000}")
        expect(page.get_by_role("heading", level=1)).to_have_text(f"There is no job {id_ + 1000}.")


def test_a_job_that_cannot_be_loaded_says_why(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/time", GOOD[:1])
    with WebProxy(site.port) as proxy, a_page(browser) as page:
        page.goto(proxy.url)
        expect(page.locator("#link")).to_have_text("connected")
        proxy.hold()
        page.evaluate("(id) => { location.hash = `#/jobs/${id}`; }", id_)
        expect(page.locator(".empty")).to_have_text(re.compile(r"^Nothing can be loaded now\. "))
        proxy.release()
        ended(page, "resolved")
