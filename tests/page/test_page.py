"""The page in a real browser, on the demo's fleet: each view, each action, keyboard, names, widths."""

import csv
import io
import json
import os
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from puppetmaster import ranges
from puppetmaster.bus.client import BridgeChanged, ControllerChanged, LinkChanged
from puppetmaster.model.policy import Policy
from sandbox.demo import MACS
from tests import ROOT
from tests.page_site import (
    NARROW,
    Site,
    a_page,
    nameless,
    shoot,
    too_wide,
)
from tests.web_client import fetch, many, running

DASHBOARD = ROOT / "puppetmaster" / "dashboard"
SILENT = ranges.expand("cg-[180-183]")
GOOD = ranges.expand("cg-[001-040]")
FAILING = ranges.expand("cg-[101-108]")
#: Whether the marked cell of the map is in sight.
SEEN = """(() => {
    const cell = document.querySelector(".marker").getBoundingClientRect();
    const box = document.querySelector(".cells").getBoundingClientRect();
    const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, innerHeight);
    return cell.height > 0 && cell.top >= top && cell.bottom <= bottom;
})()"""
ATTACK = "<img src=x onerror=\"document.title='attacked'\">"


def button(page: Page, name: str | re.Pattern[str]) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def row(page: Page, text: str) -> Locator:
    return page.locator(".space .row:not([hidden])", has_text=text)


def open_job(page: Page, site: Site, id_: int) -> None:
    page.goto(f"{site.url}#/jobs/{id_}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def ended(page: Page, status: str) -> None:
    expect(page.locator(".job-head .badge")).to_contain_text(status)


# -- the list -------------------------------------------------------------------------------------


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
    expect(page.get_by_text(ATTACK)).to_be_visible()
    assert page.locator("main img").count() == 0
    shoot(page, "list")
    site.ask("DELETE", f"/jobs/{first}")
    expect(card).to_have_count(0)


def test_jobs_without_a_name_say_what_they_do(page: Page, site: Site) -> None:
    items = [
        {"method": "post", "resource": f"/system/{part}", "__request": {"destination": "cg-041"}}
        for part in ("first", "second", "third")
    ]
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


# -- a new job ------------------------------------------------------------------------------------


def test_a_job_is_made_after_a_dry_run(page: Page, site: Site) -> None:
    page.get_by_role("navigation").get_by_role("link", name="New job").click()
    assert page.locator("input:checked").count() == 0
    page.get_by_label("POST").check()
    page.get_by_label("Resource").fill("/system/reboot")
    page.get_by_label(re.compile("^Data")).fill('{"in": 5}')
    expect(page.get_by_text("Valid JSON")).to_be_visible()
    page.get_by_label("Destinations").fill("cg-[001-020], cg-007\n00:0c:29:1c:e8:[01-02] cg-[9-1]")
    expect(page.locator("#to-said")).to_contain_text("22 destinations")
    expect(page.locator("#to-said")).to_contain_text("1 duplicate, each taken once: cg-007")
    expect(page.locator("#to-said")).to_contain_text("expected the smaller bound first")
    page.get_by_label("Destinations").fill("cg-[001-020], cg-007")
    page.get_by_label("Name").fill("restart twenty")
    page.get_by_text("Policies").click()
    page.get_by_label("Waves").fill("1, 25%")
    page.get_by_label("In flight at most").fill("10")
    page.get_by_label("Starts at").fill("2020-01-02T03:04:05")
    before = len(site.ask("GET", "/jobs"))
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan).to_contain_text("Startsat once")
    expect(plan.get_by_role("listitem")).to_have_text(
        [
            "20 requests to 20 gateways: post /system/reboot.",
            re.compile("^They are sent in 3 waves of 1, 4 and 15, .* at most 10 at once.$"),
            "It pauses when any of a wave but the last failed.",
            "Nothing is sent twice: what may have run, as after a timeout, is not sent again.",
            re.compile("^It starts at once: 2020-01-0.* is past.$"),
        ]
    )
    expect(plan).to_contain_text("1 → 4 → 15")
    expect(plan).to_contain_text("Gate opens whennone of the wave failed; else the job pauses")
    expect(plan).to_contain_text("In flight at most10")
    assert len(site.ask("GET", "/jobs")) == before
    shoot(page, "new")
    page.get_by_label("Name").fill("restart them")
    expect(plan).to_be_hidden()
    button(page, "Dry run").click()
    plan.get_by_role("button", name="Start: POST /system/reboot on 20 gateways").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("restart them")
    ended(page, "resolved")
    expect(page.locator(".wave.done")).to_have_count(3)
    expect(page.locator(".verdict")).to_have_text("All 20 requests resolved.")


