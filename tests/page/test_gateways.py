"""The gateways that are known, in a real browser: listed, filtered, and taken into a new job."""

import re

from playwright.sync_api import Page, expect

from tests.page_site import AGAIN_S, ATTACK, Site, button, later, nameless, shoot, too_wide

SAVE = "Save labels and note"


def test_gateways_are_filtered_and_taken_into_a_new_job(page: Page, site: Site) -> None:
    fleet = [
        {"name": f"gw-{number:02}", "labels": {"site": "north" if number % 2 else "south"}}
        for number in range(1, 61)
    ]
    site.ask("POST", "/gateways", fleet)
    site.ask("PUT", "/gateways/gw-01", {"note": ATTACK, "labels": {"site": "north", "retired": ""}})
    site.job("/system/time", ["cg-033"])
    page.get_by_role("link", name="Gateways").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Gateways")
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
    page.get_by_role("link", name="New job for all that fit").click()
    expect(page.get_by_label("Labels")).to_have_value("site=north,!retired")
    expect(page.get_by_label("Pattern")).to_have_value("gw-*")
    expect(page.locator("#to-said")).to_contain_text("29 known gateways")
    page.set_viewport_size({"width": 360, "height": 700})
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Gateways")
    assert not too_wide(page)


def test_a_new_job_for_those_that_are_ticked(page: Page, site: Site) -> None:
    site.ask("POST", "/gateways", [{"name": f"tick-{number:02}"} for number in range(1, 61)])
    page.goto(f"{site.url}#/new")
    page.get_by_label("Resource").fill("/system/time")
    page.get_by_label("Destinations").fill("cg-001")
    page.goto(f"{site.url}#/gateways?match=tick-*")
    for_ticked = page.get_by_role("link", name=re.compile("^New job for .* ticked$"))
    expect(for_ticked).to_have_attribute("aria-disabled", "true")
    for name in ("tick-03", "tick-02", "tick-07"):
        page.get_by_role("checkbox", name=f"Tick {name}").check()
    every = page.get_by_role("checkbox", name="All on this page")
    expect(every).to_be_checked(indeterminate=True)
    button(page, "Next").click()
    expect(every).not_to_be_checked()
    every.check()
    expect(for_ticked).to_have_text("New job for 13 ticked")
    page.get_by_role("checkbox", name="Tick tick-60").uncheck()
    # A tick stays where the list is read anew, and where one comes back from a gateway.
    page.get_by_role("link", name="tick-51").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("tick-51")
    page.go_back()
    expect(page.get_by_role("checkbox", name="Tick tick-59")).to_be_checked()
    expect(page.get_by_role("checkbox", name="Tick tick-60")).not_to_be_checked()
    for_ticked.click()
    expect(page.get_by_label("Destinations")).to_have_value("tick-[02-03],tick-07,tick-[51-59]")
    expect(page.locator("#to-said")).to_contain_text("12 destinations")
    # What else was typed stays.
    expect(page.get_by_label("Resource")).to_have_value("/system/time")
    expect(page.locator(".origin")).to_have_text("What you had typed stands here too, for other gateways.")
    page.go_back()
    button(page, "Untick all").click()
    expect(for_ticked).to_have_attribute("aria-disabled", "true")
    page.get_by_label("Name").fill("")
    page.get_by_role("link", name="New job for all", exact=True).click()
    expect(page.get_by_label("Gateways", exact=True)).to_have_value("all")


def test_a_gateway_has_its_history_newest_first(page: Page, site: Site) -> None:
    for one in site.ask("GET", "/jobs?destination=cg-190"):
        site.ask("DELETE", f"/jobs/{one['id']}")
    ids = [site.job("/system/time", ["cg-190"], startAt="2100-01-01T00:00:00Z") for _ in range(26)]
    for id_ in ids:
        site.ask("PUT", f"/jobs/{id_}", {"status": "canceled"})
    ids.append(site.job("/system/time", ["cg-190"]))
    failed = site.job("/system/time", ["cg-101"])
    site.ended(ids[-1])
    page.goto(f"{site.url}#/gateways?match=cg-190")
    page.get_by_role("link", name="cg-190").click()
    expect(page).to_have_url(f"{site.url}#/gateways/cg-190")
    its = page.get_by_role("region", name="Its requests, newest first")
    first = its.get_by_role("row").nth(1)
    expect(first.get_by_role("cell").nth(2)).to_have_text(f"Job {ids[-1]}")
    expect(first).to_contain_text("resolved")
    expect(first).to_contain_text("200")
    expect(its).to_contain_text(re.compile("1.25 of 27 requests"))
    shoot(page, "gateway")
    assert nameless(page) == []
    button(page, "Older").click()
    expect(its).to_contain_text(re.compile("26.27 of 27 requests"))
    expect(its.get_by_role("link", name=re.compile("^Job"))).to_have_text(
        [f"Job {id_}" for id_ in ids[1::-1]]
    )
    expect(button(page, "Older")).to_be_disabled()
    page.reload()
    expect(its).to_contain_text(re.compile("26.27 of 27 requests"))
    its.get_by_role("link", name="GET /system/time").last.click()
    expect(page.get_by_role("dialog").get_by_role("heading", level=2)).to_have_text("cg-190")
    expect(page).to_have_url(re.compile(f"#/jobs/{ids[0]}\\?request="))
    page.goto(f"{site.url}#/gateways/cg-190?failed=true")
    expect(its).to_contain_text("No request of it failed, of those that are kept.")
    page.goto(f"{site.url}#/gateways/cg-101")
    button(page, "only failures").click()
    expect(its.get_by_role("link", name=f"Job {failed}", exact=True)).to_be_visible()
    expect(page).to_have_url(f"{site.url}#/gateways/cg-101?failed=true")
    page.get_by_role("link", name="New job for it").click()
    expect(page.get_by_label("Destinations")).to_have_value("cg-101")
    page.set_viewport_size({"width": 360, "height": 700})
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("cg-101")
    assert not too_wide(page)


