"""What the page does to a job: no slip of the hand hurts, and nothing is done later than it was asked for."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

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
    open_job,
    shoot,
)
from tests.web_proxy import WebProxy

#: The controls of a job in waves that starts later: it has all that there are.
NAMES = ["Pause", "Resume", "Next wave", "Start now", "Cancel", "Re-run failed", "Force to end", "Delete"]


@pytest.fixture
def told(page: Page) -> list[str]:
    """What the page tells the gateway to do, as it does."""
    found: list[str] = []
    page.on(
        "request",
        lambda one: found.append(f"{one.method} {one.post_data}") if one.method != "GET" else None,
    )
    return found


def places(page: Page) -> dict[str, tuple[float, float, float]]:
    """Where the controls of a job are, and how wide."""
    found = {}
    for name in NAMES:
        at = box(button(page, name))
        found[name] = (at["x"], at["y"], at["width"])
    return found


def twice(page: Page, control: Locator) -> None:
    """Two quick clicks at one place, and two more as a double click."""
    at = box(control)
    x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
    page.mouse.click(x, y)
    page.mouse.click(x, y)
    page.mouse.dblclick(x, y)


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def test_each_control_keeps_its_place_in_every_status(page: Page, site: Site) -> None:
    to = [*FAILING[:1], *GOOD[:3], *SILENT[:2]]
    id_ = site.job(
        "/system/info", to, waves=[1, 3, "100%"], startAt="2100-01-01T00:00:00Z", requestTimeout=60
    )
    open_job(page, site, id_, "pending")
    able: dict[str, list[str]] = {name: [] for name in NAMES}
    at = places(page)

    def look(status: str) -> None:
        assert places(page) == at, status
        for name in NAMES:
            if button(page, name).get_attribute("aria-disabled") == "false":
                able[name].append(status)

    look("pending")
    button(page, "Pause").click()
    ended(page, "paused")
    look("paused")
    button(page, "Resume").click()
    ended(page, "pending")
    button(page, "Start now").click()
    expect(page.locator(".verdict")).to_contain_text("closed gate")
    expect(button(page, "Start now")).to_have_attribute("aria-busy", "false")
    look("closed")
    button(page, "Next wave").click()
    button(page, "Open the gate").click()
    expect(button(page, "2 sent")).to_be_visible()
    expect(button(page, "Next wave")).to_have_attribute("aria-busy", "false")
    look("running")
    cancel(page)
    expect(page.locator(".verdict")).to_contain_text("Ending")
    expect(button(page, "Cancel")).to_have_attribute("aria-busy", "false")
    look("ending")
    button(page, "Force to end").click()
    dialog(page).get_by_role("button", name="Force to end").click()
    ended(page, "canceled")
    expect(button(page, "Force to end")).to_have_attribute("aria-busy", "false")
    look("ended")
    assert able == {
        "Pause": ["pending", "running"],
        "Resume": ["paused"],
        "Next wave": ["closed"],
        "Start now": ["pending"],
        "Cancel": ["pending", "paused", "closed", "running"],
        "Re-run failed": ["ended"],
        "Force to end": ["running", "ending"],
        "Delete": ["pending", "paused", "closed", "running", "ending", "ended"],
    }
    expect(button(page, "Pause")).to_have_accessible_description("The job has ended.")
    for _ in range(2):  # who points with a finger is told by pressing
        button(page, "Pause").click(force=True)
    expect(page.locator(".note")).to_have_text(["The job has ended.✕"])


def test_a_job_has_no_control_for_what_it_can_never_do(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/time", GOOD[:1]), "resolved")
    expect(button(page, "Next wave")).to_have_count(0)
    expect(button(page, "Start now")).to_have_count(0)


@pytest.mark.parametrize("name", NAMES)
def test_a_double_click_does_one_thing_at_most(page: Page, site: Site, told: list[str], name: str) -> None:
    """Whichever control it is on: what asks is not answered by it, and what does not ask is done once."""
    future = {"startAt": "2100-01-01T00:00:00Z"} if name in ("Start now", "Resume") else {}
    to = FAILING[:1] if name == "Re-run failed" else SILENT[:3]
    if name == "Next wave":
        id_ = site.job("/system/info", [*FAILING[:1], *SILENT[:2]], waves=[1, 2, 3], requestTimeout=60)
    else:
        id_ = site.job("/system/info", to, concurrency=2, requestTimeout=60, **future)
    open_job(page, site, id_)
    if name == "Resume":
        button(page, "Pause").click()
    expect(button(page, name)).to_be_enabled()
    expect(button(page, name)).to_have_attribute("aria-busy", "false")
    told.clear()
    twice(page, button(page, name))
    once = {
        "Pause": 'PUT {"status":"paused"}',
        "Resume": 'PUT {"status":"dispatching"}',
        "Start now": 'PUT {"status":"dispatching"}',
    }
    if name in once:
        expect(button(page, name)).to_have_attribute("aria-busy", "false")
        expect(button(page, name)).to_be_disabled()
        assert told == [once[name]]
    else:
        expect(dialog(page)).to_have_count(1)
        assert told == []
        page.keyboard.press("Escape")
        expect(button(page, name)).to_be_focused()
        assert told == []
    if name == "Re-run failed":
        return
    site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})
    ended(page, "canceled")


def test_a_press_is_one_press_for_a_while(page: Page) -> None:
    """However fast the answer is. What cannot be done, or was asked for and not meant, is not done at all."""
    expect(page.locator("#link")).to_have_text("connected")
    pressed = page.evaluate("""async () => {
        const { control } = await import('/static/control.js');
        let times = 0, asked = 0;
        const work = async () => { times += 1; };
        const press = async (one) => {
            one.click();
            await new Promise((done) => { setTimeout(done, 50); });
            one.click();
        };
        await press(control('Do', { work }));
        await press(control('Do', { work, ask: async () => (asked += 1) < 0 }));
        await press(control('Do', { work, ask: () => new Promise(() => { asked += 1; }) }));
        const not = control('Do', { work });
        not.allow('It is done.');
        await press(not);
        return [times, asked];
    }""")
    assert pressed == [1, 3]


def test_a_double_click_on_a_row_opens_its_request(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/time", GOOD[:3]), "resolved")
    page.locator(".space .row").first.dblclick()
    expect(dialog(page).get_by_role("heading", level=2)).to_have_text(GOOD[0])


def test_a_gate_that_failed_asks_and_says_so_for_ever(page: Page, site: Site) -> None:
    to = [*FAILING, *GOOD[:2], *GOOD[2:14]]
    id_ = site.job("/system/info", to, waves=[10, "100%"], name="firmware 7.2")
    open_job(page, site, id_)
    expect(page.locator(".gate")).to_have_text(re.compile("^closed"))
    shoot(page, "gate-closed")
    button(page, "Next wave").click()
    expect(dialog(page)).to_have_accessible_name("Open the gate though wave 1 failed?")
    for part in (
        f"firmware 7.2 (job {id_})",
        "Wave 1 failed its gate: 8 of 10 requests failed, and at most 0 may.",
        "Failed in wave 18 errorcg-[101-108]",
        "Wave 2 reaches12 requestscg-[003-014]",
    ):
        expect(dialog(page)).to_contain_text(part)
    expect(button(page, "Go back")).to_be_focused()
    shoot(page, "dialog-gate")
    button(page, "Go back").click()
    expect(button(page, "Next wave")).to_be_focused()
    expect(page.locator(".gate")).to_have_text(re.compile("^closed"))
    button(page, "Next wave").press("Enter")
    button(page, "Open the gate").click()
    ended(page, "resolved, with failures")
    page.reload()
    expect(page.locator(".gate")).to_have_text(re.compile("^opened by hand over 8 failures"))
    expect(page.locator(".gate")).to_have_attribute("title", re.compile(r"was opened by hand at .* UTC\)"))
    expect(page.locator(".about")).to_contain_text("Gate behind wave 1opened by hand over 8 failures, ")
    expect(page.locator(".waves")).not_to_contain_text("passed")
    (gate,) = site.ask("GET", f"/jobs/{id_}")["openedGates"]
    assert (gate["wave"], gate["failed"]) == (1, 8)


def test_a_question_about_what_has_changed_is_not_answered(page: Page, site: Site) -> None:
    """Somebody else opens the gate meanwhile, and the next one fails too: that one was not meant."""
    id_ = site.job("/system/info", FAILING[:3], waves=[1, 2, 3])
    open_job(page, site, id_)
    button(page, "Next wave").click()
    site.ask("PUT", f"/jobs/{id_}", {"status": "dispatching"})
    expect(page.locator(".gate").first).to_have_text(re.compile("^opened by hand"))
    expect(page.locator(".gate").nth(1)).to_have_text(re.compile("^closed"))
    button(page, "Open the gate").click()
    expect(page.get_by_role("alert")).to_contain_text("The job has changed meanwhile. Nothing was sent")
    assert [gate["wave"] for gate in site.ask("GET", f"/jobs/{id_}")["openedGates"]] == [1]
    cancel(page)
    ended(page, "canceled")


def test_a_question_that_has_just_opened_takes_no_press(page: Page) -> None:
    """It was meant for what was there before it."""
    at_once = page.evaluate(
        "async () => { const {confirm} = await import('/static/dialogs.js');"
        " window.said = confirm({title: 'Sure?', sentence: 'It is for ever.', action: 'Yes'});"
        " const yes = document.querySelector('dialog [value=yes]'); yes.click(); return yes.disabled; }"
    )
    assert at_once
    button(page, "Yes").click()
    assert page.evaluate("window.said")


def test_what_ends_a_job_names_whom_it_reaches(page: Page, site: Site) -> None:
    to = [*FAILING[:2], *SILENT[:1], *GOOD[:4]]
    id_ = site.job("/system/info", to, concurrency=1, requestTimeout=60, name="night")
    open_job(page, site, id_)
    expect(button(page, "1 sent")).to_be_visible()
    expect(button(page, "4 pending")).to_be_visible()
    waiting, flight = "Will not run4 waitingcg-[001-004]", f"In flight1{SILENT[0]}"
    for name in ("Cancel", "Force to end", "Delete"):
        button(page, name).click()
        expect(dialog(page)).to_contain_text(f"night (job {id_})")
        for part in (waiting, flight, "Failed so far2 errorcg-[101-102]"):
            expect(dialog(page)).to_contain_text(part)
        shoot(page, f"dialog-{name.split()[0].lower()}")
        button(page, "Go back").click()
    # It does not stand out beside what is pressed daily.
    look = "(one) => [getComputedStyle(one).backgroundColor, getComputedStyle(one).borderTopColor].join()"
    clear = "rgba(0, 0, 0, 0),rgba(0, 0, 0, 0)"
    assert button(page, "Delete").evaluate(look) == clear
    button(page, "Force to end").click()
    dialog(page).get_by_role("button", name="Force to end").click()
    ended(page, "canceled")
    assert button(page, "Re-run failed").evaluate(look) != clear


def test_after_an_action_the_focus_is_where_one_goes_on(page: Page, site: Site) -> None:
    id_ = site.job("/system/info", SILENT[:2], concurrency=1, requestTimeout=60)
    open_job(page, site, id_)
    button(page, "Pause").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    ended(page, "paused")
    expect(button(page, "Pause")).to_be_focused()
    button(page, "Cancel").press("Enter")
    expect(button(page, "Cancel the job")).to_be_enabled()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("Ending")
    expect(button(page, "Cancel")).to_be_focused()
    button(page, "Delete").press("Enter")
    dialog(page).get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    expect(page.locator("main")).to_be_focused()


# -- while nobody answers --------------------------------------------------------------------------


@contextmanager
def stopped(site: Site) -> Iterator[None]:
    """The bundle takes everything in and answers nothing."""
    pid = site.gateway.bundle.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_pressed_control_shows_that_it_works(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/info", SILENT[:2], concurrency=1, requestTimeout=60)
    with WebProxy(site.port) as proxy, a_page(browser) as page:
        page.goto(f"{proxy.url}#/jobs/{id_}")
        expect(page.locator("#link")).to_have_text("connected")
        before = button(page, "Pause").bounding_box()
        proxy.hold()
        button(page, "Pause").click()
        expect(button(page, "Pause")).to_have_attribute("aria-busy", "true")
        shoot(page, "busy")
        expect(button(page, "Pause")).to_be_disabled()
        assert button(page, "Pause").bounding_box() == before
        proxy.release()
        ended(page, "paused")
        expect(button(page, "Pause")).to_have_attribute("aria-busy", "false")
        site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})
        ended(page, "canceled")


def test_nothing_is_asked_of_who_does_not_answer(page: Page, site: Site, told: list[str]) -> None:
    id_ = site.job("/system/info", SILENT[:2], concurrency=1, requestTimeout=60)
    open_job(page, site, id_)
    expect(page.locator("#link")).to_have_text("connected")
    expect(button(page, "1 sent")).to_be_visible()
    button(page, "Cancel").click()
    expect(button(page, "Cancel the job")).to_be_enabled()
    with stopped(site):
        button(page, "Cancel the job").click()
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("puppetmaster did not answer. Nothing was sent.")
        expect(page.locator("#link")).to_contain_text(re.compile("does not answer|not connected since"))
        for name in ("Pause", "Cancel", "Force to end", "Delete"):
            expect(button(page, name)).to_be_disabled()
            expect(button(page, name)).to_have_accessible_description(
                re.compile("^(puppetmaster does not answer|This page is not connected).$")
            )
        expect(page.locator(".stopped")).to_contain_text("These buttons work again by themselves.")
        shoot(page, "dead")
        button(page, "Delete").click(force=True)
        expect(dialog(page)).to_have_count(0)
        expect(page.locator("#link")).to_have_text(re.compile(r"^not connected since \d\d:\d\d:\d\d$"))
        expect(page.locator("#link")).to_have_attribute("title", re.compile(" UTC"))
    expect(page.locator("#link")).to_have_text("connected")
    expect(page.locator(".stopped")).to_be_empty()
    assert told == []
    assert site.ask("GET", f"/jobs/{id_}?limit=0")["status"] == "dispatching"
    button(page, "Pause").click()
    ended(page, "paused")
    site.ask("DELETE", f"/jobs/{id_}")


def test_an_answer_after_more_than_two_seconds_stops_controls(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/info", SILENT[:2], concurrency=1, requestTimeout=60)
    with WebProxy(site.port) as proxy, a_page(browser) as page:
        page.goto(f"{proxy.url}#/jobs/{id_}")
        expect(page.locator("#link")).to_have_text("connected")
        button(page, "Cancel").click()
        proxy.hold()
        # Within the time in which it is not called lost yet.
        expect(page.locator("#link")).to_have_text("puppetmaster does not answer")
        expect(button(page, "Cancel the job")).to_be_disabled()
        expect(dialog(page)).to_contain_text("puppetmaster does not answer.")
        page.keyboard.press("Escape")
        expect(button(page, "Cancel")).to_be_disabled()
        proxy.release()
        expect(page.locator("#link")).to_have_text("connected")
        expect(button(page, "Cancel")).to_be_enabled()
        assert not [one for one in proxy.passed if not one.startswith("GET")]
        site.ask("PUT", f"/jobs/{id_}", {"status": "canceled", "force": True})
        ended(page, "canceled")


def test_who_answers_is_asked_though_the_page_is_not_connected_yet(page: Page) -> None:
    """As just after a reload, when somebody is quick."""
    batch = [item("get", "/a", "cg-001")]
    planned = page.evaluate(
        "async (body) => { (await import('/static/link.js')).setLink('This page is not connected yet.');"
        " return (await (await import('/static/api.js')).call('POST', '/jobs', body)).data.totalCount; }",
        {"dryRun": True, "batch": batch},
    )
    assert planned == 1


def test_a_new_job_is_not_sent_into_the_void(page: Page, site: Site, told: list[str]) -> None:
    page.goto(f"{site.url}#/new")
    expect(page.locator("#link")).to_have_text("connected")
    page.get_by_label("GET").check()
    page.get_by_label("Resource").fill("/system/time")
    page.get_by_label("Destinations").fill("cg-001")
    button(page, "Dry run").click()
    start = page.get_by_role("button", name=re.compile("^Start"))
    expect(start).to_be_enabled()
    told.clear()
    jobs = len(site.ask("GET", "/jobs"))
    with stopped(site):
        start.click()
        expect(page.locator(".faults")).to_contain_text("Nothing was sent. Nothing was started.")
    expect(page.locator("#link")).to_have_text("connected")
    assert told == []
    assert len(site.ask("GET", "/jobs")) == jobs


@pytest.mark.parametrize(("control", "meant"), [("Re-run failed", "Send 1 request"), ("Run now", "Start")])
def test_a_press_that_nobody_answered_makes_one_job(page: Page, site: Site, control: str, meant: str) -> None:
    """The next press finds the job that is there: no command is sent twice because an answer was lost."""
    job = site.job("/system/info", FAILING[:1])
    site.ended(job)
    kept = {"name": f"of {job}", "job": {"batch": [item("get", "/system/time", GOOD[:1])]}}
    template = site.ask("POST", "/templates", kept)["id"]
    lost: list[int] = []

    def lose(route: Route) -> None:
        """Let it arrive, and lose its answer, once."""
        if lost or route.request.method != "POST":
            route.continue_()
            return
        lost.append(route.fetch().json()["id"])
        route.abort()

    def press() -> None:
        button(page, control).click()
        dialog(page).get_by_role("button", name=meant).click()

    page.goto(f"{site.url}#/{f'jobs/{job}' if control == 'Re-run failed' else f'templates/{template}'}")
    page.route("**/jobs", lose)
    press()
    expect(page.get_by_role("alert")).to_contain_text("Whether it was done is not known yet.")
    expect(button(page, control)).to_have_attribute("aria-busy", "false")
    press()
    expect(page).to_have_url(re.compile("#/jobs/(?!" + str(job) + "$)"))
    assert page.url == f"{site.url}#/jobs/{lost[0]}"
    # A key that the page made tells nobody anything.
    expect(page.locator(".about")).to_contain_text("Command")
    expect(page.locator(".about")).not_to_contain_text("Key")


def test_a_question_goes_with_what_it_asks_about(page: Page, site: Site) -> None:
    first, second = (site.job("/system/time", GOOD[:1]) for _ in range(2))
    open_job(page, site, first, "resolved")
    open_job(page, site, second, "resolved")
    button(page, "Delete").click()
    expect(dialog(page)).to_be_visible()
    page.go_back()
    expect(dialog(page)).to_have_count(0)
    expect(page).to_have_url(f"{site.url}#/jobs/{first}")
    assert {job["id"] for job in site.ask("GET", "/jobs")} >= {first, second}
