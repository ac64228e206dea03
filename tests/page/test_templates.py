"""Templates in a real browser: kept from a job, given a schedule that was seen first, run, changed, gone."""

import re

from playwright.sync_api import Page, expect

from tests.page_site import ATTACK, Site, button, item, nameless, open_job, shoot, too_wide


def kept(site: Site, name: str, method: str = "get", **more: object) -> int:
    body = {"name": name, "job": {"batch": [item(method, "/system/time", ["cg-001", "cg-002"])]}, **more}
    return int(site.ask("POST", "/templates", body)["id"])


def test_a_job_is_saved_as_a_template_and_gets_a_schedule(page: Page, site: Site) -> None:
    id_ = site.job("/system/time", ["cg-035", "cg-036"], concurrency=1)
    open_job(page, site, id_)
    page.get_by_role("link", name="Save as template").click()
    expect(page.locator(".origin")).to_contain_text("The dry run lets you save it as a template.")
    button(page, "Dry run").click()
    page.get_by_label("Template", exact=True).fill(f"nightly {ATTACK}")
    button(page, "Save as template").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"nightly {ATTACK}")
    template = site.ask("GET", "/templates")[-1]
    assert template["job"]["batch"][0]["__request"] == {"destination": ["cg-035", "cg-036"]}
    assert (template["job"]["concurrency"], template["schedule"]) == (1, None)
    # The next starts are seen before it is saved.
    save = button(page, "Save the schedule")
    expect(save).to_have_attribute("aria-disabled", "true")
    page.get_by_label("Cron").fill("61 3 * * *")
    button(page, "Show the next starts").click()
    expect(page.get_by_role("form").get_by_role("alert")).to_contain_text(
        "Cron: Expected 0 to 59 as the minute"
    )
    page.get_by_label("Cron").fill("0 3 * * *")
    page.get_by_label("Time zone").fill("Europe/Berlin")
    expect(save).to_have_attribute("aria-disabled", "true")
    button(page, "Show the next starts").click()
    expect(page.locator(".seen li")).to_have_count(5)
    expect(page.locator(".seen")).to_contain_text(
        "It starts by itself at 0 3 * * * (Europe/Berlin), first at"
    )
    assert site.ask("GET", f"/templates/{template['id']}")["schedule"] is None
    page.get_by_label("While a job of it runs").select_option("one start waits")
    expect(save).to_have_attribute("aria-disabled", "true")
    button(page, "Show the next starts").click()
    shoot(page, "template")
    assert nameless(page) == []
    save.click()
    expect(page.get_by_text("The schedule is saved.")).to_be_visible()
    schedule = site.ask("GET", f"/templates/{template['id']}")["schedule"]
    assert (schedule["cron"], schedule["timezone"], schedule["overlap"]) == (
        "0 3 * * *",
        "Europe/Berlin",
        "queue",
    )
    page.get_by_role("link", name="Templates", exact=True).first.click()
    row = page.get_by_role("row").filter(has_text="0 3 * * * Europe/Berlin")
    expect(row).to_contain_text("GET /system/time to cg-035, cg-036")
    assert page.locator("main img").count() == 0
    shoot(page, "templates")
    assert nameless(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert not too_wide(page)
    row.get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"nightly {ATTACK}")
    assert not too_wide(page)


def test_a_template_is_run_now_and_has_a_history(page: Page, site: Site) -> None:
    id_ = kept(site, "read the time")
    page.goto(f"{site.url}#/templates/{id_}")
    expect(page.get_by_text("No job was started from it, of those that are kept.")).to_be_visible()
    button(page, "Run now").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("GET /system/time to cg-001, cg-002")
    dialog.get_by_role("button", name="Start").click()
    expect(page.get_by_role("link", name=f"template {id_}")).to_be_visible()
    page.get_by_role("link", name=f"template {id_}").click()
    jobs = page.get_by_role("region", name="Its jobs, newest first")
    expect(jobs.get_by_role("row")).to_have_count(2)
    expect(jobs).to_contain_text("2 resolved")
    expect(page.get_by_role("region", name="Template")).to_contain_text("by hand")


def test_it_is_run_with_changes_or_changed(page: Page, site: Site) -> None:
    id_ = kept(site, "run with changes")
    site.ask("PUT", f"/templates/{id_}", {"job": {**site.ask("GET", f"/templates/{id_}")["job"], "rate": 50}})
    page.goto(f"{site.url}#/templates/{id_}")
    page.get_by_role("link", name="Run with changes").click()
    expect(page.locator(".origin")).to_contain_text("This is the job of run with changes.")
    expect(page.get_by_label("Sent per second")).to_have_value("50")
    page.get_by_label("Sent per second").fill("")
    page.get_by_label("Destinations").fill("cg-003")
    button(page, "Dry run").click()
    start = button(page, "Start: GET /system/time on 1 gateway")
    expect(start).to_be_enabled()
    start.click()
    expect(page).to_have_url(re.compile("#/jobs/"))
    (job,) = site.ask("GET", f"/jobs?template={id_}")
    assert ("rate" in job, job["totalCount"]) == (False, 1)
    page.goto(f"{site.url}#/new?template={id_}")
    expect(page.locator(".origin")).to_contain_text("This is the job of run with changes.")
    page.get_by_label("Destinations").fill("cg-004")
    button(page, "Dry run").click()
    button(page, "Keep it in the template").click()
    expect(page).to_have_url(f"{site.url}#/templates/{id_}")
    changed = site.ask("GET", f"/templates/{id_}")["job"]
    assert (changed["batch"][0]["__request"], changed["rate"]) == ({"destination": ["cg-004"]}, 50)


def test_a_schedule_is_switched_off_and_on_and_a_template_deleted(page: Page, site: Site) -> None:
    schedule = {"cron": "0 3 * * *", "timezone": "UTC"}
    id_ = kept(site, "switched", method="post", schedule=schedule)
    page.goto(f"{site.url}#/templates/{id_}")
    dialog = page.get_by_role("dialog")
    button(page, "Switch off").click()
    expect(dialog).to_contain_text("Would start")
    dialog.get_by_role("button", name="Switch off").click()
    expect(button(page, "Switch on")).to_be_visible()
    assert site.ask("GET", f"/templates/{id_}")["nextAt"] is None
    button(page, "Switch on").click()
    expect(dialog).to_contain_text("It makes up for nothing that was before.")
    dialog.get_by_role("button", name="Go back").click()
    assert site.ask("GET", f"/templates/{id_}")["nextAt"] is None
    button(page, "Switch on").click()
    dialog.get_by_role("button", name="Switch on").click()
    expect(button(page, "Switch off")).to_be_visible()
    assert site.ask("GET", f"/templates/{id_}")["nextAt"] is not None
    button(page, "Remove the schedule").click()
    dialog.get_by_role("button", name="Remove the schedule").click()
    expect(button(page, "Remove the schedule")).to_be_hidden()
    button(page, "Delete the template").click()
    dialog.get_by_role("button", name="Delete").click()
    expect(page).to_have_url(f"{site.url}#/templates")
    page.goto(f"{site.url}#/templates/{id_}")
    expect(page.get_by_text(f"There is no template {id_}.")).to_be_visible()
