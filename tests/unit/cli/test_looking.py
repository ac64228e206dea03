"""The commands that look: what they ask for, and what they show."""

import csv
import io
import json
import os
import re
from functools import partial
from itertools import islice
from typing import Any

import pytest

from puppetmaster.cli import client, context, watched
from puppetmaster.cli.client import Client, Unreachable
from puppetmaster.cli.terminal import Screen
from tests import ROOT
from tests.fake_http import Asked, FakeServer, Reply, always, group, job, request
from tests.terminal import Display, Run, Terminal


def test_list(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply([job(resolved=1, error=1)], headers={"X-Total-Count": "30"}))
    result = run("list", "--status", "resolved,aborted", "--text", "x/y", "--to", "a", "--limit", "1")
    assert result.stdout == "7\tresolved\t2/2\t1\t2026-01-02T03:04:05.678Z\t\tpost /system/reboot\n"
    assert result.stderr == "1 of 30 are shown: --limit 30 shows all\n"
    assert server.asked[0].path == "/jobs?status=resolved%2Caborted&text=x%2Fy&destination=a&limit=1"
    assert run("list", "--limit", "1", "--json").stderr == result.stderr
    run("list", "--failed", "--limit", "1")
    assert server.asked[-1].path == "/jobs?failed=true&limit=1"


def test_a_list_of_none_of_them_says_how_many_there_are(
    server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "Screen", partial(Screen, terminal=True))
    server.answer = always(Reply([], headers={"X-Total-Count": "30"}))
    said = run("list", "--limit", "0").stdout
    assert "There are no jobs yet." not in said
    assert "0 of 30 are shown: --limit 30 shows all" in said
    server.answer = always(Reply([], headers={"X-Total-Count": "0"}))
    assert run("list").stdout == "There are no jobs yet.\n"
    assert run("list", "--failed").stdout == "There is no such job.\n"


def test_show(server: FakeServer, run: Run) -> None:
    shown = [request("cg-1", code=500, data={"message": "no\x1b"}), request("cg-2", code=500, data=[1] * 500)]
    server.answer = lambda asked: Reply(shown if "/requests" in asked.path else job(resolved=1, error=2))
    result = run("show", "7", "--status", "error")
    lines = result.stdout.splitlines()
    assert lines[:6] == [
        "job 7",
        "resolved, 2 failed",
        "command\tpost /system/reboot",
        "requests\t3: 1 resolved, 2 error",
        "created\t2026-01-02T03:04:05.678Z",
        "ended\t2026-01-02T03:05:05.678Z",
    ]
    assert f"{2**31}\tcg-1\terror\t500\tpost /system/reboot\tno\\x1b" in lines
    assert lines[-1].endswith(f"{json.dumps([1] * 500)[:198]}..")
    assert server.asked[1].path == "/jobs/7/requests?status=error&limit=20"

    result = run("show", "7", "--status", "error", "--json")
    assert json.loads(result.stdout) == {**job(resolved=1, error=2), "requests": shown}


def test_what_failed_is_shown_first(server: FakeServer, run: Run) -> None:
    """Also while requests end between the questions: one that was open is shown as what it became."""
    rows = {
        "pending": [request("open", "sent", 4), request("ending", "sent", 1)],
        "error": [request("bad", "error", 3)],
        "resolved": [request("ending", "resolved", 1), request("good", "resolved", 2)],
    }

    def answer(asked: Asked) -> Reply:
        if "/requests" not in asked.path:
            return Reply(job("dispatching", sent=2, error=1, resolved=1))
        found = next(found for status, found in rows.items() if f"status={status}" in asked.path)
        return Reply(found, headers={"X-Total-Count": "10"})

    server.answer = answer
    result = run("show", "7", "--limit", "3", "--json")
    told = [
        (one["__request"]["destination"], one["__request"]["status"])
        for one in json.loads(result.stdout)["requests"]
    ]
    assert told == [("bad", "error"), ("open", "sent"), ("ending", "resolved")]
    assert result.stderr == "3 of 4 are shown: --limit 4 shows all\n"


