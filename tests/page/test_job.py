"""One job in a real browser: its head, its requests, gateways and results, its buttons and waves."""

import csv
import io
import json
import re
from typing import Any

from playwright.sync_api import Browser, Page, Route, expect

from puppetmaster import ranges
from tests.page_site import (
    ATTACK,
    CHECK_S,
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
    later,
    nameless,
    open_job,
    row,
    shoot,
)


def test_requests_in_a_table(page: Page, site: Site) -> None:
    to = [*ranges.expand("cg-[001-120]"), "cg-lost"]
    open_job(page, site, site.job("/system/info", to), "resolved, with failures")
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
    open_job(page, site, site.job("/system/info", ranges.expand("cg-[001-120]")), "resolved, with failures")
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
    cancel(page)
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
    cancel(page)
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
    cancel(page)
    ended(page, "canceled")


def test_what_stands_still_has_no_speed(page: Page, site: Site) -> None:
    to = ranges.expand("cg-[001-040]") * 15
    batch = [item("get", "/system/time", to[at : at + 40]) for at in range(0, len(to), 40)]
    id_ = site.ask("POST", "/jobs", {"batch": batch, "rate": 2})["id"]
    open_job(page, site, id_)
    facts = page.locator(".job-head .facts").first
    expect(facts).to_contain_text(re.compile(r"Rate[\d.]+/sTime leftabout "))
    expect(facts).to_contain_text("Running for")
    button(page, "Pause").click()
    ended(page, "paused")
    expect(facts).not_to_contain_text("Rate")
    expect(facts).not_to_contain_text("Time left")
    expect(facts).to_contain_text(re.compile(r"Started[\d.]+ s ago"))
    expect(facts).to_contain_text(re.compile("Waiting5[89][0-9]: the job is paused$"))
    site.ask("PUT", f"/jobs/{id_}", {"status": "canceled"})
    ended(page, "canceled")


def test_what_all_jobs_have_in_flight_is_what_this_one_has_and_more(browser: Browser, site: Site) -> None:
    """Though the gateway says the one at any time and the other now and then."""
    said = {"openJobs": 1, "inFlight": 99, "window": 40}

    def answer(route: Route) -> None:
        health = route.fetch().json()
        route.fulfill(json={**health, "counters": {**health["counters"], **said}})

    id_ = site.job("/system/time", SILENT[:2], requestTimeout=60)
    with a_page(browser) as page:
        page.clock.install()
        page.route("**/system/puppetmaster", answer)
        open_job(page, site, id_)
        facts = page.locator(".job-head .facts").first
        later(page, CHECK_S)
        expect(facts).to_contain_text("In flight2In flight, all jobs2, window 40")
        said["openJobs"] = 2
        later(page, CHECK_S)
        expect(facts).to_contain_text(
            "In flight2In flight, all jobs99, window 40; those without an answer for"
        )
        said["inFlight"] = 1
        later(page, CHECK_S)
        expect(facts).to_contain_text("In flight2In flight, all jobs2, window 40")
    site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})


