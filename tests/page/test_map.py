"""The map of a job's gateways in a real browser: all of them at one look, in groups, each within reach."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import needed
from tests.page_site import FAILING, GOOD, WHOLE, Site, a_page, box, open_job, shoot, too_wide

#: Puts a map of these requests onto the page, as a job's view does; ``opened_`` is what a press opened.
MAP = """async ({ names, failed, ends }) => {
  const { Rows } = await import('/static/rows.js');
  const { Grid } = await import('/static/grid.js');
  const rows = new Rows();
  rows.clear(names.map((_, index) => index + 1));
  rows.put(names.map((destination, index) => ({ id: index + 1, method: 'get', resource: '/a', __request: {
    destination, status: failed[index] ?? 'resolved', attempts: 1, result: { code: 200 } } })), false);
  const grid = new Grid(rows, (id) => { window.opened_ = id; });
  grid.waveEnds = ends;
  const panel = document.createElement('section');
  panel.className = 'panel views';
  panel.append(grid.element);
  document.getElementById('main').replaceChildren(panel);
  window.grid_ = grid;
  window.fails_ = (id, status) => {
    const known = rows.get(id);
    rows.put([{ ...known, __request: { ...known.__request, status } }], true);
    grid.draw();
  };
  grid.draw();
}"""
#: The middle of the cell of a request, in the window.
MIDDLE = """(id) => {
  const { cells, places, pitch, canvas } = grid_;
  const [x, y] = places[cells.findIndex(({ ids }) => ids.includes(id))];
  const box = canvas.getBoundingClientRect();
  return [box.left + x + pitch / 2, box.top + y + pitch / 2];
}"""
#: The colour at a place of the window, as the canvas has it.
COLOUR = """([x, y]) => {
  const { canvas } = grid_;
  const box = canvas.getBoundingClientRect();
  const at = [(x - box.left) * devicePixelRatio, (y - box.top) * devicePixelRatio];
  const copy = document.createElement('canvas');
  copy.width = copy.height = 1;
  copy.getContext('2d').drawImage(canvas, -Math.floor(at[0]), -Math.floor(at[1]));
  return [...copy.getContext('2d').getImageData(0, 0, 1, 1).data].join();
}"""
RED = "207,63,37,255"
NAMES = [f"cg-{number:05d}" for number in range(1, 10_001)]
FAILED = {3: "error", 2100: "error", 5555: "timeout", 9999: "error"}
SIZES = [(1400, 900), (360, 740)]


def _show(page: Page, site: Site, names: list[str], failed: dict[int, str] = FAILED, **more: Any) -> None:
    page.goto(site.url)
    expect(page.locator("#link")).to_have_text("connected")
    page.evaluate(MAP, {"names": names, "failed": failed, "ends": None, **more})


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_ten_thousand_gateways_are_seen_at_one_look(
    browser: Browser, site: Site, width: int, height: int
) -> None:
    with a_page(browser, viewport={"width": width, "height": height}) as page:
        _show(page, site, NAMES)
        panel, cells = box(page.locator(".views")), box(page.locator("canvas"))
        assert panel["y"] >= 0
        assert panel["y"] + panel["height"] <= height
        assert cells["y"] + cells["height"] <= panel["y"] + panel["height"]
        assert not too_wide(page)
        assert page.evaluate("grid_.cells.length") == 10_000
        for index, status in FAILED.items():
            x, y = page.evaluate(MIDDLE, index + 1)
            assert 0 <= x <= width
            assert 0 <= y <= height
            if status == "error":
                # It stands out though its cell is small.
                around = [page.evaluate(COLOUR, [x + by, y]) for by in (-2, 0, 2)]
                assert around == [RED] * 3
        expect(page.locator(".legend li")).to_have_text(["resolved", "error", "timeout"])
        expect(page.locator(".group b")).to_have_count(10)
        expect(page.locator(".group").nth(2)).to_contain_text(re.compile("^cg-02001 … cg-030001,000"))
        expect(page.locator(".group").nth(2)).to_contain_text("1 failed")
        expect(page.locator(".group").nth(3)).not_to_contain_text("failed")
        shoot(page, f"map-{width}")


@pytest.fixture
def whole_browser(browser: Browser) -> Iterator[Browser]:
    """The whole browser: in the shell a finger leaves no pointer where it was."""
    needed(WHOLE.exists(), "chromium")
    whole = browser.browser_type.launch(executable_path=WHOLE)
    yield whole
    whole.close()


def test_a_tap_beside_a_failure_opens_it(whole_browser: Browser, site: Site) -> None:
    with a_page(whole_browser, viewport={"width": 360, "height": 740}, has_touch=True) as page:
        _show(page, site, NAMES)
        x, y = page.evaluate(MIDDLE, 5556)
        page.touchscreen.tap(x + 12, y + 9)
        page.wait_for_function("window.opened_ === 5556")
        expect(page.locator(".caption")).to_contain_text("cg-05556: timeout")
        x, y = page.evaluate(MIDDLE, 8000)
        page.touchscreen.tap(x, y)
        page.wait_for_function("window.opened_ > 7900 && window.opened_ <= 8100")


def test_a_mouse_opens_what_it_points_at(browser: Browser, site: Site) -> None:
    with a_page(browser, viewport={"width": 1400, "height": 900}) as page:
        _show(page, site, NAMES)
        x, y = page.evaluate(MIDDLE, 2106)
        page.mouse.move(x, y)
        expect(page.locator(".caption")).to_contain_text("cg-02106: resolved")
        page.mouse.click(x, y)
        assert page.evaluate("opened_") == 2106


def test_fewer_cells_than_gateways_where_they_are_too_many(browser: Browser, site: Site) -> None:
    names = [f"cg-{number:05d}" for number in range(50_000)]
    with a_page(browser, viewport={"width": 360, "height": 740}) as page:
        _show(page, site, names, {40_001: "error"})
        assert box(page.locator(".views"))["height"] <= 740
        expect(page.locator(".caption")).to_have_text(
            re.compile("^A cell is up to 4 gateways, and shows the")
        )
        x, y = page.evaluate(MIDDLE, 40_002)
        page.mouse.move(x, y)
        expect(page.locator(".caption")).to_contain_text(
            "cg-40001: error, the worst of 4 gateways from cg-40000"
        )
        page.mouse.click(x, y)
        assert page.evaluate("opened_") == 40_002


def test_a_legend_of_two_lines_leaves_less_room(browser: Browser, site: Site) -> None:
    with a_page(browser, viewport={"width": 360, "height": 626}) as page:
        _show(page, site, NAMES, {1: "error", 2: "timeout"})
        before = box(page.locator(".legend"))["height"]
        expect(page.locator(".legend li")).to_have_count(3)
        page.evaluate("fails_(4000, 'unknown')")
        expect(page.locator(".legend li")).to_have_count(4)
        assert box(page.locator(".legend"))["height"] > before
        assert page.evaluate("grid_.panel().getBoundingClientRect().height") <= 626


def test_what_is_no_failure_any_more_leaves_no_trace(browser: Browser, site: Site) -> None:
    """Such as a timeout whose answer came late."""
    with a_page(browser, viewport={"width": 360, "height": 740}) as page:
        _show(page, site, NAMES, {4050: "error"})
        beside = [page.evaluate(MIDDLE, 4051)[0] + 2, page.evaluate(MIDDLE, 4051)[1]]
        assert page.evaluate(COLOUR, beside) == RED
        page.evaluate("fails_(4051, 'resolved')")
        assert page.evaluate(COLOUR, beside) != RED
        expect(page.locator(".legend li")).to_have_text(["resolved"])


@pytest.mark.parametrize(
    ("names", "headings"),
    [
        ([f"cg-{number}" for number in range(300)], ["cg-0 … cg-99", "cg-100 … cg-199", "cg-200 … cg-299"]),
        ([f"cg-{number}" for number in range(1, 202)], ["cg-1 … cg-100", "cg-101 … cg-200", "cg-201"]),
        (
            [f"00:0c:29:1c:{part}:{last:02x}" for part in ("e9", "e8") for last in range(256)],
            ["00:0c:29:1c:e8:00 … 00:0c:29:1c:e8:ff", "00:0c:29:1c:e9:00 … 00:0c:29:1c:e9:ff"],
        ),
        (
            [f"cg-000c291c{number:04x}" for number in range(0x3FF, 0, -1)],
            [
                "cg-000c291c0001 … cg-000c291c0100",
                "cg-000c291c0101 … cg-000c291c0200",
                "cg-000c291c0201 … cg-000c291c0300",
                "cg-000c291c0301 … cg-000c291c03ff",
            ],
        ),
    ],
)
def test_names_that_are_alike_stand_together(
    page: Page, site: Site, names: list[str], headings: list[str]
) -> None:
    _show(page, site, names, {})
    expect(page.locator(".group b")).to_have_text(headings)


def test_names_that_have_nothing_in_common_are_in_equal_parts(page: Page, site: Site) -> None:
    _show(page, site, [f"{chr(97 + number % 26)}{chr(97 + number // 26)}x" for number in range(26 * 26)], {})
    expect(page.locator(".group")).to_have_count(12)
    expect(page.locator(".group").first).to_have_text("aax … cex57 gateways")


def test_waves_stand_together(page: Page, site: Site) -> None:
    _show(page, site, NAMES[:300], {1: "unknown"}, ends=[2, 100, 300])
    told = ["Wave 12 gateways1 failed", "Wave 298 gateways", "Wave 3200 gateways"]
    expect(page.locator(".group")).to_have_text(told)
    cells = page.get_by_role("application")
    for key, name in (("Home", 1), ("PageDown", 3), ("ArrowUp", 1), ("ArrowDown", 3), ("End", 300)):
        cells.press(key)
        expect(page.locator(".caption")).to_contain_text(f"cg-{name:05d}: ")
    cells.press("PageUp")
    cells.press("Enter")
    assert page.evaluate("opened_") == 101
    _show(page, site, NAMES[:60], {}, ends=list(range(1, 61)))
    expect(page.locator(".group b")).to_have_text(
        [f"Waves {first} to {first + 4}" for first in range(1, 61, 5)]
    )


def test_the_map_of_a_job_is_led_into_sight(browser: Browser, site: Site) -> None:
    id_ = site.job("/system/info", [*GOOD, *FAILING], waves=[1, "50%", "100%"], gate={"errors": "100%"})
    with a_page(browser, viewport={"width": 360, "height": 740}) as page:
        open_job(page, site, id_, "resolved, with failures")
        page.get_by_role("tab", name="Gateways").click()
        expect(page.locator(".group")).to_have_text(
            ["Wave 11 gateway", "Wave 223 gateways", "Wave 324 gateways8 failed"]
        )
        expect(page.locator("canvas")).to_be_in_viewport(ratio=1)