def test_what_waits_is_shown_beside_many_failures(server: FakeServer) -> None:
    rows = {
        "status=error": [request(f"cg-{number:03}", "error", number, code=500) for number in range(1, 201)],
        "status=pending": [request(f"x-{number}", "pending", number) for number in range(301, 306)],
    }

    def answer(asked: Asked) -> Reply:
        if "/requests" not in asked.path:
            return Reply(job("dispatching", error=300, pending=5))
        assert "limit=200" in asked.path
        found = next((found for status, found in rows.items() if status in asked.path), [])
        return Reply(found, headers={"X-Total-Count": "300" if len(found) == 200 else str(len(found))})

    server.answer = answer
    env = {**os.environ, "PUPPETMASTER_URL": server.url}
    with Terminal("show", "7", env=env, columns=80) as terminal:
        shown = [line.split() for line in terminal.end().text.splitlines()]
    assert shown[-3:] == [
        ["200", "cg-[001-200]", "error", "500"],
        ["5", "x-[301-305]", "pending"],
        ["205", "of", "305", "are", "shown:", "--limit", "305", "shows", "all"],
    ]


@pytest.mark.parametrize("given", [{"onFail": "stop"}, {"waves": [1, "100%"], "waveEnds": [2, 4], "wave": 1}])
def test_all_steps_of_a_gateway_are_read_for_its_row(
    server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    monkeypatch.setattr(client, "PAGE", 3)
    found = [request(f"cg-{number % 2}", "resolved", 10 + number) for number in range(4)]
    several = {**job(resolved=4), **given, "summary": "post /a and 1 more"}

    def answer(asked: Asked) -> Reply:
        if "/requests" not in asked.path:
            return Reply(several)
        offset = int(re.findall(r"offset=(\d+)", asked.path + "&offset=0")[0])
        return Reply(found[offset : offset + 3], headers={"X-Total-Count": "4"})

    server.answer = answer
    assert run("show", "7").stdout.count("\tresolved\t") == 3  # in a pipe a line is a request
    monkeypatch.setattr(context, "Screen", partial(Screen, terminal=True))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", run("show", "7", "--limit", "1").stdout)
    assert re.search(r"2 +cg-\[0-1\] +2 resolved", shown), shown
    assert [one.path for one in server.asked[-2:]] == [
        "/jobs/7/requests?limit=3&offset=0",
        "/jobs/7/requests?limit=3&offset=3",
    ]
    assert "are shown" not in shown


TRIED = {
    **request("cg-1", code=500, source="device", data={"message": "no", "at": [1, 2]}),
    "data": {"version": "2"},
}
TRIED["__request"] |= {
    "createdAt": "2026-01-02T03:04:05.678Z",
    "sentAt": "2026-01-02T03:04:06.000Z",
    "finishedAt": None,
    "timeout": 60,
    "attempts": 2,
    "route": "direct",
    "history": [
        {"message": 9, "sentAt": "2026-01-02T03:04:05Z", "status": "timeout", "result": {"code": 408}}
    ],
}
IN_FULL = [
    f"request {2**31} of job 7, to cg-1",
    "error 500 from device: no",
    "command\tpost /system/reboot",
    "created\t2026-01-02T03:04:05.678Z",
    "sent\t2026-01-02T03:04:06.000Z",
    "answer within\t1 min 00 s",
    "attempts\t2",
    "route\tdirect",
    'data\t{"version": "2"}',
    "attempt 1\ttimeout 408; sent 2026-01-02T03:04:05Z",
    'answer\t{"message": "no", "at": [1, 2]}',
]


def test_a_request_in_full(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply(TRIED))
    assert run("request", str(2**31)).stdout.splitlines() == IN_FULL
    assert json.loads(run("request", str(2**31), "--json").stdout) == TRIED
    assert server.asked[0].path == f"/requests/{2**31}"


def test_the_requests_of_a_job_to_one_gateway_in_full(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply([TRIED, TRIED]))
    assert run("show", "7", "cg-1").stdout.splitlines() == [*IN_FULL, "", *IN_FULL]
    assert server.asked[0].path == "/jobs/7/requests?destination=cg-1"
    assert json.loads(run("show", "7", "cg-1", "--json").stdout) == [TRIED, TRIED]


@pytest.mark.parametrize(
    ("words", "so"), [([], ""), (["--status", "error,timeout"], " that is error or timeout")]
)
def test_a_gateway_that_a_job_does_not_ask(server: FakeServer, run: Run, words: list[str], so: str) -> None:
    server.answer = lambda asked: Reply([] if "/requests" in asked.path else job(resolved=1))
    result = run("show", "7", "cg-2", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"puppetmaster: Job 7 has no request to cg-2{so}.\n"


def test_show_tells_the_data_that_all_requests_have(server: FakeServer, run: Run) -> None:
    other = {**TRIED, "data": {"version": "3"}}
    server.answer = lambda asked: Reply([TRIED, TRIED] if "/requests" in asked.path else job(error=2))
    assert 'data\t{"version": "2"}' in run("show", "7").stdout.splitlines()
    server.answer = lambda asked: Reply([TRIED, other] if "/requests" in asked.path else job(error=2))
    assert "\ndata\t" not in run("show", "7", "--status", "error").stdout


def test_requests(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply([TRIED], headers={"X-Total-Count": "9"}))
    result = run("requests", "7", "--status", "error", "--to", "cg-1", "--limit", "1")
    assert result.stdout == f"{2**31}\tcg-1\terror\t500\tpost /system/reboot\tno\tdirect\n"
    assert result.stderr == "1 of 9 are shown: --limit 9 shows all\n"
    assert server.asked[0].path == "/jobs/7/requests?status=error&destination=cg-1&limit=1"
    assert json.loads(run("requests", "7", "--json").stdout) == [TRIED]


def test_requests_for_a_spreadsheet(server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, page by page, with the columns of the file that the page saves."""
    monkeypatch.setattr(client, "PAGE", 2)
    dangerous = request("=cmd", "error", 3, message="-1, or\nmore")
    pages = {"0": [TRIED, request("cg-2", "pending", 2)], "2": [dangerous]}
    server.answer = lambda asked: Reply(pages[asked.path[-1]], headers={"X-Total-Count": "3"})
    result = run("requests", "7", "--csv", "--status", "error")
    head, *lines = csv.reader(io.StringIO(result.stdout))
    assert [asked.path for asked in server.asked] == [
        f"/jobs/7/requests?status=error&limit=2&offset={offset}" for offset in (0, 2)
    ]
    page = (ROOT / "puppetmaster" / "dashboard" / "export.js").read_text()
    times, rest = (re.search(rf"const {name} = \[(.*?)\]", page) for name in ("FIELDS", "HEAD"))
    assert times
    assert rest
    assert head == re.findall(r'"(\w+)"', rest[1].replace("...FIELDS", times[1]))
    assert [dict(zip(head, line, strict=True))["destination"] for line in lines] == ["cg-1", "cg-2", "'=cmd"]
    assert lines[0][-4:] == ["500", "device", "", '{"message": "no", "at": [1, 2]}']
    assert lines[2][-4:] == ["", "", "'-1, or\nmore", ""]


@pytest.mark.parametrize("command", ["requests", "results"])
def test_csv_of_what_is_not_there(server: FakeServer, run: Run, command: str) -> None:
    server.answer = always(Reply({"message": "There is no job 7."}, 404))
    result = run(command, "7", "--csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert run(command, "7", "--csv", "--json").exit_code == 2


def test_a_list_that_is_watched(server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets the jobs that have changed, a program the list when it has; Ctrl-C ends it."""
    first, second = job("dispatching", job_id=1, sent=2), job(job_id=2, resolved=1)
    lists = [[second, first], [second, first], [second, job(job_id=1, resolved=2)]]
    left: list[list[dict[str, Any]]] = []

    def next_list(self: Client, **filters: Any) -> tuple[list[dict[str, Any]], int]:
        assert filters["status"] == "dispatching"
        if not left:
            raise KeyboardInterrupt
        return left.pop(0), 2

    monkeypatch.setattr(watched, "POLL_S", 0.0)
    monkeypatch.setattr(Client, "jobs", next_list)
    left += lists
    result = run("list", "--watch", "--status", "dispatching")
    assert (result.exit_code, result.stderr) == (130, "")
    assert [line.split("\t")[:3] for line in result.stdout.splitlines()] == [
        ["1", "dispatching", "0/2"],
        ["2", "resolved", "1/1"],
        ["1", "resolved", "2/2"],
    ]
    left += lists
    result = run("list", "--watch", "--status", "dispatching", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [lists[0], lists[2]]


def test_a_list_that_is_watched_while_nobody_answers(server: FakeServer) -> None:
    """Up to a minute; then it ends, as it does at once when nobody has ever answered."""
    lost, minute_s = Unreachable("nobody there", passing=True), 60.0
    answers: list[Any] = [([job(resolved=1)], 1), lost, ([], 0), lost, lost, lost]

    class Answers(Client):
        def jobs(self, **filters: Any) -> tuple[list[dict[str, Any]], int]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            found: tuple[list[dict[str, Any]], int] = answer
            return found

    now_s = 0.0

    def pause(seconds: float) -> None:
        nonlocal now_s
        now_s += minute_s

    client = Answers(server.url)
    looks = watched.looks(client, {}, pause=pause, now=lambda: now_s)
    told = [(look.total, look.trouble) for look in islice(looks, 5)]
    assert told == [(1, ""), (1, "nobody there"), (0, ""), (0, "nobody there"), (0, "nobody there")]
    with pytest.raises(Unreachable):
        next(looks)
    answers.append(lost)
    with pytest.raises(Unreachable):
        next(watched.looks(client, {}))


def test_a_list_in_place(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [watched.Look([job("dispatching", sent=2)], 3), watched.Look([], 0, "nobody there")]
    monkeypatch.setattr(watched, "looks", lambda client, filters: iter(looks))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    display = Display(60)
    screen = Screen(terminal=True, now=lambda: 0.0)
    with screen.console.capture() as shown:
        watched.jobs(screen, server.client(), {})
    display.write(shown.get().replace("\n", "\r\n"))
    assert display.text() == "There are no such jobs.\nwaiting: nobody there\n"
    assert "1 of 3 are shown" in shown.get()


DIFFERENCES = [
    {"path": "more", "here": None},
    {"path": "version", "good": "2", "here": "1"},
    {"path": "", "message": "more than 100 differences: the rest is not listed"},
]
GROUPS = [
    group(["cg-1", "cg-2"], code=200, data={"version": "2"}),
    {**group(["cg-3"], code=200, data={"version": "1", "more": None}), "diff": DIFFERENCES},
]


def test_results(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply(GROUPS, headers={"X-Total-Count": "5"}))
    result = run("results", "7", "--diff", "--full", "--limit", "2")
    assert result.stderr == "2 of 5 are shown: --limit 5 shows all\n"
    assert result.stdout.splitlines() == [
        '2\tresolved\t200\tcg-[1-2]\t{"version": "2"}',
        '1\tresolved\t200\tcg-3\t{"version": "1", "more": null}',
        "cg-3:",
        "  more: null, in the largest group nothing",
        '  version: "1", in the largest group "2"',
        "  more than 100 differences: the rest is not listed",
    ]
    assert server.asked[0].path == "/jobs/7/results?diff=true&collection=true&limit=2"
    head, first, _ = csv.reader(io.StringIO(run("results", "7", "--csv").stdout))
    assert head == ["count", "status", "code", "destinations", "source", "message", "data", "step"]
    assert first == ["2", "resolved", "200", "cg-[1-2]", "", "", '{"version": "2"}', ""]
    server.answer = always(Reply([{**GROUPS[0], "step": "put /a"}], headers={"X-Total-Count": "1"}))
    assert run("results", "7", "--csv").stdout.endswith(",put /a\n")
    server.answer = always(Reply(GROUPS, headers={"X-Total-Count": "5"}))
    del server.asked[1:]
    assert json.loads(run("results", "7", "--json").stdout) == GROUPS
    assert server.asked[1].path == "/jobs/7/results?limit=20"
