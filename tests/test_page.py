"""The page in a real browser, on the demo's fleet: each view, each action, keyboard, names, widths."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from puppetmaster import names
from puppetmaster.rollout import Policy
from sandbox.demo import MACS
from tests.page_site import (
    NARROW,
    Site,
    a_browser,
    a_page,
    nameless,
    require_chromium,
    shoot,
    too_wide,
)
from tests.web_client import fetch, many, running

DASHBOARD = Path(__file__).parent.parent / "puppetmaster" / "dashboard"
SILENT = names.expand("cg-[180-183]")
GOOD = names.expand("cg-[001-040]")
FAILING = names.expand("cg-[101-108]")
ATTACK = "<img src=x onerror=\"document.title='attacked'\">"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require_chromium()
    with a_browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    started = Site(tmp_path_factory.mktemp("page"))
    with started.gateway:
        yield started


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with a_page(browser, accept_downloads=True, permissions=["clipboard-read", "clipboard-write"]) as opened:
        opened.goto(site.url)
        yield opened


def button(page: Page, name: str) -> Locator:
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
    expect(card).to_contain_text("40 of 40")
    expect(card.get_by_role("img")).to_have_attribute("aria-label", "40 resolved")
    expect(page.get_by_role("listitem").filter(has_text="inventory")).to_contain_text("8 not resolved")
    expect(page.get_by_text(ATTACK)).to_be_visible()
    assert page.locator("main img").count() == 0
    shoot(page, "list")
    site.ask("DELETE", f"/jobs/{first}")
    expect(card).to_have_count(0)


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


# -- a new job ------------------------------------------------------------------------------------


def test_a_job_is_made_after_a_dry_run(page: Page, site: Site) -> None:
    page.get_by_role("navigation").get_by_role("link", name="New job").click()
    assert page.locator("input:checked").count() == 0
    page.get_by_label("POST").check()
    page.get_by_label("Resource").fill("/system/reboot")
    page.get_by_label(re.compile("^Data")).fill('{"in": ')
    expect(page.get_by_text("This is not JSON")).to_be_visible()
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
    before = len(site.ask("GET", "/jobs"))
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan).to_contain_text("20 requests would be")
    expect(plan).to_contain_text("1 → 4 → 15")
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


def test_what_is_wrong_with_a_new_job_is_told(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    page.reload()
    expect(page.locator("#link")).to_have_text("connected")
    button(page, "Dry run").click()
    told = page.get_by_role("alert").filter(has_text="cannot be planned")
    for part in ("Method choose one", "Resource it begins with /", "Destinations name at least one"):
        expect(told).to_contain_text(part)
    page.get_by_label("GET").check()
    page.get_by_label("Resource").fill("/system/time")
    page.get_by_label("Destinations").fill("cg-001")
    page.get_by_text("Policies").click()
    page.get_by_label("Sent per second").fill("-3")
    button(page, "Dry run").click()
    expect(page.get_by_role("alert").filter(has_text="rate")).to_be_visible()


# -- a job ----------------------------------------------------------------------------------------


def test_requests_in_a_table(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/info", [*names.expand("cg-[001-120]"), "cg-lost"]))
    ended(page, "resolved, with failures")
    expect(page.locator(".verdict")).to_have_text("112 of 121 requests resolved, 9 did not.")
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


def test_gateways_in_a_grid(page: Page, site: Site) -> None:
    open_job(page, site, site.job("/system/info", names.expand("cg-[090-110]")))
    ended(page, "resolved, with failures")
    page.get_by_role("tab", name="Requests").press("ArrowRight")
    expect(page.get_by_role("tab", name="Gateways")).to_have_attribute("aria-selected", "true")
    cells = page.get_by_role("application")
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


def test_results_in_groups(page: Page, site: Site) -> None:
    site_job = site.job("/system/note", GOOD[:3], "put", data={"note": "x", "other": 1})
    open_job(page, site, site_job)
    ended(page, "resolved")
    open_job(page, site, site.job("/system/note", names.expand("cg-[002-008]")))
    ended(page, "resolved")
    page.get_by_role("tab", name="Results").click()
    expect(page.locator(".results details")).to_have_count(2)
    other = page.locator(".results details").nth(1)
    other.locator("summary").click()
    expect(other.locator("code")).to_have_text(["cg-[002-003]"])
    expect(other.get_by_role("row", name='note absent "x"')).to_be_visible()
    shoot(page, "results")


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
        "/system/reboot", [*SILENT, *names.expand("cg-[061-072]")], "post", concurrency=2, requestTimeout=60
    )
    open_job(page, site, id_)
    button(page, "Pause").click()
    ended(page, "paused")
    expect(button(page, "Pause")).to_be_hidden()
    button(page, "Resume").click()
    ended(page, "dispatching")
    button(page, "Cancel").click()
    expect(page.locator(".verdict")).to_contain_text("Ending (canceled by a request)")
    expect(button(page, "Pause")).to_be_hidden()
    button(page, "Force to end").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 requests in flight will end as unknown")
    button(page, "Go back").click()
    expect(page.locator(".verdict")).to_contain_text("Ending")
    button(page, "Force to end").click()
    page.get_by_role("dialog").get_by_role("button", name="Force to end").click()
    ended(page, "canceled")
    expect(button(page, "2 unknown")).to_be_visible()
    button(page, "Re-run failed").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 unknown, 14 canceled")
    button(page, "Send 16 requests").click()
    expect(page.locator(".about")).to_contain_text(f"re-run of job {id_}")
    button(page, "Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("It still runs")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    assert [job["parent"] for job in site.ask("GET", "/jobs") if job["parent"] == id_] == []
    page.goto(f"{site.url}#/jobs/{id_ + 1}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"There is no job {id_ + 1}.")


def test_waves_and_their_gates(page: Page, site: Site) -> None:
    to = [*FAILING[:1], *names.expand("cg-[001-019]")]
    open_job(page, site, site.job("/system/reboot", to, "post", waves=[1, "50%", "100%"], gate={"soak": 600}))
    expect(page.locator(".gate").first).to_have_text(re.compile("^closed"))
    expect(page.locator(".verdict")).to_contain_text("Waiting at a closed gate: wave 1 failed")
    shoot(page, "waves")
    button(page, "Next wave").click()
    expect(page.locator(".gate").nth(1)).to_have_text(re.compile("^soaking"))
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
    assert found == [names.expand(pattern) for pattern in PATTERNS]
    for pattern in FAULTY:
        with pytest.raises(ValueError):
            names.expand(pattern)
    refused = page.evaluate(
        "async (all) => (await import('/static/ranges.js')).read(all.join(' ')).faults.length", FAULTY
    )
    assert refused == len(FAULTY)


@pytest.mark.parametrize("waves", [[1, "10%", "100%"], ["0.1%", 7], [5, 5, "33.4%"], [900]])
def test_waves_are_the_product_s(page: Page, waves: list[int | str]) -> None:
    found = page.evaluate("async (given) => (await import('/static/waves.js')).waveEnds(given, 201)", waves)
    assert found == list(Policy.of({"waves": waves}, 201).waves)


def test_a_spreadsheet_finds_no_formula(page: Page) -> None:
    inner = {
        "destination": "=cmd",
        "status": "error",
        "attempts": 1,
        "result": {"code": -1, "message": '@"a",b'},
    }
    given = [{"id": 1, "method": "get", "resource": "/a", "__request": inner}]
    text = page.evaluate("async (given) => (await import('/static/actions.js')).csv(given)", given)
    line = next(csv.DictReader(io.StringIO(text)))
    assert (line["destination"], line["code"], line["message"]) == ("'=cmd", "-1", '\'@"a",b')


# -- for everybody --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_has_names(browser: Browser, site: Site, scheme: str) -> None:
    id_ = site.job("/system/info", [*GOOD, *FAILING], waves=[1, "100%"], name=f"narrow and {scheme}")
    with a_page(browser, viewport=NARROW, color_scheme=scheme) as page:
        for view, seen in (("", ".job"), (f"#/jobs/{id_}", ".space .row"), ("#/new", "form")):
            page.goto(f"{site.url}{view}")
            expect(page.locator(seen).first).to_be_visible()
            assert not too_wide(page), view
            assert nameless(page) == [], view
            shoot(page, f"narrow-{scheme}-{view.strip('#/').partition('/')[0] or 'list'}")
        page.goto(f"{site.url}#/jobs/{id_}")
        page.get_by_role("tab", name="Gateways").click()
        expect(page.locator("canvas")).to_be_visible()
        assert not too_wide(page)
        shoot(page, f"narrow-{scheme}-grid")


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
        page.get_by_role("application").press("End")
        expect(page.locator(".caption")).to_contain_text("cg-49999")


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
        expect(page.locator("#link")).to_contain_text("connected, bus: not")
        body = {"batch": [{"method": "get", "resource": "/a", "__request": {"destination": "cg-1"}}]}
        fetch(door.port, "POST", "/jobs", body, Authorization=f"Bearer {token}")
        expect(page.get_by_role("link", name="Job 1")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 1
        assert page.evaluate("localStorage.length") == 0


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
            for ground in ("panel", "ground"):
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
