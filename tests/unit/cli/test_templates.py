"""The commands about templates, against a bundle without a bus."""

import json
from typing import Any

import pytest

from tests.terminal import Run, typed
from tests.web_client import Door, batch

REBOOT = ("--to", "cg-[1-3]", "post", "/system/reboot")


@pytest.fixture
def run(door: Door) -> Run:
    """Run a command; it must end well unless a test says otherwise."""
    return typed(door.url, code=0)


def kept(door: Door, number: int = 1) -> Any:
    return door.ask("GET", f"/templates/{number}").json


def test_a_command_is_kept_with_a_schedule(run: Run, door: Door) -> None:
    shown = run(
        *("templates", "set", "nightly", *REBOOT, "--concurrency", "10%", "--cron", "0 3 * * 1-5"),
        *("--timezone", "Europe/Berlin", "--missed", "run", "--maintenance", "0 2 * * *"),
        *("--maintenance-for", "2h"),
    ).stdout
    assert "template 1: nightly" in shown
    assert "post /system/reboot to cg-[1-3]" in shown
    assert "0 3 * * 1-5 Europe/Berlin" in shown
    template = kept(door)
    times = {"cron": "0 3 * * 1-5", "timezone": "Europe/Berlin"}
    assert template["schedule"] == {**times, "enabled": True, "missed": "run", "overlap": "skip"}
    assert template["job"]["batch"][0]["__request"] == {"destination": ["cg-1", "cg-2", "cg-3"]}
    assert template["job"]["concurrency"] == "10%"
    assert template["job"]["maintenance"] == {"cron": "0 2 * * *", "duration": 7200}
    assert "key" not in template["job"]


def test_what_is_not_said_stays(run: Run, door: Door) -> None:
    run("templates", "set", "nightly", *REBOOT, "--cron", "0 3 * * *")
    run("templates", "set", "nightly", "--overlap", "queue", "--concurrency", "2")
    template = kept(door)
    assert (template["schedule"]["cron"], template["schedule"]["overlap"]) == ("0 3 * * *", "queue")
    assert (template["job"]["concurrency"], template["job"]["batch"][0]["method"]) == (2, "post")
    run("templates", "set", "1", "--match", "cg-*", "--rename", "other", "--by-hand")
    template = kept(door)
    assert (template["name"], template["schedule"]) == ("other", None)
    assert template["job"]["batch"][0]["__request"] == {"destination": {"match": "cg-*"}}
    assert "post /system/reboot to match cg-*" in run("templates", "show", "other").stdout


def test_a_whole_job_from_a_file(run: Run, door: Door) -> None:
    run("templates", "set", "t", "--file", "-", text=json.dumps(batch("a", "b")))
    assert kept(door)["job"] == batch("a", "b")


def test_an_item_may_name_its_gateways_beside_its_request(run: Run, door: Door) -> None:
    one = {"method": "get", "resource": "/a", "__destination": ["a", "b"], "__request": {}}
    shown = run("templates", "set", "t", "--file", "-", text=json.dumps({"batch": [one]})).stdout
    assert "get /a to a, b" in shown
    run("templates", "set", "t", "--to", "c")
    assert kept(door)["job"]["batch"] == [
        {"method": "get", "resource": "/a", "__request": {"destination": ["c"]}}
    ]
    assert kept(door)["job"] == {"batch": kept(door)["job"]["batch"]}


def test_a_dry_run_shows_the_next_starts_and_keeps_nothing(run: Run, door: Door) -> None:
    shown = run("templates", "set", "t", *REBOOT, "--cron", "0 3 * * *", "--dry-run")
    assert "This is a dry run: nothing was kept." in shown.output
    assert shown.stdout.count("T03:00:00.000Z") == 6
    assert "It starts by itself at 0 3 * * * (UTC)" in shown.stdout
    assert door.ask("GET", "/templates").json == []