def test_labels_and_note_of_a_gateway_are_changed(page: Page, site: Site) -> None:
    name = "00:0c:29:aa:bb:cc"
    site.ask("PUT", f"/gateways/{name}", {"labels": {"site": "north", "old": ""}, "note": "by the door"})
    page.goto(f"{site.url}#/gateways/{name}")
    labels, note, save = (
        page.get_by_label("Labels", exact=True),
        page.get_by_label("Note", exact=True),
        button(page, SAVE),
    )
    expect(labels).to_have_value("old, site=north")
    expect(save).to_have_attribute("aria-disabled", "true")
    labels.fill("site=south retired")
    save.click()
    expect(page.get_by_text(f"The labels and the note of {name} are saved.")).to_be_visible()
    expect(labels).to_have_value("retired, site=south")
    known = site.ask("GET", f"/gateways/{name}")
    assert (known["labels"], known["note"]) == ({"site": "south", "retired": ""}, "by the door")
    fault = page.get_by_role("form").get_by_role("alert")
    labels.fill("site=north, site=south")
    save.click()
    expect(fault).to_have_text("Labels: site stands there twice.")
    labels.fill("site=north!")
    save.click()
    expect(fault).to_contain_text("labels.site: Expected as a value at most 63")
    # What somebody else saved meanwhile is not undone unseen.
    labels.fill("site=west")
    note.fill("")
    site.ask("PUT", f"/gateways/{name}", {"labels": {"site": "east"}})
    save.click()
    expect(fault).to_contain_text("They were changed meanwhile: site=east; by the door. Nothing was saved")
    assert site.ask("GET", f"/gateways/{name}")["labels"] == {"site": "east"}
    expect(save).to_have_attribute("aria-busy", "false")
    save.click()
    expect(note).to_have_value("")
    expect(fault).to_be_hidden()
    known = site.ask("GET", f"/gateways/{name}")
    assert (known["labels"], known["note"]) == ({"site": "west"}, None)
    labels.fill("site=nowhere")
    button(page, "Undo what was typed").click()
    expect(labels).to_have_value("site=west")


def test_a_gateway_that_is_not_known_is_told(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/gateways/nobody%25")
    expect(page.get_by_role("heading", level=1)).to_have_text("nobody%")
    expect(page.get_by_text("No gateway of this name is known")).to_be_visible()
    expect(page.get_by_role("form")).to_be_hidden()
    page.goto(f"{site.url}#/gateways/%E0")
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page.")


def test_gateways_are_found_by_who_is_registered(page: Page, site: Site) -> None:
    site.ask("POST", "/gateways", [{"name": "cg-191"}, {"name": "cg-191-away"}])
    page.clock.install()
    page.reload()
    page.goto(f"{site.url}#/gateways?match=cg-191*")
    names = page.get_by_role("row").get_by_role("link")
    site.ask("GET", "/gateways?match=cg-191*&check=true")
    page.get_by_label("Registered").select_option("not registered")
    expect(names).to_have_text(["cg-191-away"])
    for_all = page.get_by_role("link", name="New job for all that fit")
    expect(for_all).to_have_attribute("aria-disabled", "true")
    expect(for_all).to_have_attribute(
        "title", re.compile("^A job looks for labels and names, not for what is")
    )
    page.reload()
    expect(page.get_by_label("Registered")).to_have_value("false")
    page.get_by_label("Registered").select_option("registered")
    expect(names).to_have_text(["cg-191"])
    expect(page.get_by_text("registered", exact=True).last).to_have_attribute(
        "title", re.compile("^The controller said so at ")
    )
    page.get_by_label("Registered").select_option("any")
    page.get_by_label("Labels").fill("nobody=has-this")
    expect(for_all).to_have_attribute("title", "No gateway fits.")
    page.get_by_label("Labels").fill("")
    names.first.click()
    facts = page.get_by_role("region", name="Gateway", exact=True)
    expect(facts).to_contain_text(re.compile(r"Isregistered.*Checked\d\d:.*Last seen.*Last result"))
    id_ = site.job("/system/time", ["cg-191"])
    button(page, "Check now").click()
    site.ended(id_)
    later(page, AGAIN_S)  # it is read anew by itself
    expect(facts).to_contain_text(re.compile(r"Last seen(just now|\d+ s ago).*Last resultresolved 200"))


ROWS = """async () => {
  const {el, keptRows} = await import('/static/dom.js');
  const place = el('tbody');
  document.querySelector('main').append(el('table', {}, place));
  const put = keptRows(place);
  const make = ([name, note]) => el('tr', {}, el('td', {}, el('button', {}, name)), el('td', {}, note));
  const items = (...some) => some.map((one) => [one[0], one]);
  put(items(['a', '1'], ['b', '1']), make);
  const [first, second] = place.children;
  first.querySelector('button').focus();
  put(items(['a', '2'], ['b', '1']), make);
  const kept = place.children[0] === first && document.activeElement.textContent;
  put(items(['c', '3'], ['b', '1']), make);
  return [kept, first.textContent, place.textContent, place.children[1] === second];
}"""


def test_rows_that_are_read_anew_keep_the_focus(page: Page) -> None:
    assert page.evaluate(ROWS) == ["a", "a2", "c3b1", True]