def test_the_form_says_what_the_api_says_of_its_fields(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_text("Policies").click()
    known = site.ask("GET", "/openapi.json")["components"]["schemas"]["NewJob"]["properties"]
    at_most = page.get_by_label("In flight at most")
    expect(at_most).to_have_accessible_description(known["concurrency"]["description"])
    delay = known["retry"]["anyOf"][0]["properties"]["delay"]
    before = page.get_by_label("Before a retry, s")
    expect(before).to_have_accessible_description(delay["description"])
    expect(before).to_have_attribute("placeholder", str(delay["default"]))
    expect(page.get_by_label("Name")).to_have_attribute(
        "maxlength", str(known["name"]["anyOf"][0]["maxLength"])
    )


def test_data_arrive_as_they_were_typed(page: Page, site: Site) -> None:
    typed = '{"serial": 9007199254740993, "f": 1.0, "small": 1.5e-7, "10": 1, "2": "é\\u00e9 \\\\"}'
    page.goto(f"{site.url}#/new")
    page.get_by_label("PUT").check()
    page.get_by_label("Resource").fill("/system/note")
    page.get_by_label(re.compile("^Data")).fill(typed)
    page.get_by_label("Destinations").fill("cg-001")
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan.get_by_label("Data that would be sent")).to_contain_text("9007199254740993")
    plan.get_by_role("button", name=re.compile("^Start")).click()
    ended(page, "resolved")
    id_ = int(page.url.rpartition("/")[2])
    (request,) = site.ask("GET", f"/jobs/{id_}/requests")
    assert json.dumps(request["data"]) == json.dumps(json.loads(typed))
    assert request["__request"]["result"]["data"] == request["data"]

    expect(row(page, "cg-001")).to_contain_text('"serial":9007199254740993,"f":1.0')
    row(page, "cg-001").click()
    drawer = page.get_by_role("dialog")
    for label in ("Data that was sent", "Data of the answer"):
        expect(drawer.get_by_label(label)).to_contain_text('"serial": 9007199254740993,\n  "f": 1.0')
    button(page, "Copy as JSON").click()
    expect(button(page, "Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert json.dumps(json.loads(copied), sort_keys=True) == json.dumps(request, sort_keys=True)
    page.keyboard.press("Escape")

    page.get_by_role("tab", name="Results").click()
    page.locator(".results summary").click()
    expect(page.get_by_label("Sample answer")).to_contain_text("9007199254740993")
    with page.expect_download() as started:
        button(page, "Export as JSON").click()
    assert started.value.path().read_bytes() == urllib.request.urlopen(f"{site.url}jobs/{id_}").read()
    with page.expect_download() as started:
        button(page, "Export as CSV").click()
    (line,) = csv.DictReader(io.StringIO(started.value.path().read_text("utf-8-sig")))
    assert json.dumps(json.loads(line["data"]), sort_keys=True) == json.dumps(request["data"], sort_keys=True)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ('{"in": ', "Line 1, column 8: This is not JSON: expected a value, but it ends here."),
        ('{"a": 1,\n "b" 2}', "Line 2, column 6: This is not JSON: expected : behind the name, found 2."),
        ("[1, 2,]", "Line 1, column 7: This is not JSON: expected a value, found ]."),
        ('{"a": [1}', "Line 1, column 9: This is not JSON: expected , or ], found }."),
        ("{} {}", "Line 1, column 4: This is not JSON: expected the end, found {."),
        ("NaN", "Line 1, column 1: This is not JSON: expected a value, found N."),
        (
            '{"a": 1, "b": {"a": 3}, "a": 2}',
            'Line 1, column 25: "a" stands twice in one object: only one of them would arrive.',
        ),
        (
            '{"big": 9223372036854775808}',
            "Line 1, column 9: 9223372036854775808 does not fit into 64 bits, "
            "which is all that the bus carries.",
        ),
        ("[1e999, -1e999]", "Line 1, column 2: 1e999 is larger than a number can be (and 1 more)."),
        (
            "0.30000000000000000000004",
            "Line 1, column 1: 0.30000000000000000000004 would arrive as 0.3: "
            "write that, or put it in quotes.",
        ),
        ("1e-999", "Line 1, column 1: 1e-999 would arrive as 0: write that, or put it in quotes."),
        ("[" * 100_000, "Line 1, column 1: It is nested too deeply."),
        ('{"a": 9223372036854775807, "b": -9223372036854775808, "c": 1.50e3, "d": 0.1}', "Valid JSON"),
        ("0.0", "Valid JSON"),
        (" ", "Empty: {} is sent"),
    ],
)
def test_what_is_wrong_with_data_is_said_while_typing(page: Page, site: Site, typed: str, said: str) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_label(re.compile("^Data")).fill(typed)
    expect(page.locator("#data-said")).to_have_text(said)
    wrong = "false" if said.startswith(("Valid", "Empty")) else "true"
    expect(page.get_by_label(re.compile("^Data"))).to_have_attribute("aria-invalid", wrong)


