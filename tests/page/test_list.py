"""The list of jobs in a real browser: it follows, filters, and has pages."""

import re
import time

from playwright.sync_api import Page, expect

from sandbox.demo import MACS
from tests.page_site import ATTACK, FAILING, GOOD, SILENT, Site, box, button, ended, item, shoot


def test_the_list_follows_the_jobs(page: Page, site: Site) -> None:
    expect(page.get_by_role("status").first).to_have_text("connected")
    first = site.job("/system/time", GOOD, name="clocks of the first forty")
    site.job("/system/info", FAILING, name="inventory")
    site.job("/system/reboot", MACS, "post", name=ATTACK)
    card = page.get_by_role("listitem").filter(has_text="clocks of the first forty")
    expect(card).to_contain_text("resolved")
    expect(card).to_contain_text("all 40 resolved")
    expect(card).to_contain_text("GET /system/time")
    expect(card).to_contain_text(re.compile(r"took [\d.]+ m?s"))
    expect(card.locator("time")).to_have_attribute("title", re.compile(r"created .* \(.* UTC\)"))
    expect(card.get_by_role("img")).to_have_attribute("aria-label", "40 resolved")
    expect(page.get_by_role("listitem").filter(has_text="inventory")).to_contain_text("8 error")
    expect(page.get_by_role("link", name=ATTACK)).to_be_visible()
    assert page.locator("main img").count() == 0
    shoot(page, "list")
    site.ask("DELETE", f"/jobs/{first}")
    expect(card).to_have_count(0)


def test_jobs_without_a_name_say_what_they_do(page: Page, site: Site) -> None:
    items = [item("post", f"/system/{part}", "cg-041") for part in ("first", "second", "third")]
    id_ = site.ask("POST", "/jobs", {"batch": items})["id"]
    page.get_by_role("link", name="POST /system/first and 2 more").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("POST /system/first and 2 more")
    expect(page).to_have_url(re.compile(f"#/jobs/{id_}$"))


def test_a_job_that_waits_says_when_it_starts(page: Page, site: Site) -> None:
    site.job("/system/time", ["cg-001"], name="next year", startAt="2100-01-02T03:04:05Z")
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    site.job("/system/time", ["cg-001"], name="in an hour", startAt=soon)
    expect(page.get_by_role("listitem").filter(has_text="in an hour")).to_contain_text("starts in 59 min")
    late = page.get_by_role("listitem").filter(has_text="next year")
    expect(late.locator(".took")).to_have_text(re.compile("^starts . Jan 2100"))
    expect(late.locator(".took")).to_have_attribute("title", "2100-01-02 03:04:05 UTC")
    late.get_by_role("link").click()
    expect(page.locator(".verdict")).to_have_attribute("title", "2100-01-02 03:04:05 UTC")
    button(page, "Start now").click()
    ended(page, "resolved")


def test_the_list_is_filtered(page: Page, site: Site) -> None:
    site.job("/system/time", ["cg-033"], name="find me")
    site.job("/system/time", ["cg-034"], name="another")
    expect(page.get_by_role("link", name="another")).to_be_visible()
    page.locator("body").press("/")
    page.keyboard.type("FIND")
    expect(page.get_by_role("link", name="another")).to_have_count(0)
    expect(page.get_by_role("link", name="find me")).to_be_visible()
    page.get_by_label("Name, number or resource").fill("/system/TIME")
    expect(page.get_by_role("link", name="another")).to_be_visible()
    page.get_by_label("Name, number or resource").fill("")
    page.get_by_label("Destination").fill("cg-034")
    expect(page.get_by_role("link", name="find me")).to_have_count(0)
    expect(page.get_by_role("link", name="another")).to_be_visible()
    button(page, "paused").click()
    expect(page.get_by_text("No job fits these filters.")).to_be_visible()
    expect(button(page, "paused")).to_have_attribute("aria-pressed", "true")


def test_a_job_is_among_those_with_failures_from_its_first_one_on(page: Page, site: Site) -> None:
    site.job("/system/time", GOOD[:2], name="all of it went well")
    button(page, "with failures").click()
    expect(page).to_have_url(re.compile("failed=true$"))
    expect(page.get_by_role("link", name="all of it went well")).to_have_count(0)
    to = [*FAILING[:1], *SILENT[:1]]
    id_ = site.job("/system/time", to, name="one fails, one is waited for", requestTimeout=60)
    card = page.get_by_role("listitem").filter(has_text="one fails, one is waited for")
    expect(card).to_contain_text("1 of 2 done: 1 error, 1 in flight")
    page.reload()
    expect(button(page, "with failures")).to_have_attribute("aria-pressed", "true")
    expect(card).to_be_visible()
    site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})


def test_columns_line_up_over_all_rows(page: Page, site: Site) -> None:
    """Whatever their times and statuses say."""
    site.job("/system/time", ["cg-001"], startAt="2100-12-31T23:59:59Z", name="lined up, later")
    site.job("/system/info", FAILING[:2], name="lined up, failed")
    page.get_by_label("Name, number or resource").fill("lined up")
    rows = page.locator(".job")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("resolved, with failures")
    for column in (".state", ".bar", ".counts"):
        assert len({box(row)["x"] for row in rows.locator(column).all()}) == 1


def test_the_address_keeps_filters_tabs_and_pages(page: Page, site: Site) -> None:
    id_ = site.job("/system/info", [*GOOD[:5], *FAILING[:2]], name="kept in the address")
    page.get_by_label("Name, number or resource").fill("kept in")
    page.get_by_label("Destination").fill("cg-003")
    button(page, "resolved").click()
    expect(page.locator(".job")).to_have_count(1)
    page.get_by_role("link", name="kept in the address").click()
    ended(page, "resolved, with failures")
    button(page, "2 error").click()
    page.get_by_label(re.compile("^Filter requests")).fill("purpose")
    page.get_by_role("columnheader", name="Duration").get_by_role("button").dblclick()
    page.get_by_role("tab", name="Gateways").click()
    expect(page).to_have_url(f"{site.url}#/jobs/{id_}/gateways?status=error&text=purpose&sort=-duration")
    page.reload()
    expect(page.get_by_role("tab", name="Gateways")).to_have_attribute("aria-selected", "true")
    expect(page.locator(".found")).to_have_text("2 of 7 requests")
    page.get_by_role("tab", name="Requests").click()
    expect(page.get_by_role("columnheader", name="Duration")).to_have_attribute("aria-sort", "descending")
    page.go_back()
    expect(page.get_by_label("Name, number or resource")).to_have_value("kept in")
    expect(page.get_by_label("Destination")).to_have_value("cg-003")
    expect(button(page, "resolved")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".job")).to_have_count(1)
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    expect(page.get_by_label("Name, number or resource")).to_have_value("")


def test_the_list_has_pages(page: Page, site: Site) -> None:
    for number in range(26):
        site.job("/system/time", [f"cg-{number + 1:03d}"], name=f"page {number:02d}")
    page.reload()
    expect(page.locator(".job")).to_have_count(25)
    expect(page.locator(".pager")).to_contain_text(re.compile("^1.25 of"))
    button(page, "Older").click()
    expect(page.get_by_role("link", name="page 00")).to_be_visible()
    button(page, "Newer").click()
    expect(page.get_by_role("link", name="page 25")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name="page 00")).to_be_visible()
    page.goto(f"{site.url}#/?text=page%20&page=99")
    expect(page.locator(".pager")).to_contain_text(re.compile("^26.26 of 26 jobs"))
