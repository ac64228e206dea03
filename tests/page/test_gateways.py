"""The gateways that are known, in a real browser: listed, filtered, and taken into a new job."""

import re

from playwright.sync_api import Page, expect

from tests.page_site import ATTACK, Site, nameless, shoot, too_wide


def test_gateways_are_filtered_and_taken_into_a_new_job(page: Page, site: Site) -> None:
    fleet = [
        {"name": f"gw-{number:02}", "labels": {"site": "north" if number % 2 else "south"}}
        for number in range(1, 61)
    ]
    site.ask("POST", "/gateways", fleet)
    site.ask("PUT", "/gateways/gw-01", {"note": ATTACK, "labels": {"site": "north", "retired": ""}})
    site.job("/system/time", ["cg-033"])
    page.get_by_role("link", name="Gateways").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="cg-033", exact=True))
    page.get_by_label("Name").fill("cg-033")
    expect(row).to_contain_text("resolved 200")
    page.get_by_label("Name").fill("gw-*")
    expect(page.get_by_text(re.compile("^1.50 of 60 gateways$"))).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text(re.compile("^51.60 of 60 gateways$"))).to_be_visible()
    page.get_by_label("Labels").fill("site=north,!reti")
    expect(page.get_by_text(re.compile("^1.30 of 30 gateways$"))).to_be_visible()
    expect(page.get_by_text(ATTACK)).to_be_visible()
    assert page.locator("main img").count() == 0
    shoot(page, "gateways")
    assert nameless(page) == []
    page.get_by_label("Labels").fill("site=north,!")
    expect(page.get_by_role("alert")).to_contain_text("selector: expected key, !key")
    page.get_by_label("Labels").fill("site=north,!retired")
    expect(page).to_have_url(re.compile("selector=site"))
    page.reload()
    expect(page.get_by_text(re.compile("^1.29 of 29 gateways$"))).to_be_visible()
    page.get_by_role("link", name="New job for these").click()
    expect(page.get_by_text("These are the 29 gateways that you looked for")).to_be_visible()
    expect(page.get_by_label("Destinations")).to_have_value(re.compile(r"^gw-03\ngw-05\n"))
    page.set_viewport_size({"width": 360, "height": 700})
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Gateways")
    assert not too_wide(page)