def test_what_is_wrong_with_a_new_job_is_told_at_its_field(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    expect(page.locator("#link")).to_have_text("connected")
    button(page, "Dry run").click()
    told = page.get_by_role("alert").filter(has_text="cannot be planned")
    for part in ("Method choose one", "Resource it begins with /", "Destinations name at least one"):
        expect(told).to_contain_text(part)
    expect(page.get_by_label("GET")).to_be_focused()
    expect(page.get_by_label("Resource")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Resource")).to_have_accessible_description("it begins with /")
    told.get_by_role("button", name="Destinations").click()
    expect(page.get_by_label("Destinations")).to_be_focused()
    page.get_by_label("GET").check()
    page.get_by_label("Resource").fill("/system/time")
    expect(page.get_by_label("Resource")).to_have_attribute("aria-invalid", "false")
    page.get_by_label("Destinations").fill("cg-001")
    page.get_by_text("Policies").click()
    page.get_by_label("Sent per second").fill("-3")
    page.get_by_label("Gate: failures allowed").fill("2")
    page.get_by_text("Policies").click()
    button(page, "Dry run").click()
    # What the gateway finds wrong stands at the fields as well, under their names.
    told = page.get_by_role("alert").filter(has_text="does not take it")
    expect(told.get_by_role("listitem")).to_have_text(
        [
            re.compile("^Sent per second expected a number from 0.0001 to 100000"),
            re.compile("^Gate: failures allowed expected waves"),
        ]
    )
    expect(page.get_by_label("Gate: failures allowed")).to_be_focused()
    expect(page.get_by_label("Sent per second")).to_have_accessible_description(re.compile("got -3$"))
    shoot(page, "new-faults")


def test_each_fault_of_the_api_has_its_field(page: Page) -> None:
    paths = {
        "batch[0].method": "method",
        "batch[0].resource": "resource",
        "batch[0].data.a[2]": "data",
        "batch[0].data": "data",
        "batch[0].__request.destination[3]": "to",
        "name": "name",
        "waves": "waves",
        "waves[1]": "waves",
        "gate.onFail": "gate.onFail",
        "gate": "gate.errors",
        "retry.delay": "retry.delay",
        "startAt": "startAt",
        "timeout": "timeout",
        "nothing": None,
    }
    found = page.evaluate(
        "async (all) => { const {fieldOf} = await import('/static/form.js');"
        " return all.map((one) => fieldOf(one) ?? null); }",
        list(paths),
    )
    assert dict(zip(paths, found, strict=True)) == paths


# -- a job ----------------------------------------------------------------------------------------


def test_requests_in_a_table(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/info", [*ranges.expand("cg-[001-120]"), "cg-lost"]))
    ended(page, "resolved, with failures")
    expect(page.locator(".verdict")).to_have_text("112 of 121 requests resolved, 9 failed.")
    shoot(page, "job")
    button(page, "9 error").click()
    expect(page.locator(".found")).to_have_text("9 of 121 requests")
    expect(row(page, "cg-101")).to_contain_text("500")
    page.locator("body").press("/")
    page.keyboard.type("lost")
    expect(page.locator(".found")).to_have_text("1 of 121 requests")
    expect(row(page, "cg-lost")).to_contain_text("404")
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    button(page, "9 error").click()
    expect(page.locator(".found")).to_have_text("121 requests")
    page.get_by_role("columnheader", name="Destination").get_by_role("button").click()
    page.get_by_role("columnheader", name="Destination").get_by_role("button").click()
    expect(page.get_by_role("columnheader", name="Destination")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("[aria-rowindex='2'] .c-destination")).to_have_text("cg-lost")


def test_another_order_begins_at_its_beginning(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/info", ranges.expand("cg-[001-120]")))
    ended(page, "resolved, with failures")
    grid = page.get_by_role("grid")
    sort = page.get_by_role("columnheader", name="Destination").get_by_role("button")
    for act in (sort.click, button(page, "112 resolved").click):
        grid.press("End")
        expect(page.locator(".scroller")).to_have_js_property("scrollTop", _bottom(page))
        assert _bottom(page) > 0
        act()
        expect(page.locator(".scroller")).to_have_js_property("scrollTop", 0)
        expect(page.locator(".row.cursor")).to_have_attribute("aria-rowindex", "2")


def _bottom(page: Page) -> int:
    bottom: int = page.locator(".scroller").evaluate("(box) => box.scrollHeight - box.clientHeight")
    return bottom


def test_why_it_waits_has_the_place_of_a_result(page: Page, site: Site) -> None:
    blocked = [*SILENT[:1], *GOOD[:3]]
    open_job(page, site, site.job("/system/info", blocked, concurrency=1, requestTimeout=60))
    expect(row(page, "cg-003").locator(".c-result")).to_have_text(
        "no free slot: the job has 1 in flight, which is its concurrency"
    )
    button(page, "Pause").click()
    # It waits for something else now, though nothing happened to the request itself.
    expect(row(page, "cg-003").locator(".c-result")).to_have_text("the job is paused")
    button(page, "Cancel").click()
    button(page, "Force to end").click()
    page.get_by_role("dialog").get_by_role("button", name="Force to end").click()
    ended(page, "canceled")


def test_nothing_in_flight_is_explained(page: Page, site: Site) -> None:
    retry = {"attempts": 2, "delay": 600}
    to = [*FAILING[:3], *GOOD[:4]]
    open_job(page, site, site.job("/system/info", to, waves=[3, "100%"], retry=retry))
    expect(page.locator(".job-head")).to_contain_text(
        "Waiting3: the last attempt failed, tried again later; 4: their wave has not begun"
    )
    expect(page.locator(".job-head")).to_contain_text(re.compile(r"In flight, all jobs\d+, window \d+"))
    button(page, "Cancel").click()
    ended(page, "canceled")


def test_the_head_says_what_was_given(page: Page, site: Site) -> None:
    given: dict[str, Any] = {
        "waves": ["10%", "50%", "100%"],
        "gate": {"errors": "25%", "soak": 90, "onFail": "abort"},
        "concurrency": "20%",
        "abort": {"errors": "10%", "after": 20},
        "retry": {"attempts": 3, "delay": 1},
        "requestTimeout": 30,
        "timeout": 36000,
    }
    open_job(page, site, site.job("/system/time", ranges.expand("cg-[001-030]"), key="only-once", **given))
    about = page.locator(".about .facts > div")
    expect(about).to_have_text(
        [
            "CommandGET /system/time",
            re.compile("^Keyonly-once"),
            "Gate opens whenat most 25% of the wave failed (0, 3); else the job is aborted. "
            "Then 1 min 30 s of rest",
            "In flight at most6, which is 20%",
            "Answer within30 s",
            "Whole job within10 h",
            "Attempts at most3; another after an error or a timeout of a GET, 500 ms to 1 s later, "
            "then 2 times as long each time, at most 5 min",
            "Aborts whenmore than 10% of those done failed, once 20 are done",
        ]
    )
    expect(page.locator(".gate")).to_have_text(
        [
            re.compile(r"0 may fail \(25%\)rest 1 min 30 s$"),
            re.compile(r"3 may fail \(25%\)rest 1 min 30 s$"),
        ]
    )
    expect(page.locator(".job-head time").first).to_have_attribute("title", re.compile(r"^2\S+ \S+ UTC$"))
    button(page, "Cancel").click()
    ended(page, "canceled")


def test_the_rate_is_of_those_that_were_tried(page: Page) -> None:
    """Of a job that sent 10 in 10 s and skipped 90."""
    counts = {"resolved": 7, "error": 1, "timeout": 1, "unknown": 1, "skipped": 60, "canceled": 30}
    job = {
        "counts": counts,
        "startedAt": "2026-01-02T03:04:00.000Z",
        "finishedAt": "2026-01-02T03:04:10.000Z",
    }
    rate = "async (job) => (await import('/static/head.js')).Head.prototype.rate.call({samples: []}, job)"
    assert page.evaluate(rate, job) == 1
    running = {"counts": counts, "finishedAt": None}
    rate = rate.replace("samples: []", "samples: [[0, 4], [2000, 10]]")
    assert page.evaluate(rate, running) == 3


def test_a_request_in_the_drawer(page: Page, site: Site) -> None:
    open_job(
        page, site, site.job("/system/note", ["cg-001", "cg-002", "<img>"], "put", data={"note": ATTACK})
    )
    ended(page, "resolved, with failures")
    page.get_by_role("grid").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    drawer = page.get_by_role("dialog")
    expect(drawer.get_by_role("heading", level=2)).to_have_text("cg-002")
    expect(drawer).to_have_accessible_name("cg-002")
    expect(drawer).to_contain_text("PUT /system/note")
    expect(drawer.get_by_label("Data of the answer")).to_contain_text("<img src=x onerror=")
    shoot(page, "drawer")
    button(page, "Copy as JSON").click()
    expect(button(page, "Copied")).to_be_visible()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["__request"]["destination"] == "cg-002"
    button(page, "Next").click()
    expect(drawer.get_by_role("heading", level=2)).to_have_text("<img>")
    expect(button(page, "Next")).to_be_disabled()
    button(page, "Previous").click()
    for _ in range(12):  # the focus goes round inside, and out to the browser's own controls only
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    assert nameless(page) == []
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(page.get_by_role("grid")).to_be_focused()
    assert page.locator("main img").count() == 0
    assert "attacked" not in page.title()


def test_the_drawer_shows_each_attempt(page: Page, site: Site) -> None:
    job = site.job("/system/info", FAILING[:1], retry={"attempts": 3, "delay": 0.1})
    open_job(page, site, job)
    ended(page, "resolved, with failures")
    (request,) = site.ask("GET", f"/jobs/{job}/requests")
    history = request["__request"]["history"]
    row(page, FAILING[0]).click()
    drawer = page.get_by_role("dialog")
    attempts = drawer.locator(".events li")
    expect(attempts).to_have_count(4)
    for index, one in enumerate(history, 1):
        expect(attempts.nth(index)).to_contain_text(f"Attempt {index}  error 500")
        expect(attempts.nth(index)).to_contain_text("fails on purpose")
        expect(attempts.nth(index).get_by_role("button")).to_have_text(str(one["message"]))
        sent = attempts.nth(index).locator("time").first
        expect(sent).to_have_attribute("datetime", one["sentAt"])
        expect(sent).to_have_attribute("title", one["sentAt"].replace("T", " ").replace("Z", " UTC"))
        expect(sent).to_have_text(re.compile(rf"\d\d:\d\d:\d\d\.{one['sentAt'][-4:-1]}$"))
    attempts.nth(1).get_by_text("Its data").click()
    expect(drawer.get_by_label("Data of the answer to attempt 1")).to_contain_text("fails on purpose")
    expect(attempts.nth(3)).to_contain_text("Attempt 3")
    attempts.nth(1).get_by_title("Copy the message id").click()
    expect(attempts.nth(1).locator(".copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == str(history[0]["message"])
    shoot(page, "drawer-attempts")


def test_a_request_that_waits_for_another_attempt_shows_the_last(page: Page, site: Site) -> None:
    to = [FAILING[0], SILENT[2]]  # the second one stays in flight
    id_ = site.job("/system/info", to, retry={"attempts": 2, "delay": 600}, requestTimeout=60)
    open_job(page, site, id_)
    expect(row(page, FAILING[0])).to_contain_text("the last attempt failed; it is tried again in")
    page.get_by_role("tab", name="Gateways").click()
    page.get_by_role("application").press("Home")
    page.get_by_role("application").press("Enter")
    drawer = page.get_by_role("dialog")
    expect(drawer).to_contain_text("Attempt 1 ended as error; another attempt follows.")
    expect(drawer).to_contain_text("fails on purpose")
    expect(drawer).not_to_contain_text("none yet")
    expect(drawer.locator(".events li")).to_have_count(3)
    expect(drawer.locator(".events li").last).to_have_text("Waits for another attempt")
    counted = drawer.locator(".state-of-it")
    for _ in range(2):  # the seconds go on by themselves
        before = counted.text_content() or ""
        expect(counted).not_to_have_text(before)
    button(page, "Next").click()
    expect(drawer).to_contain_text("There is none yet.")
    page.keyboard.press("Escape")
    site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})
    ended(page, "canceled")


def test_gateways_in_a_grid(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/info", ranges.expand("cg-[090-110]")))
    ended(page, "resolved, with failures")
    page.get_by_role("tab", name="Requests").press("ArrowRight")
    expect(page.get_by_role("tab", name="Gateways")).to_have_attribute("aria-selected", "true")
    cells = page.get_by_role("application")
    caption = page.locator(".caption").bounding_box()
    box = cells.bounding_box()
    assert caption
    assert box
    assert caption["y"] + caption["height"] <= box["y"]
    cells.press("End")
    expect(page.locator(".caption")).to_contain_text("cg-110: resolved")
    cells.press("Home")
    cells.press("ArrowRight")
    expect(page.locator(".caption")).to_contain_text("cg-091: resolved")
    page.locator("canvas").hover(position={"x": 11 * 22 + 5, "y": 5})
    expect(page.locator(".caption")).to_contain_text("cg-101: error")
    shoot(page, "grid")
    page.locator("canvas").click(position={"x": 11 * 22 + 5, "y": 5})
    expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text("cg-101")
    button(page, "Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_gateway_keeps_its_place_on_the_map(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/time", ["cg-002", "cg-003", "cg-001"]))
    ended(page, "resolved")
    sort = page.get_by_role("columnheader", name="Destination").get_by_role("button")
    sort.click()
    expect(page.locator("[aria-rowindex='2'] .c-destination")).to_have_text("cg-001")
    page.get_by_role("tab", name="Gateways").click()
    for key, name in (("Home", "cg-002"), ("ArrowRight", "cg-003"), ("End", "cg-001")):
        page.get_by_role("application").press(key)
        expect(page.locator(".caption")).to_contain_text(f"{name}: resolved")


def test_results_in_groups(page: Page, site: Site) -> None:
    site_job = site.job("/system/note", GOOD[:3], "put", data={"note": "x", "other": 1})
    open_job(page, site, site_job)
    ended(page, "resolved")
    open_job(page, site, site.job("/system/note", ranges.expand("cg-[002-008]")))
    ended(page, "resolved")
    page.get_by_role("tab", name="Results").click()
    expect(page.locator(".results details")).to_have_count(2)
    other = page.locator(".results details").nth(1)
    other.locator("summary").click()
    expect(other.locator("code")).to_have_text(["cg-[002-003]"])
    expect(other.get_by_role("row", name='note absent "x"')).to_be_visible()
    shoot(page, "results")


def test_results_of_one_gateway_alone_are_one_line(page: Page, site: Site) -> None:
    """Each good gateway says its own name: 185 results, and the failures in groups before them."""
    open_job(page, site, site.job("/system/info", ranges.expand("cg-[001-200]"), requestTimeout=5))
    ended(page, "resolved, with failures")
    page.get_by_role("tab", name="Results").click()
    results = page.locator(".results")
    alone = results.locator("details.singles")
    expect(alone.locator("summary")).to_have_text(re.compile("^185results that one gateway alone had$"))
    assert results.locator("details").count() < 8
    alone.locator("summary").click()
    inner = alone.locator("details")
    expect(inner.first).to_contain_text("cg-001: ")
    shown = inner.count()
    assert 80 < shown <= 100
    assert results.locator("pre").count() == 0  # what is inside is made when it is opened
    button(page, re.compile("^Show .* more of")).click()
    expect(button(page, re.compile("^Show .* more of"))).to_have_count(0)
    assert inner.count() > shown
    inner.last.locator("summary").click()
    expect(inner.last.get_by_label("Sample answer")).to_be_visible()
    shoot(page, "results-alone")


def test_results_are_shown_a_hundred_at_a_time(page: Page, site: Site) -> None:
    to = [*ranges.expand("cg-[001-100]"), *ranges.expand("cg-[109-140]")]
    item = {"method": "get", "resource": "/system/info", "__request": {"destination": to}}
    id_ = site.ask("POST", "/jobs", {"batch": [item, item]})["id"]
    page.goto(f"{site.url}#/jobs/{id_}/results")
    ended(page, "resolved")
    expect(page.locator(".results > details")).to_have_count(100)
    button(page, "Show 32 more of 32").click()
    expect(page.locator(".results > details")).to_have_count(132)
    expect(page.locator(".results details.singles")).to_have_count(0)


def test_a_job_is_exported(page: Page, site: Site) -> None:
    id_ = site.job("/system/note", ["cg-050", "cg-101"], "put", data={"say": "=1+1"})
    open_job(page, site, id_)
    ended(page, "resolved, with failures")
    with page.expect_download() as started:
        button(page, "Export as JSON").click()
    assert started.value.suggested_filename == f"job-{id_}.json"
    job = json.loads(started.value.path().read_bytes())
    assert [one["__request"]["status"] for one in job["requests"]] == ["resolved", "error"]
    with page.expect_download() as started:
        button(page, "Export as CSV").click()
    lines = list(csv.DictReader(io.StringIO(started.value.path().read_text("utf-8-sig"))))
    assert [(line["destination"], line["code"]) for line in lines] == [("cg-050", "200"), ("cg-101", "500")]
    assert json.loads(lines[0]["data"]) == {"say": "=1+1"}


def test_a_job_is_controlled(page: Page, site: Site) -> None:
    id_ = site.job(
        "/system/reboot", [*SILENT, *ranges.expand("cg-[061-072]")], "post", concurrency=2, requestTimeout=60
    )
    open_job(page, site, id_)
    button(page, "Pause").click()
    ended(page, "paused")
    expect(button(page, "Pause")).to_be_hidden()
    button(page, "Resume").click()
    ended(page, "dispatching")
    button(page, "Force to end").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 requests in flight will end as unknown")
    expect(page.get_by_role("dialog")).to_contain_text("14 requests that wait will be canceled")
    button(page, "Go back").click()
    button(page, "Cancel").click()
    expect(page.locator(".verdict")).to_contain_text("Ending (canceled by a request)")
    expect(button(page, "Pause")).to_be_hidden()
    button(page, "Force to end").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 requests in flight will end as unknown")
    expect(page.get_by_role("dialog")).to_contain_text("Nothing else waits")
    button(page, "Go back").click()
    expect(page.locator(".verdict")).to_contain_text("Ending")
    button(page, "Force to end").click()
    page.get_by_role("dialog").get_by_role("button", name="Force to end").click()
    ended(page, "canceled")
    expect(page.locator(".verdict")).to_contain_text("2 failed, 14 never ran: canceled by a request.")
    expect(button(page, "2 unknown")).to_be_visible()
    button(page, "Re-run failed").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 unknown, 14 canceled")
    button(page, "Send 16 requests").click()
    page.get_by_role("link", name=f"job {id_}").click()
    ended(page, "canceled")
    page.go_back()
    expect(page.get_by_role("link", name=f"job {id_}")).to_be_visible()
    again = page.url.rpartition("/")[2]
    page.get_by_title("Copy the id of this job").click()
    expect(page.locator(".crumbs .copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == again
    button(page, "Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("It still runs")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    assert [job["parent"] for job in site.ask("GET", "/jobs") if job["parent"] == id_] == []
    page.goto(f"{site.url}#/jobs/{id_ + 1}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"There is no job {id_ + 1}.")


def test_waves_and_their_gates(page: Page, site: Site) -> None:
    to = [*FAILING[:1], *ranges.expand("cg-[001-019]")]
    open_job(page, site, site.job("/system/reboot", to, "post", waves=[1, "50%", "100%"], gate={"soak": 600}))
    expect(page.locator(".gate").first).to_have_text(re.compile("^closed"))
    expect(page.locator(".verdict")).to_contain_text("Waiting at a closed gate: wave 1 failed")
    shoot(page, "waves")
    button(page, "Next wave").click()
    expect(page.locator(".gate").nth(1)).to_have_text(re.compile("^resting"))
    expect(page.locator(".gate").first).to_have_text(re.compile("^passed"))
    expect(button(page, "Next wave")).to_be_hidden()
    button(page, "Cancel").click()
    ended(page, "canceled")


def test_a_loss_is_shown_and_made_good(browser: Browser, page: Page, site: Site) -> None:
    id_ = site.job("/system/time", ["cg-001"])
    open_job(page, site, id_)
    ended(page, "resolved")
    site.gateway.bundle.terminate()
    expect(page.locator("#link")).to_contain_text("not connected since")
    shoot(page, "lost")
    site.gateway.bundle.start()
    expect(page.locator("#link")).to_have_text("connected")
    ended(page, "resolved")


def test_a_gateway_that_hangs_is_noticed(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/time", ["cg-001"]))
    ended(page, "resolved")
    pid = site.gateway.bundle.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        expect(page.locator("#link")).to_have_text(re.compile(r"^not connected since \d\d:\d\d:\d\d$"))
        expect(page.locator("#link")).to_have_attribute("title", re.compile(" UTC"))
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(page.locator("#link")).to_have_text("connected")
    ended(page, "resolved")


def test_a_websocket_that_has_gone_silent_is_left(browser: Browser, site: Site) -> None:
    """What the first one says is lost on its way from some moment on, though it stays open."""
    mute = """
        window.opened_ = 0;
        const Real = WebSocket;
        window.WebSocket = class extends Real {
          constructor(...given) {
            super(...given);
            const first = (window.opened_ += 1) === 1;
            this.addEventListener("message", (event) => {
              if (first && window.mute_) event.stopImmediatePropagation();
            });
          }
        };
    """
    with a_page(browser) as page:
        page.add_init_script(mute)
        job = site.job("/system/info", SILENT[3:], requestTimeout=60)
        open_job(page, site, job)
        expect(button(page, "1 sent")).to_be_visible()
        page.evaluate("window.mute_ = true")
        site.ask("PUT", f"/jobs/{job}", {"status": "canceled", "force": True})
        expect(page.locator(".job-head .badge")).to_have_text("canceled", timeout=40_000)
        assert page.evaluate("opened_") == 2


def test_the_list_notices_too(browser: Browser, site: Site) -> None:
    job = site.job("/system/time", ["cg-001"], name="looked at in the list", startAt="2100-01-01T00:00:00Z")
    with a_page(browser) as page:
        page.goto(f"{site.url}#/?text=looked at in the list")
        card = page.locator(".job")
        expect(card).to_contain_text("pending")
        same = "async () => (await import('/static/jobs.js')).JobsView.prototype.same.call(%s)"
        view = "{ask: async () => ({data: [{id: 1, status: 'pending', counts: {}}]}), jobs: [%s]}"
        assert page.evaluate(same % (view % "{id: 1, status: 'pending', counts: {}}"))
        assert not page.evaluate(same % (view % "{id: 1, status: 'resolved', counts: {}}"))
    site.ask("DELETE", f"/jobs/{job}")


def test_a_gap_begins_anew(browser: Browser, site: Site) -> None:
    """The second message of the first WebSocket never reaches the page."""
    drop = """
        window.opened_ = 0;
        const Real = WebSocket;
        window.WebSocket = class extends Real {
          constructor(...given) {
            super(...given);
            const first = (window.opened_ += 1) === 1;
            let seen = 0;
            this.addEventListener("message", (event) => {
              if (first && (seen += 1) === 2) event.stopImmediatePropagation();
            });
          }
        };
    """
    with a_page(browser) as page:
        page.add_init_script(drop)
        open_job(page, site, site.job("/system/time", GOOD[:12], concurrency=3))
        ended(page, "resolved")
        assert page.evaluate("opened_") == 2
        expect(page.locator(".space .s-resolved")).to_have_count(12)


# -- what the page reckons as the product does -----------------------------------------------------

PATTERNS = [
    "cg-1",
    "cg-[001-003]",
    "[8-11]",
    "00:0c:[09-0b]:[1-2]",
    "[0x09-0x10]",
    "[0A-0C]",
    "a[1-2]b[3-4]c",
]
FAULTY = ["cg-[3-1]", "cg-[01-100]", "a/b", "[0a-0C]", "[0x1-2]", "[1-", "[000001-999999]"]


def test_ranges_are_the_product_s(page: Page) -> None:
    found = page.evaluate(
        "async (all) => { const {expand} = await import('/static/ranges.js'); return all.map(expand); }",
        PATTERNS,
    )
    assert found == [ranges.expand(pattern) for pattern in PATTERNS]
    for pattern in FAULTY:
        with pytest.raises(ValueError):
            ranges.expand(pattern)
    refused = page.evaluate(
        "async (all) => (await import('/static/ranges.js')).read(all.join(' ')).faults.length", FAULTY
    )
    assert refused == len(FAULTY)


def test_numbers_of_answers_keep_their_text(page: Page) -> None:
    text = json.dumps(
        {
            "a": [9007199254740993, -9223372036854775808, 1.0, -0.0, 1e22, 1e-7, 0.1, 5],
            "__proto__": {"b": 1.50},
            "c": "9007199254740993 [1.0]",
            "d": {},
            "e": [],
            "f": None,
        },
        separators=(",", ":"),
    )
    again = "async (text) => JSON.stringify((await import('/static/json.js')).parse(text))"
    assert page.evaluate(again, text) == text
    plain = '{"a":[1,2.5,"x"],"b":null}'
    assert page.evaluate(again, plain) == plain


@pytest.mark.parametrize(
    ("errors", "size"), [("5%", 20), ("5%", 19), ("33.3%", 1000), ("0.1%", 1000), ("29%", 100), ("0%", 7)]
)
def test_what_a_gate_allows_is_the_product_s(page: Page, errors: str, size: int) -> None:
    said = page.evaluate(
        "async ([gate, size]) => (await import('/static/policies.js')).gateLimit(gate, size)",
        [{"errors": errors}, size],
    )
    most = int(said.split()[0])
    policy = Policy.of({"waves": [size], "gate": {"errors": errors}}, 2 * size)
    assert policy.gate_fails(1, most) is None
    assert policy.gate_fails(1, most + 1) is not None


def test_the_sizes_of_waves_come_from_where_they_end(page: Page) -> None:
    found = page.evaluate(
        "async (job) => (await import('/static/policies.js')).waveSizes(job)", {"waveEnds": [1, 21, 201]}
    )
    assert found == [1, 20, 180]


@pytest.mark.parametrize("code", ["destination", "ourLock", "locked"])
def test_reasons_of_one_kind_are_put_together_by_their_code(page: Page, code: str) -> None:
    """Whatever their sentences say."""
    inner = {"status": "pending", "whyCode": code}
    rows = [{"id": one, "__request": {**inner, "why": f"sentence {one}"}} for one in range(3)]
    rows.append({"id": 3, "__request": {"status": "pending", "why": "as told", "whyCode": "new"}})
    said = page.evaluate(
        """async (fresh) => {
          const whys = new (await import('/static/whys.js')).Whys(1, {first: 0});
          return whys.summary.call({...whys, fresh}, {totalCount: 4, counts: {pending: 4}}, 4);
        }""",
        rows,
    )
    assert re.fullmatch("3: [a-z ,]+; 1: as told", said), said


def test_a_spreadsheet_finds_no_formula(page: Page) -> None:
    inner = {
        "destination": "=cmd",
        "status": "error",
        "attempts": 1,
        "result": {"code": -1, "message": '@"a",b'},
    }
    given = [{"id": 1, "method": "get", "resource": "/a", "__request": inner}]
    text = page.evaluate("async (given) => (await import('/static/export.js')).csv(given)", given)
    (line,) = csv.reader(io.StringIO(text))
    assert (line[1], line[10], line[12]) == ("'=cmd", "-1", '\'@"a",b')


# -- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_has_names(browser: Browser, site: Site, scheme: str) -> None:
    waves = [1, 3, 6, "25%", "50%", "100%"]
    id_ = site.job("/system/info", [*GOOD, *FAILING], waves=waves, name=f"narrow and {scheme}")
    with a_page(browser, viewport=NARROW, color_scheme=scheme) as page:
        for view, seen in (("", ".job"), (f"#/jobs/{id_}", ".space .row"), ("#/new", "form")):
            page.goto(f"{site.url}{view}")
            expect(page.locator(seen).first).to_be_visible()
            assert not too_wide(page), view
            assert nameless(page) == [], view
            if view.startswith("#/jobs"):
                _order_of_the_head(page)
            shoot(page, f"narrow-{scheme}-{view.strip('#/').partition('/')[0] or 'list'}")
        page.goto(f"{site.url}#/jobs/{id_}")
        page.get_by_role("tab", name="Gateways").click()
        expect(page.locator("canvas")).to_be_visible()
        assert not too_wide(page)
        shoot(page, f"narrow-{scheme}-grid")
        page.get_by_role("tab", name="Results").click()
        page.locator(".results summary").first.click()
        expect(page.locator(".results .below").first).to_be_visible()
        assert not too_wide(page)
        shoot(page, f"narrow-{scheme}-results")


def _order_of_the_head(page: Page) -> None:
    """The verdict stands above the buttons, and every count is seen without scrolling sideways."""
    verdict = page.locator(".verdict").bounding_box()
    actions = page.locator(".job-head .actions").bounding_box()
    assert verdict
    assert actions
    assert verdict["y"] + verdict["height"] + 4 <= actions["y"]
    for chip in page.locator(".counts-by-status .chip").all():
        box = chip.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= NARROW["width"]


def test_differences_are_stacked_on_a_telephone(browser: Browser, site: Site) -> None:
    site.job("/system/note", GOOD[20:21], "put", data={"note": "y" * 60})
    id_ = site.job("/system/note", GOOD[20:24])
    with a_page(browser, viewport=NARROW) as page:
        page.goto(f"{site.url}#/jobs/{id_}/results")
        ended(page, "resolved")
        page.locator(".results summary").nth(1).click()
        cells = page.locator(".diff tbody tr > *")
        expect(cells).to_have_count(3)
        lefts = {box["x"] for cell in cells.all() if (box := cell.bounding_box())}
        assert len(lefts) == 1
        assert not too_wide(page)


def test_a_telephone_has_a_way_to_sort(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/time", ["cg-002", "cg-003", "cg-001"])
    with a_page(browser, viewport=NARROW) as page:
        open_job(page, site, id_)
        ended(page, "resolved")
        first = page.locator("[aria-rowindex='2'] .c-destination")
        expect(page.get_by_role("button", name="Ascending, turn round")).to_be_disabled()
        page.get_by_label("Sort by").select_option("By destination")
        expect(first).to_have_text("cg-001")
        page.get_by_role("button", name="Ascending, turn round").click()
        expect(first).to_have_text("cg-003")
        page.get_by_label("Sort by").select_option("In order of creation")
        expect(first).to_have_text("cg-002")


def test_keys_are_named_where_there_are_keys(browser: Browser, page: Page, site: Site) -> None:
    expect(page.locator("kbd")).to_be_visible()
    with a_page(browser, has_touch=True) as touched:
        touched.goto(site.url)
        expect(touched.locator(".search")).to_be_visible()
        expect(touched.locator("kbd")).to_be_hidden()


def test_all_of_it_is_reached_by_keyboard(page: Page) -> None:
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(document.activeElement.getAttribute('href') ?? document.activeElement.type) || ''"
            )
        )
    assert reached[:4] == ["#main", "#/", "#/", "#/new"]
    assert reached.count("search") == 2
    assert reached.count("button") >= 7


def test_fifty_thousand_rows_are_forty_in_the_document(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path) as door, a_page(browser) as page:
        id_ = door.ask(
            "POST",
            "/jobs",
            {"batch": [{"method": "get", "resource": "/a", "__request": {"destination": many(50_000)}}]},
        ).json["id"]
        page.goto(f"http://127.0.0.1:{door.port}/#/jobs/{id_}")
        expect(page.locator(".found")).to_have_text("50,000 requests", timeout=60_000)
        page.get_by_role("grid").press("End")
        expect(row(page, "cg-49999")).to_be_visible()
        assert page.locator(".row").count() < 80
        page.get_by_label(re.compile("^Filter requests")).fill("4999")
        expect(page.locator(".found")).to_have_text("15 of 50,000 requests")
        page.get_by_label(re.compile("^Filter requests")).fill("")
        page.get_by_role("tab", name="Gateways").click()
        cells = page.get_by_role("application")
        at: list[int] = []
        for key in ("End", "PageUp", "Home", "PageDown", "ArrowDown"):
            cells.press(key)
            assert page.evaluate(SEEN), key
            at.append(int(page.locator(".caption").inner_text()[3:8]))
        assert at[0] == 49_999
        assert at[2] == 0
        assert 49_999 - at[1] == at[3] >= 1000
        assert 0 < at[4] - at[3] < 400


def test_a_token_is_asked_for(browser: Browser, tmp_path: Path) -> None:
    token = "a-token-of-the-test"
    with running(tmp_path, token=token) as door, a_page(browser) as page:
        page.goto(f"http://127.0.0.1:{door.port}/")
        page.get_by_role("textbox", name="Token").fill("not-the-token")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("This token was not accepted.")
        page.keyboard.press("Escape")
        page.get_by_role("textbox", name="Token").fill(token)
        button(page, "Go on").click()
        expect(page.locator("#link")).to_have_text("connected; the broker cannot be reached")
        why = re.compile(r"no connection to the broker at 127\.0\.0\.1:1: nothing listens there: start")
        expect(page.locator("#link")).to_have_attribute("title", why)
        body = {"batch": [{"method": "get", "resource": "/a", "__request": {"destination": "cg-1"}}]}
        fetch(door.port, "POST", "/jobs", body, Authorization=f"Bearer {token}")
        expect(page.get_by_role("link", name="GET /a")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 1
        assert page.evaluate("localStorage.length") == 0


def test_who_is_away_and_the_way_a_request_went(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, route="direct") as door, a_page(browser) as page:
        monkeypatch.setattr(door.app.site.bus, "send", lambda commands: True)
        tell = door.app.site.dispatcher.post
        tell([LinkChanged(up=True), ControllerChanged(up=True)])
        page.goto(f"http://127.0.0.1:{door.port}/")
        expect(page.locator("#link")).to_contain_text("connected;")
        gateways = page.locator("#gateways")
        expect(gateways).to_be_hidden()
        tell([BridgeChanged(f"cg-{number}", connected=number != 3) for number in (1, 2, 3)])
        expect(gateways).to_have_text("2 gateways connected, 1 away")
        item = {"method": "get", "resource": "/a", "__request": {"destination": ["cg-1", "cg-2", "cg-3"]}}
        fetch(door.port, "POST", "/jobs", {"batch": [item]})
        page.goto(f"http://127.0.0.1:{door.port}/#/jobs/1")
        expect(row(page, "cg-3")).to_contain_text(re.compile("503 not connected since .*: it did not run"))
        row(page, "cg-1").click()
        drawer = page.get_by_role("dialog")
        expect(drawer).to_contain_text("directly to the gateway")
        expect(drawer.locator(".events")).to_contain_text("no answer yet; sent directly")
        tell([BridgeChanged("cg-1", connected=False)])
        expect(drawer.locator(".state-of-it")).to_contain_text("its gateway is not connected since")
        page.keyboard.press("Escape")
        expect(row(page, "cg-1")).to_contain_text("it was sent before, and may have run")
        expect(gateways).to_have_text("1 gateway connected, 2 away")
        tell([BridgeChanged("cg-2", connected=False)])
        expect(row(page, "cg-2")).to_contain_text("it was sent before, and may have run")
        row(page, "cg-3").click()
        expect(drawer).not_to_contain_text("directly to the gateway")
        page.set_viewport_size({"width": 360, "height": 740})
        expect(gateways).to_have_text("0 gateways connected, 3 away")
        assert not too_wide(page)


# -- the files ------------------------------------------------------------------------------------


def test_data_is_never_markup_and_nothing_is_foreign() -> None:
    for file in DASHBOARD.iterdir():
        text = file.read_text("utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|srcdoc", text
        ), file
        assert not re.search(r"(src|href|url|import)[\s=(\"']+(https?:)?//", text), file
    page = (DASHBOARD / "index.html").read_text("utf-8")
    assert page.count("<script") == 1
    assert " style=" not in page


def test_text_stands_out_from_its_ground() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", (DASHBOARD / "style.css").read_text("utf-8"), re.DOTALL)[:2]
    for theme in (light, dark):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", theme))
        inks = [
            name for name in colours if name.endswith("-ink") and name not in ("accent-ink", "danger-ink")
        ]
        for name in (*inks, "ink", "muted", "accent", "danger"):
            for ground in ("panel", "ground", "sunk"):
                assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground, colours[name])


def _contrast(one: str, other: str) -> float:
    """As WCAG 2 has it."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
