"""The form of a new job in a real browser: what is typed arrives, what is wrong is told."""

import csv
import io
import json
import re
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from puppetmaster.api.fields import NEW_JOB, at
from puppetmaster.api.kinds import Form
from tests.page_site import GOOD, NARROW, Site, a_page, box, button, ended, item, open_job, row, shoot


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
            "It starts at once: 2 Jan 2020, 03:04:05 is past.",
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


def test_the_form_has_a_field_for_each_policy_of_the_api(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    groups = [one for one in NEW_JOB if (one.given or one.name == "timeout") and one.name != "rerun"]
    paths = {f"{one.name}.{part.name}" for one in groups for part in one.parts}
    paths |= {one.name for one in groups if not one.parts}
    # There is one command here: of a gateway's requests none comes behind another.
    paths = {path for path in paths if at(path).kind.form is not Form.ANY} - {"onFail"}
    names = "all => all.map((one) => one.name)"
    found = page.locator(".grid-of-fields").locator("input, select").evaluate_all(names)
    assert sorted(found) == sorted(paths)
    on_fail = page.locator("[name='gate.onFail'] option").evaluate_all("all => all.map((one) => one.value)")
    assert on_fail == ["", *at("gate.onFail").kind.schema["enum"]]


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
    told = page.get_by_role("alert").filter(has_text="missing or wrong")
    expect(told.get_by_role("heading")).to_have_text("3 things are missing or wrong. Nothing was sent.")
    expect(told.get_by_role("listitem")).to_have_text(
        [
            "Method: Choose GET, POST, PUT or DELETE.",
            "Resource: Say which, such as /system/time.",
            "Destinations: Name at least one gateway.",
        ]
    )
    expect(page.get_by_label("GET")).to_be_focused()
    expect(page.get_by_label("Resource")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Resource")).to_have_accessible_description("Say which, such as /system/time.")
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
    expect(told.get_by_role("listitem")).to_have_text(
        [
            "Sent per second: Expected a number from 0.0001 to 100000, got -3.",
            re.compile("^Gate: failures allowed: Expected waves"),
        ]
    )
    expect(page.get_by_label("Gate: failures allowed")).to_be_focused()
    expect(page.get_by_label("Sent per second")).to_have_accessible_description(re.compile(r"got -3\.$"))
    shoot(page, "new-faults")


def test_all_that_is_wrong_is_told_at_once(browser: Browser, site: Site) -> None:
    """What the page sees and what the gateway sees; on a telephone above the fields."""
    with a_page(browser, viewport=NARROW) as page:
        page.goto(f"{site.url}#/new")
        page.get_by_label("Resource").fill("system")
        page.get_by_label(re.compile("^Data")).fill('{"a": }')
        page.get_by_label("Destinations").fill("cg-[9-1] a/b cg-001")
        page.get_by_text("Policies").click()
        page.get_by_label("Sent per second").fill("-3")
        page.get_by_label("Whole job within, s").fill("soon")
        button(page, "Dry run").click()
        told = page.get_by_role("alert").filter(has_text="missing or wrong")
        expect(told.get_by_role("listitem")).to_have_text(
            [
                "Method: Choose GET, POST, PUT or DELETE.",
                "Resource: It begins with /, such as /system/time.",
                "Data: Line 1, column 7: This is not JSON: expected a value, found }.",
                "Destinations: [9-1]: expected the smaller bound first.",
                re.compile("^Destinations: a/b: expected a name or a range .*[.]$"),
                "Whole job within, s: Expected a number, got soon.",
                "Sent per second: Expected a number from 0.0001 to 100000, got -3.",
            ]
        )
        expect(told).to_be_in_viewport()
        expect(page.get_by_label("GET")).to_be_focused()
        panel = box(told)
        assert panel["y"] + panel["height"] <= box(page.locator("form"))["y"]
        shoot(page, "new-all-faults")


def test_what_stands_in_the_form_survives_back_and_reload(page: Page, site: Site) -> None:
    page.get_by_role("navigation").get_by_role("link", name="New job").click()
    page.get_by_label("POST").check()
    page.get_by_label("Resource").fill("/system/reboot")
    page.get_by_label(re.compile("^Data")).fill('{"in": 9007199254740993}')
    page.get_by_label("Destinations").fill("cg-[001-004]")
    page.get_by_text("Policies").click()
    page.get_by_label("Waves").fill("1, 50%")
    page.get_by_label("May be sent twice").select_option("no")

    def kept() -> None:
        expect(page.get_by_label("POST")).to_be_checked()
        expect(page.get_by_label("Resource")).to_have_value("/system/reboot")
        expect(page.get_by_label(re.compile("^Data"))).to_have_value('{"in": 9007199254740993}')
        expect(page.locator("#to-said")).to_contain_text("4 destinations")
        expect(page.get_by_label("Waves")).to_have_value("1, 50%")
        expect(page.get_by_label("May be sent twice")).to_have_value("false")

    page.reload()
    kept()
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    page.go_back()
    kept()
    button(page, "Dry run").click()
    page.get_by_role("button", name=re.compile("^Start: POST")).click()
    ended(page, "resolved")
    id_ = page.url.rpartition("/")[2]
    page.go_back()
    kept()
    expect(page.locator(".origin")).to_have_text(
        f"Job {id_} was started with this. Starting it again makes another job."
    )
    page.get_by_role("link", name=f"Job {id_}").click()
    ended(page, "resolved")  # it is shown
    page.get_by_role("navigation").get_by_role("link", name="New job").click()
    expect(page.get_by_label("Resource")).to_have_value("")
    page.go_back()
    page.go_back()
    kept()
    button(page, "Clear the form").click()
    expect(page.get_by_label("Resource")).to_have_value("")
    expect(page.get_by_label("POST")).not_to_be_checked()
    page.reload()
    expect(page.get_by_label("Destinations")).to_have_value("")


POLICIES: dict[str, Any] = {
    "name": "to be run again",
    "timeout": 3600,
    "requestTimeout": 30,
    "concurrency": "50%",
    "rate": 40,
    "retry": {"attempts": 3, "on": ["error"], "delay": 1, "factor": 3, "maxDelay": 60},
    "idempotent": False,
    "abort": {"errors": "90%", "after": 12},
    "waves": [1, "50%", "100%"],
    "gate": {"errors": "100%", "soak": 0.5, "onFail": "abort"},
}


def test_a_job_is_run_again_with_changes(page: Page, site: Site) -> None:
    data = {"serial": 9007199254740993, "f": 1.0, "list": [1, 2]}
    to = [*GOOD[4:9], "cg-001", "00:0c:29:1c:e8:02"]
    id_ = site.job("/system/note", to, "put", data=data, startAt="2020-01-02T03:04:05Z", **POLICIES)
    open_job(page, site, id_)
    page.get_by_role("link", name="Run again with changes").click()
    expect(page.locator(".origin")).to_contain_text(f"This is Job {id_} again.")
    expect(page.locator(".origin")).to_contain_text(
        re.compile("Its time to start, 2 Jan 2020.* is past, and is")
    )
    expect(page).to_have_url(f"{site.url}#/new")
    expect(page.get_by_label("Destinations")).to_have_value("cg-[005-009]\ncg-001\n00:0c:29:1c:e8:02")
    page.get_by_label("Name").fill("changed")
    page.reload()
    expect(page.get_by_label("Name")).to_have_value("changed")
    expect(page.locator("#link")).to_have_text("connected")
    button(page, "Dry run").click()
    page.get_by_role("button", name=re.compile("^Start: PUT")).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("changed")
    again = site.ask("GET", f"/jobs/{page.url.rpartition('/')[2]}")
    assert {name: again.get(name) for name in POLICIES} == {**POLICIES, "name": "changed"}
    assert [one["__request"]["destination"] for one in again["requests"]] == to
    assert json.dumps(again["requests"][0]["data"]) == json.dumps(data)
    assert again["parent"] is None
    site.ask("DELETE", f"/jobs/{again['id']}")
    site.ask("DELETE", f"/jobs/{id_}")


def test_what_a_form_cannot_say_of_a_job_is_told(page: Page, site: Site) -> None:
    items = [item("get", f"/system/{part}", GOOD[:many]) for part, many in (("time", 3), ("info", 2))]
    items[0]["code"] = 200
    id_ = site.ask("POST", "/jobs", {"batch": items, "startAt": "2100-01-02T03:04:05Z"})["id"]
    page.goto(f"{site.url}#/new?job={id_}")
    expect(page.locator(".origin .warning")).to_have_text(
        [
            "It has 2 different commands, and this form has one: here is the first, GET /system/time, "
            "with its 3 gateways.",
            "It sends events, which have a code. This form cannot: it would send commands.",
        ]
    )
    expect(page.get_by_label("Starts at")).not_to_have_value("")
    site.ask("DELETE", f"/jobs/{id_}")
    page.goto(site.url)
    page.goto(f"{site.url}#/new?job={id_}")
    expect(page.locator(".origin")).to_contain_text(f"Job {id_} could not be loaded. There is no job {id_}")


DROP = """(files) => {
  const data = new DataTransfer();
  for (const [name, said] of files) data.items.add(new File([said], name, {type: 'text/plain'}));
  const form = document.querySelector('form');
  const event = (name) => new DragEvent(name, {dataTransfer: data, bubbles: true, cancelable: true});
  const over = !form.dispatchEvent(event('dragover')) && form.classList.contains('over');
  return [over, !form.dispatchEvent(event('drop')), form.classList.contains('over')];
}"""


def test_destinations_come_from_a_file(page: Page, site: Site) -> None:
    page.goto(f"{site.url}#/new")
    page.get_by_label("Destinations").fill("cg-001")
    assert page.evaluate(DROP, [["fleet.txt", "cg-[002-011]\n\ncg-001,cg-020\n"]]) == [True, True, False]
    expect(page.get_by_label("Destinations")).to_have_value("cg-001\ncg-[002-011]\n\ncg-001,cg-020")
    expect(page.locator(".of-file")).to_contain_text("12 destinations from fleet.txt.")
    expect(page.locator("#to-said")).to_contain_text("12 destinations")
    expect(page.locator("#to-said")).to_contain_text("1 duplicate, each taken once: cg-001")
    with page.expect_file_chooser() as chosen:
        button(page, "Add a file").click()
    files: list[FilePayload] = [
        {"name": "more.csv", "mimeType": "text/csv", "buffer": b"cg-030;cg-031"},
        {"name": "image.png", "mimeType": "image/png", "buffer": b"\x89PNG\x00"},
    ]
    chosen.value.set_files(files)
    expect(page.locator("#to-said")).to_contain_text("14 destinations")
    expect(page.locator(".of-file")).to_contain_text(
        "image.png was not read: expected a text with the names of"
    )
    page.reload()
    expect(page.locator("#to-said")).to_contain_text("14 destinations")


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
