"""How things are laid out for somebody who looks; pipes are with the commands (test_cli.py)."""

from typing import Any

import pytest

from puppetmaster.cli import tables, wording
from puppetmaster.cli.doctor import Check
from puppetmaster.cli.terminal import Screen
from tests.fake_http import group, job, request
from tests.unit.cli.conftest import ESCAPES

NOW_S = 1767323225.0  # 2026-01-02T03:07:05Z


pytestmark = pytest.mark.usefixtures("colours")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr(wording, "local", lambda at: f"local {at[11:19]}")
    return Screen(terminal=True, now=lambda: NOW_S)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    shown = [line.rstrip() for line in ESCAPES.sub("", capsys.readouterr().out).splitlines()]
    assert max(map(len, shown)) <= 80
    return shown


def test_jobs(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    named = {**job("dispatching", job_id=12, sent=1, pending=9), "name": "firmware"}
    tables.jobs(screen, [named, job(resolved=185, error=12, timeout=4), {**job(resolved=1), "summary": ""}])
    shown = capsys.readouterr().out
    assert "\x1b[31mresolved, 16 failed" in shown  # and not green
    assert [line.rstrip() for line in ESCAPES.sub("", shown).splitlines()] == [
        "job  status                  done    age        took  what",
        " 12  dispatching             0/10  2 min              firmware: post /system/re…",
        "  7  resolved, 16 failed  201/201  2 min  1 min 00 s  post /system/reboot",
        "  7  resolved                 1/1  2 min  1 min 00 s",
    ]


def test_a_job(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    found = {**job("aborted", resolved=1, error=2), "name": "night", "reason": "2 of 3 failed", "parent": 3}
    tables.job(screen, {**found, "key": "cli-1234", "concurrency": 40}, [])
    assert lines(capsys) == [
        "job 7: night",
        "aborted, 2 failed: 2 of 3 failed",
        "command      post /system/reboot",
        "requests     3: 1 resolved, 2 error",
        "created      local 03:04:05, 2 min ago",
        "ended        local 03:05:05, after 1 min 00 s",
        "concurrency  at most 40 requests in flight",
        "runs again   requests of job 3",
    ]


def test_a_job_that_waits_for_somebody(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    found = {**job("paused", pending=1), "reason": "paused by a request", "reasonCode": "paused"}
    tables.job(screen, {**found, "key": "mine"}, [])
    shown = lines(capsys)
    assert shown[:3] == ["job 7", "paused", "puppetmaster resume 7 sends on, puppetmaster cancel 7 ends it"]
    assert shown[-1].split() == ["key", "mine"]


def test_a_job_says_which_gates_were_opened_by_hand(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    at = "2026-01-02T03:04:30Z"
    gates = [{"wave": 1, "failed": 8, "at": at}, {"wave": 3, "failed": 1, "at": at}]
    tables.job(screen, {**job(resolved=1), "openedGates": gates}, [])
    said = "behind wave 1 over 8 failures, local 03:04:30; behind wave 3 over 1 failure, local 03:04:30"
    assert " ".join(" ".join(lines(capsys)).split()).endswith(f"opened by hand {said}")


def test_a_job_of_an_earlier_version(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    old = {name: value for name, value in job(resolved=1).items() if name not in ("summary", "parent")}
    tables.job(screen, old, [])
    assert lines(capsys)[2].split() == ["requests", "1:", "1", "resolved"]


FAILED = request("cg-1", code=500, data={"message": "no"})
WAITS = request("cg-2", "pending", 2**31 + 1)
WAITS["__request"]["why"] = "wave 2 waits for wave 1"


def test_requests_of_one_command(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    tables.requests(screen, [FAILED, WAITS])
    assert lines(capsys) == [
        "destination  status   code  result",
        "cg-1         error     500  no",
        "cg-2         pending        wave 2 waits for wave 1",
    ]


def test_requests_that_went_directly(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    sent = request("cg-3", "sent", 2**31 + 2)
    sent["__request"] |= {"route": "direct", "why": "its gateway is not connected since 3"}
    tables.requests(screen, [FAILED, sent])
    assert lines(capsys) == [
        "destination  status  code  result                                route",
        "cg-1         error    500  no",
        "cg-3         sent          its gateway is not connected since 3  direct",
    ]
    tables.requests(Screen(terminal=False), [FAILED, sent])
    assert [line.split("\t")[3:] for line in capsys.readouterr().out.splitlines()] == [
        ["500", "post /system/reboot", "no"],
        ["", "post /system/reboot", "its gateway is not connected since 3", "direct"],
    ]


def test_times_in_sentences_are_local_on_a_terminal(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    """Except in what a device says."""
    at = "2026-01-02T03:04:05.678Z"
    waits = {**WAITS, "__request": {**WAITS["__request"], "why": f"it waits until {at}"}}
    says = request("cg-1", code=500, data={"message": f"not before {at}"})
    tables.requests(screen, [waits])
    tables.request(screen, waits)
    tables.planned(screen, {**job("pending", pending=0), "plan": [f"It starts at {at}."], "waveSizes": []})
    shown = ESCAPES.sub("", capsys.readouterr().out)
    assert shown.count("until local 03:04:05") == 2
    assert "It starts at local 03:04:05." in shown
    tables.requests(screen, [says])
    tables.requests(Screen(terminal=False), [waits, says])
    shown = capsys.readouterr().out
    assert "local" not in shown
    assert shown.count("2026-01-02T03:04:05.678Z") == 3


def test_requests_of_which_the_same_is_to_be_said(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when one was late, or said so in other words; not when what is cut off is different."""
    same = [
        request(f"cg-{number}", request_id=number, code=500, data={"a": "x" * 300}) for number in (1, 2, 3)
    ]
    same[1]["__request"]["result"]["late"] = True
    other = request("cg-4", code=500, data={"a": "x" * 299 + "y"})
    waits = {**WAITS, "data": {"version": "2"}}
    assert tables.requests(screen, [*same, other, waits], 20, fold=True) == 5
    shown = [line.split() for line in lines(capsys)]
    assert shown[0] == ["count", "destination", "status", "code", "command", "result"]
    assert [line[:2] for line in shown if line[0].isdigit()] == [
        ["3", "cg-[1-3]"],
        ["1", "cg-4"],
        ["1", "cg-2"],
    ]
    assert "version" in str(shown[-3:])  # commands are told apart by their data
    assert tables.requests(screen, [*same, other], 1, fold=True) == 3
    assert len(same) == tables.requests(screen, same)


def test_a_group_that_was_skipped_names_no_request(
    screen: Screen, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id would be that of one gateway's earlier step."""
    text = "not sent: request 2147483649, an earlier step, ended as error"
    tables.results(screen, [group(["cg-1", "cg-2", "cg-3"], "skipped", message=text)])
    assert "not sent: an earlier step ended as error" in " ".join(" ".join(lines(capsys)).split())


def test_results_with_many_patterns(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal gets the first, unless all are wanted; a pipe gets all."""
    names = [f"cg-{number}" for number in range(1, 40, 2)]
    shown = []
    for to, full in ((screen, False), (screen, True), (Screen(terminal=False), False)):
        tables.results(to, [group(names, code=200)], full=full)
        shown.append(" ".join(capsys.readouterr().out.split()))
    assert "cg-23 and 8 more" in shown[0]
    assert ["cg-39" in one for one in shown] == [False, True, True]


def _steps(gateway: str, *statuses: str, first: int) -> list[dict[str, Any]]:
    """What the backup, the installation and the restart of a gateway became; each said what it is."""
    return [
        {
            **request(gateway, status, first + number, data={"message": f"{status} {number}"}),
            "resource": f"/step{number}",
        }
        for number, status in enumerate(statuses)
    ]


def test_the_steps_of_a_gateway_share_a_row(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        *_steps("cg-1", "resolved", "resolved", "resolved", first=10),
        *_steps("cg-2", "resolved", "sent", "pending", first=20),
        *_steps("cg-3", "resolved", "timeout", "skipped", first=30),
        *_steps("cg-4", "error", "skipped", "skipped", first=40),
        *_steps("cg-5", "resolved", "resolved", "resolved", first=50),
    ]
    assert tables.gateways(screen, found[::-1], 20) == 15
    assert lines(capsys) == [
        "count  destination  steps                       code  command      result",
        "    1  cg-3         resolved, timeout, skipped        post /step1  timeout 1",
        "    1  cg-4         error, 2 skipped                  post /step0  error 0",
        "    1  cg-2         resolved, sent, pending           post /step1  sent 1",
        "    2  cg-1 cg-5    3 resolved                        post /step2  resolved 2",
    ]
    assert tables.gateways(screen, found, 2) == 6
    capsys.readouterr()
    tables.gateways(screen, found[:6], 20)
    assert lines(capsys)[0].split()[0] == "destination"  # nothing is said of several


def test_a_job_in_steps_counts_gateways(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    gate = {"wave": 1, "failed": 2, "at": "2026-01-02T03:04:30Z"}
    given = {"onFail": "stop", "waves": [1, "100%"], "waveEnds": [3, 9], "wave": 2, "openedGates": [gate]}
    tables.job(screen, {**job(resolved=9), **given, "summary": "post /step0 and 2 more"}, [])
    shown = " ".join(" ".join(lines(capsys)).split())
    assert "waves 3, 6 requests" in shown
    assert "the job pauses when any of the gateways of a wave failed" in shown
    assert "opened by hand behind wave 1 over 2 gateways that failed, local 03:04:30" in shown


def test_a_request_in_full(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    found = request("cg-1", code=200, data={"name": "Zürich\x1b"})
    tables.request(screen, {**found, "data": {"version": "2"}})
    assert lines(capsys)[-8:] == [
        *("data", "  {", '    "version": "2"', "  }"),
        *("answer", "  {", '    "name": "Zürich\\u001b"', "  }"),
    ]


def test_long_data_are_cut_and_messages_are_not(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    long = "word " * 15 + "end"
    tables.requests(screen, [request("a", message=long), request("b", data={"a": long})])
    shown = " ".join(" ".join(lines(capsys)).split())
    assert f"a error {long}" in shown
    assert shown.endswith('b error {"a": "word word word word word word w..')


def test_requests_of_several_commands(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.requests(screen, [FAILED, {**WAITS, "resource": "/system/time"}])
    assert [line.split()[-2:] for line in lines(capsys)[:2]] == [
        ["command", "result"],
        ["/system/reboot", "no"],
    ]
    monkeypatch.setenv("COLUMNS", "100")
    tables.requests(Screen(terminal=True), [FAILED])
    assert capsys.readouterr().out.count(str(2**31)) == 1


def test_a_plan(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [request(f"cg-{number}", "pending", 0) for number in (1, 2, 3)]
    would: dict[str, Any] = {**job("pending", pending=3), "id": None, "requests": requests, "waveSizes": [3]}
    tables.planned(screen, would)
    assert lines(capsys) == [
        "This is a dry run: nothing was created.",
        "",
        "concurrency  automatic: it grows while answers come",
        "",
        "requests  command              to",
        "       3  post /system/reboot  cg-[1-3]",
    ]
    tables.planned(screen, {**would, "waves": [1, "100%"], "waveSizes": [1, 2]})
    assert lines(capsys)[-2:] == [
        "   1         1  post /system/reboot  cg-1",
        "   2         2  post /system/reboot  cg-[2-3]",
    ]


def test_a_check_goes_on_below_itself(screen: Screen, capsys: pytest.CaptureFixture[str]) -> None:
    tables.check(screen, Check("store file", "fail", "it is damaged " * 6 + "and here it ends"))
    first, second = lines(capsys)
    assert first.startswith("fail  store file  it is damaged it is")
    assert second.startswith(" " * 18 + "damaged it is")
