"""The table of a job's requests in a real browser: what comes first, and what stays where it is."""

import re

from playwright.sync_api import Page, expect

from tests.page_site import FAILING, GOOD, Site, open_job

#: A table of 300 requests that wait, as a job's view makes it; ``fail`` lets some of them fail.
TABLE = """async () => {
  const { Rows } = await import('/static/rows.js');
  const { Table } = await import('/static/table.js');
  const made = (id, status) => ({ id, method: 'get', resource: '/a', __request: {
    destination: `cg-${id}`, status, attempts: 0, result: {}, sentAt: null, finishedAt: null } });
  const ids = Array.from({ length: 300 }, (_, index) => index + 1);
  const rows = new Rows();
  const table = new Table(rows, () => {}, () => {});
  window.fail = (...some) => { rows.put(some.map((id) => made(id, 'error')), true); table.draw(); };
  rows.clear(ids);
  rows.put(ids.map((id) => made(id, 'pending')), false);
  document.getElementById('main').replaceChildren(table.element);
  table.draw();
}"""
#: Whether rows that were sorted again and again, a few changed each time, are as if sorted once.
SORTED = """async (by) => {
  const { Rows } = await import('/static/rows.js');
  const statuses = ['error', 'timeout', 'unknown', 'sent', 'pending', 'canceled', 'skipped', 'resolved'];
  let seed = 1;
  const any = (most) => { seed = (seed * 48271) % 2147483647; return seed % most; };
  const made = (id) => ({ id, method: 'get', resource: '/a', __request: {
    destination: `cg-${any(50)}`, status: statuses[any(8)], attempts: any(3), result: { code: any(5) },
    sentAt: '2026-01-02T03:04:05.000Z', finishedAt: `2026-01-02T03:04:0${5 + any(5)}.000Z` } });
  const ids = Array.from({ length: 200 }, (_, index) => index + 1);
  const start = () => {
    const rows = new Rows();
    Object.assign(rows.sort, by);
    Object.assign(rows.filter, { text: '4' });
    rows.clear(ids);
    return rows;
  };
  const rows = start();
  for (let turn = 0; turn < 40; turn += 1) {
    rows.put(Array.from({ length: 1 + any(20) }, () => made(1 + any(200))), true);
    const fresh = start();
    fresh.put(rows.items.filter(Boolean), false);
    const [one, other] = [rows, fresh].map((all) => all.shown().map(({ id }) => id).join());
    if (one !== other || rows.ahead !== fresh.ahead) return `turn ${turn}: ${one} is not ${other}`;
  }
  return 'as if sorted once';
}"""


def test_failures_come_first(page: Page, site: Site) -> None:
    id_ = site.job("/system/info", [*GOOD[:3], *FAILING[:2], *GOOD[3:6]])
    open_job(page, site, id_, "resolved, with failures")
    names = page.locator(".space .row:not([hidden]) .c-destination")
    expect(names).to_have_text([*FAILING[:2], *GOOD[:6]])
    page.get_by_role("columnheader", name="Destination").get_by_role("button").click()
    expect(names).to_have_text([*GOOD[:6], *FAILING[:2]])
    expect(page).to_have_url(re.compile("sort=destination$"))
    page.get_by_label("Sort by").select_option("In order of creation")
    expect(page).to_have_url(re.compile("sort=created$"))
    expect(names).to_have_text([*GOOD[:3], *FAILING[:2], *GOOD[3:6]])
    page.get_by_label("Sort by").select_option("Failures first")
    expect(names).to_have_text([*FAILING[:2], *GOOD[:6]])
    page.goto(f"{site.url}#/jobs/{id_}?sort=created")
    expect(names).to_have_text([*GOOD[:3], *FAILING[:2], *GOOD[3:6]])


def test_what_is_read_stays_where_it_is_when_others_fail(page: Page) -> None:
    page.evaluate(TABLE)
    scroller = page.locator(".scroller")
    scroller.evaluate("(box) => { box.scrollTop = 2000; }")
    there = page.locator(".space .row:not([hidden])", has_text="cg-80")
    expect(there).to_be_visible()
    before = there.bounding_box()
    page.evaluate("fail(7, 9, 299)")
    expect(there).to_be_visible()
    assert there.bounding_box() == before
    scroller.evaluate("(box) => { box.scrollTop = 0; }")
    page.evaluate("fail(3)")
    names = page.locator(".space .row:not([hidden]) .c-destination")
    expect(names.filter(has_text=re.compile("^cg-(3|7|9|299)$"))).to_have_count(4)
    expect(page.locator("[aria-rowindex='2'] .c-destination")).to_have_text("cg-3")
    expect(scroller).to_have_js_property("scrollTop", 0)


def test_sorting_what_has_changed_is_sorting_all(page: Page) -> None:
    for by in (None, "created", "destination", "status", "attempts", "duration", "result"):
        for down in (False, True):
            assert page.evaluate(SORTED, {"by": by, "down": down}) == "as if sorted once", by
