"""A new job for gateways that are looked for: by labels, by a pattern, or all that are known."""

import re

from playwright.sync_api import Page, Route, expect

from tests.page_site import Site, button, ended, item, open_job, shoot, too_wide

#: Of the demo's fleet: they answer.
THREE = ["cg-011", "cg-012", "cg-013"]


def labelled(site: Site, label: str, names: list[str]) -> None:
    """Make these, and no others, the gateways that have the label."""
    for one in site.ask("GET", f"/gateways?selector={label}"):
        site.ask("PUT", f"/gateways/{one['name']}", {"labels": {}})
    site.ask("POST", "/gateways", [{"name": name, "labels": {label: ""}} for name in names])


def filled(page: Page, site: Site, selector: str) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_label("GET").check()
    page.get_by_label("Resource").fill("/system/time")
    page.get_by_label("Gateways", exact=True).select_option("known ones that fit")
    page.get_by_label("Labels").fill(selector)


def test_a_job_for_labels_is_counted_planned_and_started(page: Page, site: Site) -> None:
    labelled(site, "aim", THREE)
    filled(page, site, "aim")
    said = page.locator("#to-said")
    expect(said).to_have_text("3 known gateways cg-011, cg-012, cg-013")
    expect(page.get_by_label("Destinations")).to_be_hidden()
    page.get_by_label("Without").fill("cg-012, cg-9*")
    expect(said).to_contain_text("The dry run says how many remain without those that are left out.")
    page.reload()
    expect(page.get_by_label("Without")).to_have_value("cg-012, cg-9*")
    expect(said).to_contain_text("3 known gateways")
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan.get_by_role("listitem").first).to_have_text(
        "batch[0] is for 2 gateways: aim, without cg-012 and cg-9*."
    )
    expect(plan.locator(".names code")).to_have_text(["cg-011", "cg-013"])
    shoot(page, "new-labels")
    plan.get_by_role("button", name="Start: GET /system/time on 2 gateways").click()
    ended(page, "resolved")
    (target,) = site.ask("GET", f"/jobs/{page.url.rpartition('/')[2]}")["targets"]
    assert target == {"item": 0, "selector": "aim", "except": ["cg-012", "cg-9*"], "found": 2}


def test_gateways_that_fit_meanwhile_are_shown_and_not_started(page: Page, site: Site) -> None:
    labelled(site, "moved", THREE[:1])
    filled(page, site, "moved")
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan.locator(".names code")).to_have_text(THREE[:1])
    before = len(site.ask("GET", "/jobs"))
    labelled(site, "moved", THREE)
    plan.get_by_role("button", name="Start: GET /system/time on 1 gateway").click()
    expect(page.get_by_role("alert")).to_contain_text("Other gateways fit now than in the dry run.")
    expect(plan.locator(".names code")).to_have_text(THREE)
    assert len(site.ask("GET", "/jobs")) == before
    plan.get_by_role("button", name="Start: GET /system/time on 3 gateways").click()
    ended(page, "resolved")
    assert site.ask("GET", f"/jobs/{page.url.rpartition('/')[2]}")["totalCount"] == 3


def test_a_start_that_nobody_answered_is_found_whoever_fits_by_then(page: Page, site: Site) -> None:
    labelled(site, "unheard", THREE[:1])
    filled(page, site, "unheard")
    button(page, "Dry run").click()
    start = page.get_by_role("button", name="Start: GET /system/time on 1 gateway")
    lost: list[str] = []

    def lose(route: Route) -> None:
        """Let a start arrive, and lose its answer, once."""
        if lost or "dryRun" in (route.request.post_data or "dryRun"):
            route.continue_()
            return
        lost.append(str(route.fetch().json()["id"]))
        route.abort()

    page.route("**/jobs", lose)
    start.click()
    expect(page.get_by_role("alert")).to_contain_text("the job is not started twice")
    labelled(site, "unheard", THREE)
    start.click()
    ended(page, "resolved")
    assert lost == [page.url.rpartition("/")[2]]