def test_all_that_is_wrong_is_named_as_it_is_typed(run: Run, door: Door) -> None:
    said = run(
        *("templates", "set", "t", "--to", "a", "post", "x", "--cron", "61 3 * * *", "--timezone", "Nowhere"),
        *("--rate", "0", "--start-at", "2026-01-02T03:04:05Z"),
        code=2,
    ).stderr
    assert "5 things are wrong, and nothing was changed" in said
    for place in ("--cron: ", "--timezone: ", "--rate: ", "--start-at: ", "RESOURCE: "):
        assert f"  {place}" in said
    assert door.ask("GET", "/templates").json == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "t", *REBOOT, "--cron", "0 3 * * *", "--by-hand"), "expected --by-hand, or a schedule"),
        (("set", "t", *REBOOT, "--wait"), "expected no --wait"),
        (("set", "t", *REBOOT, "--all"), "got both"),
        (("show", "nothing"), "There is no template 'nothing': ids are whole numbers."),
        (("run", "7"), "There is no template 7: 'puppetmaster templates list' shows those there are."),
        (("delete", "7"), "There is no template 7"),
    ],
)
def test_what_cannot_be_meant(shared: Door, words: tuple[str, ...], said: str) -> None:
    assert said in typed(shared.url, code=2)("templates", *words).stderr


def test_a_start_by_hand_with_changes(run: Run, door: Door) -> None:
    job = batch("a", "b", retry={"attempts": 3, "delay": 1}, concurrency=2)
    door.ask("POST", "/templates", {"name": "t", "job": job})
    assert "job 1: 2 requests" in run("templates", "run", "t").stdout
    run("templates", "run", "1", "--to", "x", "--attempts", "2", "--name", "mine", "--concurrency", "1")
    (mine, plain) = door.ask("GET", "/jobs?template=1").json
    assert (mine["name"], mine["totalCount"], mine["concurrency"]) == ("mine", 1, 1)
    assert mine["retry"] == {"attempts": 2, "delay": 1}
    assert plain["key"].startswith("cli-")
    assert plain["key"] != mine["key"]
    assert "dry run" in run("templates", "run", "t", "--dry-run").stdout
    assert len(door.ask("GET", "/jobs").json) == 2
    assert len(json.loads(run("list", "--template", "1", "--json").stdout)) == 2


def test_a_schedule_is_switched_off_and_on(run: Run, door: Door) -> None:
    run("templates", "set", "t", *REBOOT, "--cron", "0 3 * * *")
    assert "0 3 * * * UTC, off" in run("templates", "off", "t").stdout
    assert kept(door)["nextAt"] is None
    coming = run("templates", "next", "t")
    assert len(coming.stdout.splitlines()) == 5
    assert "It does not start by itself." in coming.stderr
    run("templates", "on", "t")
    assert kept(door)["nextAt"] is not None
    assert json.loads(run("templates", "next", "t", "--json").stdout) == kept(door)["nextStarts"]
    run("templates", "set", "h", *REBOOT)
    assert "template 2 has no schedule" in run("templates", "on", "h", code=2).stderr


def test_templates_are_listed_and_removed(run: Run, door: Door) -> None:
    run("templates", "set", "a", *REBOOT, "--cron", "0 3 * * *")
    run("templates", "set", "b", *REBOOT)
    run("templates", "run", "b")
    first, second = run("templates", "list").stdout.splitlines()
    assert first.split("\t")[:3] == ["1", "a", "0 3 * * * UTC"]
    assert second.split("\t") == ["2", "b", "by hand", "", "job 1"]
    limited = run("templates", "list", "--limit", "1")
    assert "1 of 2 are shown: --limit 2 shows all" in limited.stderr
    removed = run("templates", "delete", "a", "2").stdout
    assert removed == "template 1 (a) is removed\ntemplate 2 (b) is removed\n"
    assert json.loads(run("templates", "list", "--json").stdout) == []
