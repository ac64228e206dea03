"""The page for everybody: widths, keyboard, names, size, token; and what its files may hold."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from puppetmaster.bus.client import BridgeChanged, ConnectionChanged, ControllerChanged
from tests import ROOT
from tests.page_site import (
    CHECK_S,
    FAILING,
    GOOD,
    NARROW,
    Site,
    a_page,
    box,
    button,
    ended,
    later,
    nameless,
    open_job,
    row,
    shoot,
    too_wide,
)
from tests.web_client import batch, many, running

# -- for everybody ---------------------------------------------------------------------------------


#: Whether the marked cell of the map is in sight.
SEEN = """(() => {
    const cell = document.querySelector(".marker").getBoundingClientRect();
    const box = document.querySelector(".cells").getBoundingClientRect();
    const top = Math.max(box.top, 0), bottom = Math.min(box.bottom, innerHeight);
    return cell.height > 0 && cell.top >= top && cell.bottom <= bottom;
})()"""


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


def test_the_frame_is_whole_at_each_width(page: Page, site: Site) -> None:
    page.goto(site.url)
    for width in (1400, 860, 700, 640, 360):
        page.set_viewport_size({"width": width, "height": 740})
        frame = box(page.locator(".top"))
        links = [box(one) for one in page.locator(".top nav a").all()]
        assert box(page.locator(".brand img"))["y"] >= 4, f"the mark is cut at {width} px"
        assert all(one["y"] + one["height"] <= frame["y"] + frame["height"] for one in links)
        assert len({one["y"] for one in links}) == 1, f"the links are on one line at {width} px"
        texts = page.locator(".top nav a").evaluate_all(
            "all => all.map(one => { const r = document.createRange(); r.selectNodeContents(one);"
            " return r.getClientRects().length; })"
        )
        assert texts == [1] * len(links), f"no link is broken into two lines at {width} px"
        assert frame["height"] <= (56 if width > 640 else 90)


def _order_of_the_head(page: Page) -> None:
    """The verdict stands above the buttons, and every count is seen without scrolling sideways."""
    verdict = box(page.locator(".verdict"))
    assert verdict["y"] + verdict["height"] + 4 <= box(page.locator(".job-head .actions"))["y"]
    for chip in page.locator(".counts-by-status .chip").all():
        at = box(chip)
        assert at["x"] >= 0
        assert at["x"] + at["width"] <= NARROW["width"]


def test_differences_are_stacked_on_a_telephone(browser: Browser, site: Site) -> None:
    site.job("/system/note", GOOD[20:21], "put", data={"note": "y" * 60})
    id_ = site.job("/system/note", GOOD[20:24])
    with a_page(browser, viewport=NARROW) as page:
        page.goto(f"{site.url}#/jobs/{id_}/results")
        ended(page, "resolved")
        page.locator(".results summary").nth(1).click()
        cells = page.locator(".diff tbody tr > *")
        expect(cells).to_have_count(3)
        assert len({box(cell)["x"] for cell in cells.all()}) == 1
        assert not too_wide(page)


def test_a_telephone_has_a_way_to_sort(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/time", ["cg-002", "cg-003", "cg-001"])
    with a_page(browser, viewport=NARROW) as page:
        open_job(page, site, id_, "resolved")
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
    for _ in range(16):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(document.activeElement.getAttribute('href') ?? document.activeElement.type) || ''"
            )
        )
    assert reached[:6] == ["#main", "#/", "#/", "#/gateways", "#/templates", "#/new"]
    assert reached.count("search") == 2
    assert reached.count("button") >= 7


def test_fifty_thousand_rows_are_forty_in_the_document(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path) as door, a_page(browser) as page:
        id_ = door.ask("POST", "/jobs", batch(*many(50_000))).json["id"]
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
        assert at[:4] == [49_999, 40_000, 0, 10_000]
        assert 0 < at[4] - at[3] < 500


def test_times_in_sentences_are_in_the_zone_of_whoever_looks(browser: Browser, site: Site) -> None:
    """What a device says stays as it is."""
    windows = {"cron": "30 17 31 12 *", "duration": 60}
    id_ = site.job("/system/time", GOOD[:2], maintenance=windows)
    at = "1 Jan 20\\d\\d, 01:30:00"
    with a_page(browser, timezone_id="Asia/Taipei") as page:
        open_job(page, site, id_)
        expect(row(page, GOOD[0])).to_contain_text(re.compile(f"the maintenance window at {at}"))
        expect(page.locator(".job-head .facts").first).to_contain_text(re.compile(f"window at {at}"))
        row(page, GOOD[0]).click()
        expect(page.locator(".state-of-it")).to_contain_text(re.compile(f"window at {at}"))
        page.goto(f"{site.url}#/new?job={id_}")
        expect(page.get_by_label("Resource")).to_have_value("/system/time")
        button(page, "Dry run").click()
        plan = page.get_by_role("region", name="Dry run")
        expect(plan).to_contain_text(re.compile(f"the next one opens at {at}"))
        said = page.evaluate("""async () => {
            const { messageOf } = await import('/static/words.js');
            const message = 'since 2026-01-02T23:00:00.000Z';
            return ['puppetmaster', 'device'].map((source) => messageOf({ source, message }));
        }""")
        assert said == ["since 3 Jan 2026, 07:00:00", "since 2026-01-02T23:00:00.000Z"]
    site.ask("DELETE", f"/jobs/{id_}")


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
        door.ask("POST", "/jobs", batch("cg-1"), Authorization=f"Bearer {token}")
        expect(page.get_by_role("link", name="GET /system/time")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 1
        assert page.evaluate("localStorage.length") == 0


def test_who_is_away_and_the_way_a_request_went(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, route="direct") as door, a_page(browser) as page:
        monkeypatch.setattr(door.app.site.bus, "send", lambda commands: True)
        tell = door.app.site.dispatcher.post
        tell([ConnectionChanged(up=True), ControllerChanged(up=True)])
        page.clock.install()
        page.goto(f"http://127.0.0.1:{door.port}/")
        expect(page.locator("#link")).to_contain_text("connected;")
        gateways = page.locator("#gateways")
        expect(gateways).to_be_hidden()
        tell([BridgeChanged(f"cg-{number}", connected=number != 3) for number in (1, 2, 3)])
        later(page, CHECK_S)
        expect(gateways).to_have_text("2 gateways connected, 1 away")
        door.ask("POST", "/jobs", batch("cg-1", "cg-2", "cg-3"))
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
        later(page, CHECK_S)
        expect(gateways).to_have_text("1 gateway connected, 2 away")
        tell([BridgeChanged("cg-2", connected=False)])
        expect(row(page, "cg-2")).to_contain_text("it was sent before, and may have run")
        row(page, "cg-3").click()
        expect(drawer).not_to_contain_text("directly to the gateway")
        page.set_viewport_size({"width": 360, "height": 740})
        later(page, CHECK_S)
        expect(gateways).to_have_text("0 gateways connected, 3 away")
        assert not too_wide(page)


# -- the files -------------------------------------------------------------------------------------


DASHBOARD = ROOT / "puppetmaster" / "dashboard"


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