def test_what_is_wrong_with_whom_it_is_for_is_told_at_its_field(page: Page, site: Site) -> None:
    site.ask("POST", "/gateways", [{"name": f"known-{number}"} for number in range(9)])
    filled(page, site, "")
    told = page.get_by_role("alert").filter(has_text="missing or wrong").get_by_role("listitem")
    button(page, "Dry run").click()
    expect(told).to_have_text(["Labels: Say which: by labels, by a pattern, or by both."])
    expect(page.get_by_label("Labels")).to_be_focused()
    page.get_by_label("Labels").fill("site=north,!")
    expect(page.locator("#to-said")).to_contain_text("Labels: Expected key, !key")
    page.get_by_label("Pattern").fill("cg-[001-200]")
    page.get_by_label("Without").fill("cg-[1-20]")
    button(page, "Dry run").click()
    expect(told).to_have_text(
        [
            re.compile("^Labels: Expected key, !key"),
            re.compile("^Pattern: Expected no range, for "),
            re.compile("^Without: Expected no range, for "),
        ]
    )
    expect(page.get_by_label("Pattern")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Labels").fill("nobody=has-this")
    page.get_by_label("Pattern").fill("")
    page.get_by_label("Without").fill("")
    expect(page.locator("#to-said")).to_have_text("No known gateway fits.")
    button(page, "Dry run").click()
    expect(told).to_have_text([re.compile("^Labels: Expected gateways that are known")])
    page.get_by_label("Gateways", exact=True).select_option("all that are known")
    expect(page.get_by_label("Labels")).to_be_hidden()
    expect(page.locator("#to-said")).to_contain_text(
        re.compile(r"^[\d,]+ known gateways .* and [\d,]+ more$")
    )
    page.get_by_label("Without").fill("*")
    button(page, "Dry run").click()
    expect(told).to_have_text([re.compile("^Gateways: Expected gateways that are known")])


def test_a_job_for_labels_is_run_again_for_these_or_for_its_gateways(page: Page, site: Site) -> None:
    labelled(site, "again", THREE[:2])
    found = item("get", "/system/time", {"selector": "again", "except": ["cg-9*", "x"]})
    id_ = site.ask("POST", "/jobs", {"batch": [found]})["id"]
    labelled(site, "again", THREE)
    open_job(page, site, id_)
    page.get_by_role("link", name="Run again with changes").click()
    expect(page.locator(".origin .warning")).to_have_text(
        "It was for again, without cg-9*, x: 2 gateways then. Those that fit now are looked for again, "
        "unless you choose under Gateways those that are named: these are the gateways that it went to."
    )
    expect(page.get_by_label("Labels")).to_have_value("again")
    expect(page.get_by_label("Without")).to_have_value("cg-9*\nx")
    expect(page.locator("#to-said")).to_contain_text("3 known gateways")
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan.locator(".names code")).to_have_text(THREE)
    page.get_by_label("Gateways", exact=True).select_option("those named below")
    expect(plan).to_be_hidden()
    page.reload()
    expect(page.get_by_label("Destinations")).to_have_value("cg-[011-012]")
    button(page, "Dry run").click()
    expect(plan.locator(".names code")).to_have_text(THREE[:2])
    page.set_viewport_size({"width": 360, "height": 740})
    assert not too_wide(page)


def test_a_job_that_looked_in_several_ways_is_run_again_by_names(page: Page, site: Site) -> None:
    items = [item("get", "/system/time", {"match": name}) for name in THREE[:2]]
    labelled(site, "known", THREE)
    id_ = site.ask("POST", "/jobs", {"batch": items})["id"]
    page.goto(f"{site.url}#/new?job={id_}")
    expect(page.locator(".origin .warning")).to_have_text(
        "It looked for its gateways in several ways, and this form has one: here are their names."
    )
    expect(page.get_by_label("Destinations")).to_have_value("cg-[011-012]")


def test_the_plan_says_who_is_not_registered_and_leaves_them_out(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_label("GET").check()
    page.get_by_label("Resource").fill("/system/time")
    page.get_by_label("Destinations").fill("cg-[001-003] away-[1-2]")
    button(page, "Dry run").click()
    plan = page.get_by_role("region", name="Dry run")
    expect(plan.get_by_role("listitem").filter(has_text="registered")).to_have_text(
        "2 of 5 gateways are not registered: away-1 and away-2."
    )
    absent = "2 gateways are not registered: what is sent to them"
    expect(plan).to_contain_text(f"{absent} ends as error, and does not run.")
    page.get_by_text("Policies").click()
    page.get_by_label("Waits for gateways, s").fill("60")
    button(page, "Dry run").click()
    expect(plan).to_contain_text(f"{absent} waits until they are back.")
    shoot(page, "new-absent")
    button(page, "Leave them out").click()
    expect(page.get_by_label("Destinations")).to_have_value("cg-[001-003]")
    expect(plan.get_by_role("button", name="Start")).to_have_text("Start: GET /system/time on 3 gateways")
    labelled(site, "absent", ["cg-001", "away-3"])
    filled(page, site, "absent")
    page.get_by_label("Without").fill("x")
    button(page, "Dry run").click()
    expect(plan).to_contain_text("1 gateway is not registered: what is sent to it waits until it is back.")
    button(page, "Leave it out").click()
    expect(page.get_by_label("Without")).to_have_value("x\naway-3")
    expect(plan.locator(".names code")).to_have_text(["cg-001"])
