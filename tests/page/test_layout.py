"""Where things stand on the page: long names, narrow widths, and buttons that stay where they are."""

import re

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.page_site import (
    FAILING,
    GOOD,
    NARROW,
    Site,
    a_page,
    box,
    button,
    item,
    open_job,
    row,
    too_wide,
)

#: How many lines the first text of an element has.
LINES = """element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
}"""


def _within(inner: Locator, outer: Locator) -> bool:
    here, around = box(inner), box(outer)
    return (
        here["x"] >= around["x"]
        and here["x"] + here["width"] <= around["x"] + around["width"]
        and here["y"] + here["height"] <= around["y"] + around["height"]
    )


def _overlap(one: Locator, other: Locator) -> bool:
    here, there = box(one), box(other)
    beside = here["x"] + here["width"] <= there["x"] or there["x"] + there["width"] <= here["x"]
    below = here["y"] + here["height"] <= there["y"] or there["y"] + there["height"] <= here["y"]
    return not beside and not below


def test_each_tab_of_a_job_is_seen_on_a_telephone(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/time", GOOD[:2])
    with a_page(browser, viewport=NARROW) as page:
        open_job(page, site, id_, "resolved")
        for tab in page.get_by_role("tab").all():
            assert _within(tab, page.locator(".views")), tab.inner_text()
        page.get_by_role("tab", name="Data").click()
        expect(page.get_by_label("The job as JSON")).to_contain_text("createdAt")


@pytest.mark.parametrize("more", [{}, {"onFail": "stop"}])
def test_a_row_of_the_table_is_no_wider_than_the_table(
    browser: Browser, site: Site, more: dict[str, str]
) -> None:
    to = [*GOOD[:2], *FAILING[:1]]
    batch = [item("put", "/system/a/long/resource", to), item("get", "/system/time", to)]
    id_ = site.ask("POST", "/jobs", {"batch": batch, **more})["id"]
    with a_page(browser, viewport={"width": 700, "height": 900}) as page:
        open_job(page, site, id_, "resolved, with failures")
        for width in (1400, 1000, 860, 700, 641):
            page.set_viewport_size({"width": width, "height": 900})
            assert _within(row(page, FAILING[0]).first.locator(".c-result"), page.locator(".views")), width


def test_a_long_name_leaves_all_links_in_front_of_the_panel(browser: Browser, site: Site) -> None:
    name = "n" * 120
    site.ask("PUT", f"/gateways/{name}", {"labels": {"example.com/rack": "r" * 63}, "note": "long " * 200})
    site.ended(site.job("/system/time", [name]))
    with a_page(browser, viewport=NARROW) as page:
        page.goto(f"{site.url}#/gateways/{name}")
        link = page.get_by_role("link", name="New job for it")
        expect(link).to_be_visible()
        assert _within(link, page.locator(".crumbs"))
        page.goto(f"{site.url}#/gateways?match=nnn*")
        label = page.locator(".label")
        for width in (360, 860, 861, 1400):
            page.set_viewport_size({"width": width, "height": 900})
            assert _within(label, page.locator(".panel")), width
            assert not _overlap(page.locator(".g-gateway"), page.locator(".g-last")), width
            assert box(page.locator(".brief"))["height"] < 70, width
            assert not too_wide(page)


def test_a_long_name_breaks_no_other_word(page: Page, site: Site) -> None:
    batch = [item("get", f"/system/{'long/' * 40}", GOOD)]
    schedule = {"cron": "0 3 * * *", "timezone": "UTC"}
    site.ask("POST", "/templates", {"name": "n" * 128, "job": {"batch": batch}, "schedule": schedule})
    page.goto(f"{site.url}#/templates")
    expect(page.get_by_role("link", name="n" * 128)).to_be_visible()
    mine = page.get_by_role("row").filter(has_text="n" * 128)
    for width in (861, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        for one in [*page.get_by_role("columnheader").all(), mine.locator(".t-next")]:
            assert one.evaluate(LINES) == 1, (width, one.inner_text())
        assert mine.locator(".t-last").evaluate(LINES) <= 2  # its two words
        assert not too_wide(page)


def test_the_head_and_what_is_below_have_the_same_edges(page: Page, site: Site) -> None:
    page.goto(site.url)
    for width in (1400, 1280, 861):
        page.set_viewport_size({"width": width, "height": 900})
        assert box(page.locator(".brand"))["x"] == box(page.get_by_role("heading", level=1))["x"]


def test_no_badge_of_a_job_takes_more_room_than_another(page: Page, site: Site) -> None:
    """So that it does not come to stand on a line of its own, and the buttons below with it."""
    state, wide = page.locator(".headline .state"), []
    for to, more, status in (
        (GOOD[:1], {"startAt": "2100-01-01T00:00:00Z"}, "pending"),
        (FAILING[:1], {}, "resolved, with failures"),
    ):
        open_job(page, site, site.job("/system/time", to, **more), status)
        wide.append(box(state)["width"])
        assert box(state.locator(".badge"))["width"] <= wide[0]
    assert wide[0] == wide[1]


def test_buttons_of_a_schedule_stay_where_they_are(page: Page, site: Site) -> None:
    job = {"batch": [item("get", "/system/time", GOOD[:1])]}
    id_ = site.ask("POST", "/templates", {"name": "stays where it is", "job": job})["id"]
    page.goto(f"{site.url}#/templates/{id_}")
    look = button(page, "Show the next starts")
    page.get_by_label("Cron").fill("0 3 * * *")
    before = box(look)
    look.click()
    expect(page.locator(".seen li")).to_have_count(5)
    assert box(look) == before
    page.get_by_label("Cron").fill("61 3 * * *")
    look.click()
    expect(page.get_by_role("form").get_by_role("alert")).to_be_visible()
    assert box(look) == before


def test_many_gateways_of_a_plan_are_ranges(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_label("GET").check()
    page.get_by_label("Resource").fill("/system/time")
    page.get_by_label("Destinations").fill("cg-[001-020] cg-040")
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan.locator(".names code")).to_have_text(["cg-[001-020]", "cg-040"])


def test_a_page_that_is_not_there_is_the_last_one(page: Page, site: Site) -> None:
    site.ask("POST", "/gateways", [{"name": f"last-{number:02}"} for number in range(51)])
    page.goto(f"{site.url}#/gateways?match=last-*&page=9")
    expect(page.get_by_text(re.compile("^51.51 of 51 gateways$"))).to_be_visible()
    expect(page).to_have_url(f"{site.url}#/gateways?match=last-*&page=2")
    id_ = site.job("/system/time", ["cg-192"])
    site.ended(id_)
    page.goto(f"{site.url}#/gateways/cg-192?page=1e99")
    expect(page.get_by_role("link", name=f"Job {id_}")).to_be_visible()
    expect(page).to_have_url(f"{site.url}#/gateways/cg-192")
    # Where all stand on one page no button leads to others.
    expect(button(page, "Older")).to_be_hidden()


def test_what_is_seen_of_a_button_is_in_its_name(page: Page, site: Site) -> None:
    """Who speaks to the page says what is seen."""
    job = {"batch": [item("get", "/system/time", GOOD[:1])]}
    template = site.ask("POST", "/templates", {"name": "said aloud", "job": job})["id"]
    for path in (f"jobs/{site.job('/system/time', GOOD[:1])}", f"templates/{template}", "gateways/cg-001"):
        page.goto(f"{site.url}#/{path}")
        expect(page.locator("button.control").first).to_be_visible()
        for one in page.locator("button.control[aria-label]").all():
            said, name = one.inner_text(), one.get_attribute("aria-label") or ""
            assert said.removeprefix("↓ ").lower() in name.lower(), path