def test_what_there_is_none_of_is_quiet(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/time", GOOD[:2]), "resolved")
    looks = (
        "(chip) => [getComputedStyle(chip).borderColor, getComputedStyle(chip.querySelector('svg')).color]"
    )
    there = button(page, "2 resolved").evaluate(looks)
    quiet = [
        button(page, f"0 {status}").evaluate(looks) for status in ("error", "timeout", "unknown", "pending")
    ]
    assert quiet == [["rgba(0, 0, 0, 0)", "rgb(85, 99, 111)"]] * 4
    assert there[0] != quiet[0][0]
    assert there[1] != quiet[0][1]
    button(page, "0 error").click()
    expect(button(page, "0 error")).to_have_attribute("aria-pressed", "true")


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
    to = ["cg-001", "cg-002", "<img>"]
    page.goto(f"{site.url}#/jobs/{site.job('/system/note', to, 'put', data={'note': ATTACK})}?sort=created")
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
    open_job(page, site, job, "resolved, with failures")
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
    open_job(page, site, site.job("/system/info", ranges.expand("cg-[090-110]")), "resolved, with failures")
    page.get_by_role("tab", name="Requests").press("ArrowRight")
    expect(page.get_by_role("tab", name="Gateways")).to_have_attribute("aria-selected", "true")
    cells = page.get_by_role("application")
    caption = box(page.locator(".caption"))
    assert caption["y"] + caption["height"] <= box(cells)["y"]
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
    open_job(page, site, site.job("/system/time", ["cg-002", "cg-003", "cg-001"]), "resolved")
    sort = page.get_by_role("columnheader", name="Destination").get_by_role("button")
    sort.click()
    expect(page.locator("[aria-rowindex='2'] .c-destination")).to_have_text("cg-001")
    page.get_by_role("tab", name="Gateways").click()
    for key, name in (("Home", "cg-002"), ("ArrowRight", "cg-003"), ("End", "cg-001")):
        page.get_by_role("application").press(key)
        expect(page.locator(".caption")).to_contain_text(f"{name}: resolved")


def test_results_in_groups(page: Page, site: Site) -> None:
    id_ = site.job("/system/note", GOOD[:3], "put", data={"note": "x", "other": 1})
    open_job(page, site, id_, "resolved")
    open_job(page, site, site.job("/system/note", ranges.expand("cg-[002-008]")), "resolved")
    page.get_by_role("tab", name="Results").click()
    expect(page.locator(".results details")).to_have_count(2)
    other = page.locator(".results details").nth(1)
    other.locator("summary").click()
    expect(other.locator("code")).to_have_text(["cg-[002-003]"])
    expect(other.get_by_role("row", name='note absent "x"')).to_be_visible()
    shoot(page, "results")


def test_results_line_up_whatever_their_counts(page: Page, site: Site) -> None:
    to = [*FAILING, *ranges.expand("nobody-[0001-1200]")]
    open_job(page, site, site.job("/system/info", to), "resolved, with failures")
    page.get_by_role("tab", name="Results").click()
    lines = page.locator(".results > details > summary")
    expect(lines.nth(1)).to_be_visible()
    expect(lines.locator(".count")).to_have_text(["1,200", "8"])
    assert len({box(one)["x"] for one in lines.locator(".status").all()}) == 1


def test_results_of_one_gateway_alone_are_one_line(page: Page, site: Site) -> None:
    """Each good gateway says its own name: 185 results, and the failures in groups before them."""
    id_ = site.job("/system/info", ranges.expand("cg-[001-200]"), requestTimeout=4)
    open_job(page, site, id_, "resolved, with failures")
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
    quick = ("cg-[001-060]", "cg-[073-100]", "cg-[109-152]")
    to = [name for pattern in quick for name in ranges.expand(pattern)]
    id_ = site.ask("POST", "/jobs", {"batch": [item("get", "/system/info", to)] * 2})["id"]
    page.goto(f"{site.url}#/jobs/{id_}/results")
    ended(page, "resolved")
    expect(page.locator(".results > details")).to_have_count(100)
    button(page, "Show 32 more of 32").click()
    expect(page.locator(".results > details")).to_have_count(132)
    expect(page.locator(".results details.singles")).to_have_count(0)


def test_a_job_is_exported(page: Page, site: Site) -> None:
    id_ = site.job("/system/note", ["cg-050", "cg-101"], "put", data={"say": "=1+1"})
    open_job(page, site, id_, "resolved, with failures")
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
    to = [*SILENT, *ranges.expand("cg-[061-072]")]  # no write: its lock would stay, for other tests too
    id_ = site.job("/system/info", to, concurrency=2, requestTimeout=60)
    open_job(page, site, id_)
    button(page, "Pause").click()
    ended(page, "paused")
    expect(button(page, "Pause")).to_be_disabled()
    button(page, "Resume").click()
    ended(page, "dispatching")
    button(page, "Force to end").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 requests in flight will end as unknown")
    expect(page.get_by_role("dialog")).to_contain_text("14 requests that wait will be canceled")
    button(page, "Go back").click()
    cancel(page)
    expect(page.locator(".verdict")).to_contain_text("Ending (canceled by a request)")
    expect(button(page, "Pause")).to_be_disabled()
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
    button(page, "Open the gate").click()
    expect(page.locator(".gate").nth(1)).to_have_text(re.compile("^resting"))
    expect(page.locator(".gate").first).to_have_text(re.compile("^opened by hand over 1 failure"))
    expect(button(page, "Next wave")).to_be_disabled()
    cancel(page)
    ended(page, "canceled")
