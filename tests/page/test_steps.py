"""A job that gives each gateway several requests in an order, in a real browser: a row for each gateway."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.page_site import (
    FAILING,
    GOOD,
    SILENT,
    Site,
    a_page,
    box,
    button,
    cancel,
    ended,
    item,
    nameless,
    open_job,
    row,
    shoot,
    too_wide,
)

#: A table of many gateways with three steps each, in the order of the batch; ``go`` lets some requests go on.
MANY = """async (count) => {
  const { Rows } = await import('/static/rows.js');
  const { Table } = await import('/static/table.js');
  const made = (id, status) => ({ id, method: 'put', resource: `/step${Math.ceil(id / count)}`, __request: {
    destination: `cg-${String((id - 1) % count + 1).padStart(5, '0')}`, status, attempts: 1, result: {},
    sentAt: null, finishedAt: null } });
  const ids = Array.from({ length: 3 * count }, (_, index) => index + 1);
  const rows = new Rows();
  rows.of({ onFail: 'stop' });
  const table = new Table(rows, (id) => { window.opened_ = id; }, () => {});
  window.rows_ = rows;
  window.put = (status, ...some) => rows.put(some.map((id) => made(id, status)), true);
  window.go = (status, ...some) => { put(status, ...some); table.draw(); };
  rows.clear(ids);
  for (let at = 0; at < ids.length; at += 2000) {
    rows.put(ids.slice(at, at + 2000).map((id) => made(id, 'pending')), false);
    table.draw();
  }
  document.getElementById('main').replaceChildren(table.element);
  table.draw();
}"""
#: Milliseconds of the median draw while a few hundred requests change before each.
DRAWN = """() => {
  const took = [];
  for (let turn = 0; turn < 30; turn += 1) {
    const some = Array.from({ length: 300 }, (_, at) => 1 + (turn * 331 + at * 97) % rows_.items.length);
    const from = performance.now();
    go('resolved', ...some);
    took.push(performance.now() - from);
  }
  return took.sort((a, b) => a - b)[15];
}"""

#: Too long for the controller, which drops it without a word.
LONG = "/system/log?bytes=1100000"


def update(site: Site, to: Sequence[str], mute: Sequence[str] = (), **more: Any) -> int:
    """The id of a job that looks, installs and restarts; those that are ``mute`` do not answer the second."""
    batch = [
        item("get", "/system/time", to),
        item("put", "/system/firmware", [one for one in to if one not in mute]),
        *([item("get", LONG, mute)] if mute else []),
        item("post", "/system/reboot", to),
    ]
    given = {"onFail": "stop", "requestTimeout": 2, **more}
    return int(site.ask("POST", "/jobs", {"batch": batch, **given})["id"])


def marks(page: Page, gateway: str) -> list[str | None]:
    return [one.get_attribute("title") for one in row(page, gateway).locator(".mark").all()]


def test_a_gateway_is_a_row_with_its_steps(page: Page, site: Site) -> None:
    id_ = update(site, [*GOOD[:4], FAILING[0], *GOOD[4:6]], [GOOD[4]], name="firmware 7.2")
    open_job(page, site, id_, "resolved, with failures")
    rows = page.locator(".space .row:not([hidden])")
    names = [FAILING[0], GOOD[4], *GOOD[:4], GOOD[5]]
    expect(rows.locator(".c-destination")).to_have_text(names)
    expect(page.locator(".found")).to_have_text("7 gateways")
    assert marks(page, FAILING[0]) == [
        "Step 1 of 3, GET /system/time: error",
        "Step 2 of 3, PUT /system/firmware: skipped",
        "Step 3 of 3, POST /system/reboot: skipped",
    ]
    late = row(page, GOOD[4])
    expect(late.locator(".mark")).to_have_text(["1", "2", "3"])
    expect(late.locator(".mark.decides")).to_have_attribute("title", f"Step 2 of 3, GET {LONG}: timeout")
    expect(late.locator(".c-result")).to_have_text(
        re.compile(f"^GET {re.escape(LONG)}: 408 no answer within")
    )
    expect(row(page, GOOD[0]).locator(".mark.decides")).to_have_text("3")
    expect(row(page, GOOD[0]).locator(".c-duration")).to_have_text(re.compile("s$"))
    assert nameless(page) == []
    page.get_by_role("columnheader", name="Destination").get_by_role("button").click()
    expect(rows.locator(".c-destination")).to_have_text([*GOOD[:6], FAILING[0]])
    page.get_by_label("Sort by").select_option("In order of creation")
    expect(rows.locator(".c-destination")).to_have_text([*GOOD[:4], FAILING[0], *GOOD[4:6]])


def test_a_mark_opens_its_request(page: Page, site: Site) -> None:
    id_ = update(site, GOOD[:3])
    open_job(page, site, id_, "resolved")
    row(page, GOOD[1]).locator(".mark").nth(1).click()
    drawer = page.get_by_role("dialog")
    expect(drawer.locator(".command")).to_have_text("PUT /system/firmware")
    expect(page).to_have_url(re.compile(r"request=\d+$"))
    button(page, "Next").click()  # the next step of the same gateway, and then the next gateway
    expect(drawer.locator(".command")).to_have_text("POST /system/reboot")
    expect(drawer.locator("h2")).to_contain_text(GOOD[1])
    button(page, "Next").click()
    expect(drawer.locator("h2")).to_contain_text(GOOD[2])
    expect(drawer.locator(".command")).to_have_text("GET /system/time")
    page.keyboard.press("Escape")
    page.get_by_role("grid").press("Enter")
    expect(drawer.locator(".command")).to_have_text("POST /system/reboot")


def test_a_status_finds_the_gateways_that_have_it(page: Page, site: Site) -> None:
    id_ = update(site, [*GOOD[:5], *FAILING[:2]])
    open_job(page, site, id_, "resolved, with failures")
    button(page, "4 skipped").click()
    expect(page.locator(".found")).to_have_text("2 of 7 gateways")
    expect(row(page, FAILING[0]).locator(".mark")).to_have_count(3)
    button(page, "4 skipped").click()
    page.locator("[data-filter]").fill(GOOD[2])
    expect(page.locator(".found")).to_have_text("1 of 7 gateways")
    page.locator("[data-filter]").fill("nobody")
    expect(page.locator(".table .empty")).to_have_text("No gateway fits the filter.")


def test_the_map_has_a_cell_for_each_gateway(page: Page, site: Site) -> None:
    id_ = update(site, [*GOOD[:3], FAILING[0]], [GOOD[2]])
    page.goto(f"{site.url}#/jobs/{id_}/gateways")
    ended(page, "resolved, with failures")
    cells = page.locator(".cells")
    expect(page.locator(".legend li")).to_have_text(
        ["resolved", "error", "timeout"]
    )  # nothing that was only skipped
    cells.press("End")
    expect(page.locator(".caption")).to_contain_text(
        f"{FAILING[0]}: error, step 1 of 3, GET /system/time  500"
    )
    cells.press("ArrowLeft")
    expect(page.locator(".caption")).to_contain_text(f"{GOOD[2]}: timeout, step 2 of 3, GET {LONG}  408")
    cells.press("ArrowLeft")
    cells.press("ArrowLeft")
    expect(page.locator(".caption")).to_contain_text(f"{GOOD[0]}: resolved")


def test_results_stand_below_their_command(page: Page, site: Site) -> None:
    """Also when each gateway says its own name: that is a line of this command alone."""
    to = [*GOOD[:14], *FAILING[:2]]
    batch = [item("get", "/system/info", to), item("put", "/system/firmware", to)]
    id_ = int(site.ask("POST", "/jobs", {"batch": batch, "onFail": "stop"})["id"])
    page.goto(f"{site.url}#/jobs/{id_}/results")
    ended(page, "resolved, with failures")
    below = page.locator(".results > :is(h3, details)")
    expect(below).to_have_text(
        [
            "GET /system/info",
            re.compile("^2error500fails on purpose"),
            re.compile("^14results that one gateway alone had"),
            "PUT /system/firmware",
            re.compile("^14resolved200{}"),
            re.compile("^2skippednot sent: request"),
        ]
    )


def test_waves_and_gates_count_gateways(page: Page, site: Site) -> None:
    to = [*GOOD[:3], FAILING[0], *GOOD[3:11]]
    id_ = update(site, to, waves=[4, "100%"], gate={"errors": 0})
    open_job(page, site, id_)
    expect(page.locator(".gate")).to_have_text("closed0 may fail")
    expect(page.locator(".wave").first).to_have_text("Wave 14 gateways1 failed")
    expect(page.locator(".wave").last).to_have_text("Wave 28 gatewayswaits")
    expect(page.locator(".verdict")).to_contain_text("1 of 4 gateways failed")
    expect(page.locator(".gate")).to_have_attribute("title", re.compile("none of the wave's gateways failed"))
    expect(page.locator(".about")).to_contain_text("Requests of a gatewayone after the other")
    button(page, "Next wave").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"Failed in wave 11 of 4 gateways: 1 error{FAILING[0]}")
    expect(dialog).to_contain_text("Wave 2 reaches8 gateways")
    button(page, "Open the gate").click()
    ended(page, "resolved, with failures")
    expect(page.locator(".gate")).to_have_text(re.compile("^opened by hand over 1 gateway that failed"))
    expect(page.locator(".about")).to_contain_text("opened by hand over 1 gateway that failed, ")
    expect(page.locator(".verdict")).to_have_text("33 of 36 requests resolved, 1 of 12 gateways failed.")
    (gate,) = site.ask("GET", f"/jobs/{id_}")["openedGates"]
    assert gate["failed"] == 1


def test_waves_count_gateways_where_gates_count_requests(page: Page, site: Site) -> None:
    """Without ``onFail`` all three requests of a gateway fail, and the gate counts each."""
    to = [FAILING[0], *GOOD[:3]]
    id_ = update(site, to, waves=[2, "100%"], gate={"errors": "50%"}, onFail="continue")
    open_job(page, site, id_, "resolved, with failures")
    expect(page.locator(".wave").first).to_have_text("Wave 12 gateways3 requests failed")
    expect(page.locator(".gate")).to_have_text("passed3 requests may fail (50%)")
    expect(page.locator(".found")).to_have_text("4 gateways")
    expect(page.locator(".verdict")).to_have_text("9 of 12 requests resolved, 3 failed.")


def test_a_batch_in_no_order_stays_a_row_a_request(page: Page, site: Site) -> None:
    id_ = update(site, GOOD[:2], onFail="continue")
    open_job(page, site, id_, "resolved")
    expect(page.locator(".found")).to_have_text("6 requests")
    expect(page.get_by_role("columnheader", name="Status")).to_be_visible()
    expect(page.locator(".mark")).to_have_count(0)


def test_many_steps_show_those_around_the_one_that_decides(page: Page, site: Site) -> None:
    batch = [item("get", LONG if number == 5 else f"/step{number}", GOOD[:1]) for number in range(9)]
    given = {"onFail": "stop", "requestTimeout": 2}
    id_ = int(site.ask("POST", "/jobs", {"batch": batch, **given})["id"])
    open_job(page, site, id_, "resolved, with failures")
    expect(row(page, GOOD[0]).locator(".c-status")).to_have_text("…45678…")
    expect(page.locator(".mark.decides")).to_have_text("6")


def test_thirty_thousand_steps_are_drawn_in_a_moment(page: Page, site: Site) -> None:
    page.evaluate(MANY, 10_000)
    expect(page.locator(".scroller")).to_have_attribute("aria-rowcount", "10001")
    assert page.locator(".space .row").count() < 60
    assert page.locator(".mark").count() < 200
    page.evaluate("go('error', 20001 + 4999)")
    first = page.locator("[aria-rowindex='2']")
    expect(first.locator(".c-destination")).to_have_text("cg-05000")
    expect(first.locator(".mark.decides")).to_have_text("3")
    assert page.evaluate(DRAWN) < 250  # a frame or two on an idle machine


def test_what_is_read_stays_where_it_is_when_its_steps_go_on(page: Page) -> None:
    page.evaluate(MANY, 300)
    page.locator(".scroller").evaluate("(box) => { box.scrollTop = 2000; }")
    there = row(page, "cg-00080")
    expect(there).to_be_visible()
    before = there.bounding_box()
    uppermost = page.locator(".scroller").evaluate(
        "(box) => Math.floor(box.scrollTop / parseFloat(getComputedStyle(box).getPropertyValue('--row'))) + 1"
    )
    page.evaluate(f"put('error', 298, 299); go('resolved', {uppermost})")
    assert there.bounding_box() == before


def test_a_job_in_steps_says_what_a_form_cannot_hold(page: Page, site: Site) -> None:
    id_ = update(site, GOOD[:2], startAt="2100-01-02T03:04:05Z")
    open_job(page, site, id_)
    page.get_by_role("link", name="Run again with changes").click()
    note = page.locator("main")
    expect(note).to_contain_text("It has 3 different commands, and this form has one")
    expect(note).to_contain_text(
        "stops there at a failure (onFail): with one command there is nothing to stop"
    )
    open_job(page, site, id_)
    cancel(page)
    ended(page, "canceled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 360])
def test_steps_at_any_width(browser: Browser, site: Site, scheme: Any, width: int) -> None:
    to = [*GOOD[:12], *FAILING[:3], SILENT[0], *GOOD[12:30]]
    more = {"waves": [16, "100%"], "gate": {"errors": "60%", "soak": 600}}
    id_ = update(site, to, GOOD[4:6], name=f"{width} {scheme}", **more)
    with a_page(browser, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        open_job(page, site, id_)
        expect(page.locator(".gate")).to_have_text(re.compile("^resting"))
        expect(row(page, GOOD[4]).locator(".mark")).to_have_count(3)
        for mark in row(page, GOOD[4]).locator(".mark").all():
            at = box(mark)
            assert at["height"] >= 24
            assert at["width"] >= 24
        assert not too_wide(page)
        page.locator(".views").scroll_into_view_if_needed()
        shoot(page, f"steps-{width}-{scheme}")
        for tab in ("Gateways", "Results"):
            page.get_by_role("tab", name=tab).click()
            assert not too_wide(page)
            page.locator(".results h3" if tab == "Results" else "canvas").first.wait_for()
            page.locator(".views").scroll_into_view_if_needed()
            shoot(page, f"steps-{width}-{scheme}-{tab.lower()}")
        cancel(page)
