"""The form of a new job in a real browser: what is typed arrives, what is wrong is told."""

import csv
import io
import json
import re
import urllib.request

import pytest
from playwright.sync_api import Page, expect

from tests.page_site import Site, button, ended, row, shoot


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
            re.compile("^It starts at once: 2020-01-0.* is past.$"),
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
    told = page.get_by_role("alert").filter(has_text="cannot be planned")
    for part in ("Method choose one", "Resource it begins with /", "Destinations name at least one"):
        expect(told).to_contain_text(part)
    expect(page.get_by_label("GET")).to_be_focused()
    expect(page.get_by_label("Resource")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Resource")).to_have_accessible_description("it begins with /")
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
    told = page.get_by_role("alert").filter(has_text="does not take it")
    expect(told.get_by_role("listitem")).to_have_text(
        [
            re.compile("^Sent per second expected a number from 0.0001 to 100000"),
            re.compile("^Gate: failures allowed expected waves"),
        ]
    )
    expect(page.get_by_label("Gate: failures allowed")).to_be_focused()
    expect(page.get_by_label("Sent per second")).to_have_accessible_description(re.compile("got -3$"))
    shoot(page, "new-faults")


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
