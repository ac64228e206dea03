"""Every command: what it asks for, what it shows, and how it ends."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from puppetmaster import __version__
from puppetmaster.cli import context as session
from puppetmaster.cli import follow, main
from puppetmaster.cli.client import Client
from tests import ROOT
from tests.fake_http import Asked, FakeServer, Reply, always, job, request
from tests.terminal import COMMAND, Run


def created(asked: Asked) -> Reply:
    """Whatever is asked for becomes job 7, which has ended at once."""
    return Reply(job(resolved=2)) if "/requests" not in asked.path else Reply([])


# -- submit ---------------------------------------------------------------------------------------


def test_submit_from_words(server: FakeServer, run: Run, tmp_path: Path) -> None:
    server.answer = created
    (tmp_path / "data.json").write_text('{"a": 1}')
    options = ["--concurrency", "10%", "--max-errors", "5", "--waves", "1,10%,100%", "--key", "k"]
    options += ["--max-errors-after", "20", "--gate-errors", "5%", "--gate-on-fail", "abort"]
    options += ["--attempts", "2", "--retry-on", "error,timeout", "--retry-delay", "0", "--timeout", "1h30m"]
    options += ["--name", "n", "--request-timeout", "1.5", "--rate", "3", "--soak", "1m", "--idempotent"]
    options += ["--start-at", "2026-01-02T03:04:05Z"]
    words = ["submit", "--to", "cg-[1-2],y", "--to", "x", *options, "POST", "/system/reboot"]
    result = run(*words, f"@{tmp_path}/data.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "job 7: 2 requests; puppetmaster watch 7\n"
    message = {"method": "post", "resource": "/system/reboot", "data": {"a": 1}}
    assert [(asked.method, asked.path, asked.body) for asked in server.asked] == [
        (
            "POST",
            "/jobs",
            {
                "batch": [{**message, "__request": {"destination": ["cg-1", "cg-2", "y", "x"]}}],
                "key": "k",
                "concurrency": "10%",
                "waves": [1, "10%", "100%"],
                "abort": {"errors": 5, "after": 20},
                "gate": {"errors": "5%", "onFail": "abort", "soak": 60},
                "retry": {"attempts": 2, "on": ["error", "timeout"], "delay": 0},
                "timeout": 5400,
                "name": "n",
                "requestTimeout": 1.5,
                "rate": 3,
                "idempotent": True,
                "startAt": "2026-01-02T03:04:05Z",
            },
        ),
        ("GET", "/gateways?name=cg-1%2Ccg-2%2Cy%2Cx&registered=false&limit=5", None),
    ]


@pytest.mark.parametrize(
    ("where", "query"),
    [
        (["--to", "cg-[1-9]"], "name=cg-1%2C"),
        (["--selector", "site=north"], "selector=site%3Dnorth&registered=false"),
        (["--match", "cg-*"], "match=cg-%2A&registered=false"),
        (["--all"], "?registered=false"),
    ],
)
def test_submit_warns_of_gateways_that_are_not_registered(
    server: FakeServer, run: Run, where: list[str], query: str
) -> None:
    rows = [{"name": f"cg-{number}", "lastResult": None} for number in range(1, 6)]

    def answer(asked: Asked) -> Reply:
        if not asked.path.startswith("/gateways"):
            return created(asked)
        assert query in asked.path
        return Reply(rows, headers={"X-Total-Count": "7"})

    server.answer = answer
    result = run("submit", *where, "get", "/a")
    assert (result.exit_code, result.stdout) == (0, "job 7: 2 requests; puppetmaster watch 7\n")
    said = "7 gateways of it are not registered, as far as is known: cg-1, cg-2, cg-3, cg-4, cg-5, .."
    assert result.stderr == f"puppetmaster: {said}\n"


def test_submit_asks_nothing_that_takes_long(server: FakeServer, run: Run) -> None:
    server.answer = created
    run("submit", "--all", "--except", "a", "get", "/a")
    run("submit", "--to", f"cg-[1-{9999}]", "get", "/a")
    server.answer = always(Reply({**job(resolved=2), "id": None}))
    run("submit", "--to", "a", "--dry-run", "--json", "get", "/a")
    assert {asked.path for asked in server.asked} == {"/jobs"}


@pytest.mark.parametrize("words", [["--file", "FILE"], ["--file", "-"], []])
def test_submit_a_whole_job(server: FakeServer, run: Run, tmp_path: Path, words: list[str]) -> None:
    server.answer = created
    text = '{"batch": [1], "key": "k"}'
    (tmp_path / "job.json").write_text(text)
    given = [word.replace("FILE", f"{tmp_path}/job.json") for word in words]
    assert run("submit", *given, text=None if "FILE" in words else text).exit_code == 0
    assert server.asked[0].body == {"batch": [1], "key": "k"}


PERCENT = "expected a whole number or a percentage such as 10%"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--to a reboot /x", "METHOD: expected get, post, put or delete, got 'reboot'"),
        ("--to a get", "expected --to NAMES METHOD RESOURCE"),
        ("get /x", "expected --to NAMES METHOD RESOURCE"),
        ("--to a", "expected METHOD RESOURCE after --to"),
        ("--to cg-[9-1] get /x", "--to: [9-1]: expected the smaller bound first"),
        ("--to @/none get /x", "cannot read /none"),
        ("--to @/ get /x", "cannot read /: Is a directory"),
        ("--to a get /x {", "DATA: expected JSON"),
        ("--to a --concurrency x get /x", f"--concurrency: {PERCENT}"),
        ("--to a --window x get /x", f"--window: {PERCENT}"),
        ("--to a --waves 1,,2 get /x", PERCENT),
        ("--file -", "standard input: expected JSON"),
        ("", "standard input: expected JSON"),
        ("--url nowhere --to a get /x", "--url: expected a URL such as"),
        ("--to a --attempts 1.5 get /x", "--attempts: expected a whole number from 1 to 100"),
        ("--to a --rate fast get /x", "--rate: expected a number from 0.0001 to 100000, got"),
        ("--to a --timeout 10x get /x", "--timeout: expected seconds, or a time such as"),
        ("--to a --start-at +x get /x", "--start-at: expected seconds, or a time such as"),
        ("--to a --gate-on-fail x get /x", "--gate-on-fail: expected abort or pause, got 'x'"),
        ("--to a --retry-on x get /x", "--retry-on: expected some of timeout, error, got 'x'"),
    ],
)
def test_what_cannot_be_submitted(server: FakeServer, run: Run, words: str, sentence: str) -> None:
    result = run("submit", *words.split())
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert server.asked == []


def test_the_help_of_submit_keeps_its_lines_and_says_what_is_tried_again(run: Run) -> None:
    told = run("submit", "--help").stdout
    assert "\\b" not in told
    assert "  puppetmaster submit --to 'cg-[001-200]' --wait post /system/reboot\n" in told
    told = " ".join(told.split())
    assert "After these outcomes only; after a timeout only what may run twice" in told
    assert "default: 1; of a percentage 10 or more" in told


def test_names_that_come_twice_are_told(server: FakeServer, run: Run) -> None:
    server.answer = created
    result = run("submit", "--to", "cg-[1-9],cg-[3-8]", "--to", "cg-1,x", "get", "/x")
    assert result.exit_code == 0
    twice = "7 names come more than once in --to, and get one request each: cg-1, cg-3, cg-4, cg-5, cg-6, .."
    assert result.stderr == f"puppetmaster: {twice}\n"
    destinations = server.asked[0].body["batch"][0]["__request"]["destination"]
    assert destinations == [*(f"cg-{number}" for number in range(1, 10)), "x"]
    result = run("submit", "--to", "x", "--to", "x", "get", "/x")
    assert result.stderr == "puppetmaster: 1 name comes more than once in --to, and gets one request: x\n"


def test_a_start_that_is_past_is_told(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply({**job("dispatching", pending=3), "startAt": "2026-01-01T00:00:00Z"}))
    result = run("submit", "--to", "a", "--start-at", "2026-01-01T00:00:00Z", "get", "/x")
    told = "starts at once: 2026-01-01T00:00:00Z is past"
    assert result.stdout == f"job 7: 3 requests, {told}; puppetmaster watch 7\n"


def test_a_dry_run(server: FakeServer, run: Run) -> None:
    requests = [request(f"cg-{number}", "pending", 0) for number in range(1, 21)]
    would = {**job("pending", pending=20), "id": None, "requests": requests, "waves": [1, "10%"]}
    would["plan"] = ["The gateway's words.", "Its second sentence."]
    server.answer = always(Reply({**would, "waveSizes": [1, 1, 18], "concurrency": "10%"}))
    result = run("submit", "--to", "a", "--dry-run", "--wait", "post", "/system/reboot")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "This is a dry run: nothing was created.",
        "The gateway's words.",
        "Its second sentence.",
        "",
        "waves\t1, 1, 18",
        "gate\tthe job pauses when any of a wave failed",
        "concurrency\tat most 2 requests in flight (10%)",
        "",
        "1\t1\tpost /system/reboot\tcg-1",
        "2\t1\tpost /system/reboot\tcg-2",
        "3\t18\tpost /system/reboot\tcg-[3-20]",
    ]
    assert server.asked[0].body["dryRun"] is True
    assert json.loads(run("rerun", "3", "--dry-run", "--json").stdout)["requests"] == requests


def test_every_fault_is_told(server: FakeServer, run: Run) -> None:
    faults = [{"path": "batch", "message": "expected a list"}, {"path": "", "message": "no"}]
    server.answer = always(Reply({"message": "batch: expected a list (and 1 more)", "errors": faults}, 400))
    result = run("submit", text="{}")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "puppetmaster: 2 things are wrong, and nothing was changed:",
        "  batch: expected a list",
        "  no",
    ]


@pytest.mark.parametrize(
    ("words", "place", "name"),
    [
        (["--window", "0"], "concurrency", "--window"),
        (["--window=0"], "concurrency", "--window"),
        (["--gate-errors", "1"], "gate", "--gate-errors"),
        ([], "batch[0].data.a", "DATA.a"),
        ([], "concurrency", "concurrency"),
    ],
)
def test_a_fault_has_the_name_that_was_typed(
    server: FakeServer, run: Run, words: list[str], place: str, name: str
) -> None:
    faults = [{"path": place, "message": "expected more"}]
    server.answer = always(Reply({"message": f"{place}: expected more", "errors": faults}, 400))
    result = run("submit", "--to", "a", *words, "get", "/x")
    assert (result.exit_code, result.stderr) == (2, f"puppetmaster: {name}: expected more\n")


def test_an_answer_that_is_lost_can_be_found_by_its_key(server: FakeServer, run: Run) -> None:
    server.answer = lambda asked: None
    result = run("submit", "--to", "a", "get", "/x")
    assert result.exit_code == 7
    key = server.asked[0].body["key"]
    assert f"The job may exist: the same command with --key {key} finds or creates it." in result.stderr


def test_ctrl_c_while_a_job_is_created(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "create", interrupted)
    result = run("submit", "--to", "a", "get", "/x")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "'puppetmaster list' shows whether the job exists" in result.stderr


# -- verdicts -------------------------------------------------------------------------------------

VERDICTS = [
    (job(resolved=2), 0),
    (job(resolved=1, error=1), 1),
    (job(resolved=2, timeout=1), 1),
    (job("aborted", error=1, skipped=1), 3),
    (job("canceled", canceled=2), 4),
    (job("timeout", skipped=2), 5),
    (job(error=1, unknown=1), 6),
    (job("canceled", unknown=3), 4),
]


@pytest.mark.parametrize("words", [["watch", "7"], ["submit", "--to", "a", "--wait", "get", "/x"]])
@pytest.mark.parametrize(("ended", "code"), VERDICTS)
def test_the_exit_code_is_the_verdict(
    server: FakeServer, run: Run, words: list[str], ended: dict[str, Any], code: int
) -> None:
    server.answer = lambda asked: Reply([] if "/requests" in asked.path else ended)
    result = run(*words)
    assert (result.exit_code, result.stderr) == (code, "")
    assert f"job 7 {ended['status']} after 1 min 00 s: " in result.stdout
    for again in ("puppetmaster results 7 --diff", "puppetmaster rerun 7 --failed"):
        assert (again in result.stdout) == (ended["errorCount"] > 0)


@pytest.mark.parametrize(
    "words",
    [
        ["watch", "7", "--exit-at-gate"],
        ["submit", "--to", "a", "--exit-at-gate", "get", "/x"],
        ["rerun", "3", "--wait", "--exit-at-gate"],
    ],
)
def test_a_closed_gate_may_be_the_end(server: FakeServer, run: Run, words: list[str]) -> None:
    closed = {**job("paused", error=1, pending=3), "gateStatus": "closed", "reason": "wave 1 failed its gate"}
    server.answer = lambda asked: Reply([] if "/requests" in asked.path else closed)
    result = run(*words)
    assert (result.exit_code, result.stderr) == (8, "")
    told, again = result.stdout.splitlines()[-2:]
    advice = "puppetmaster resume 7 sends on, puppetmaster cancel 7 ends it"
    assert told.endswith(f"wave 1 failed its gate; {advice}")
    assert again == "What came back: puppetmaster results 7 --diff"
    last = json.loads(run(*words, "--json").stdout.splitlines()[-1])
    assert last["gateStatus"] == "closed"


def test_watch_for_a_program(server: FakeServer, run: Run) -> None:
    jobs = iter([job("dispatching", sent=1, error=1), job(resolved=1, error=1)])
    server.answer = lambda asked: Reply([request("a")] if "/requests" in asked.path else next(jobs))
    result = run("watch", "7", "--json")
    first, last = map(json.loads, result.stdout.splitlines())
    assert (first["status"], first["collection"]) == ("dispatching", [request("a")])
    assert "requests" not in first
    assert (last["status"], last["collection"], result.exit_code) == ("resolved", [], 1)


def test_waiting_for_a_program(server: FakeServer, run: Run) -> None:
    made = {**job(resolved=2), "requests": [2**31, 2**31 + 1]}
    server.answer = lambda asked: Reply(made if asked.method == "POST" else job(resolved=2))
    result = run("--json", "submit", "--to", "a", "--wait", "get", "/x")
    assert json.loads(result.stdout) == made


def test_ctrl_c_detaches(server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield follow.News(job("dispatching", sent=1), [])
        raise KeyboardInterrupt

    monkeypatch.setattr(follow, "follow", interrupted)
    result = run("watch", "7")
    assert result.exit_code == 130
    assert result.stderr == "Detached: job 7 goes on. Watch it again: puppetmaster watch 7\n"


def test_a_job_that_is_removed_while_watched(server: FakeServer, run: Run) -> None:
    replies = iter([Reply(job("dispatching", sent=1)), Reply({"message": "There is no job 7."}, 404)])
    server.answer = lambda asked: next(replies)
    result = run("watch", "7")
    assert result.exit_code == 4
    assert result.stderr == "puppetmaster: Job 7 was removed while it was watched.\n"


# -- control --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["pause", "7"], {"status": "paused"}),
        (["resume", "7"], {"status": "dispatching"}),
        (["cancel", "7"], {"status": "canceled"}),
        (["cancel", "7", "--force"], {"status": "canceled", "force": True}),
    ],
)
def test_control(server: FakeServer, run: Run, words: list[str], body: dict[str, Any]) -> None:
    server.answer = always(Reply(job("paused", sent=1, pending=1)))
    result = run(*words)
    assert (result.exit_code, result.stdout) == (0, "job 7 paused: 0 of 2 done, 0 failed, 1 in flight\n")
    assert [(asked.method, asked.path, asked.body) for asked in server.asked] == [("PUT", "/jobs/7", body)]
    assert json.loads(run(*words, "--json").stdout)["id"] == 7


@pytest.mark.parametrize(
    ("words", "method"),
    [(["pause"], "PUT"), (["resume"], "PUT"), (["cancel"], "PUT"), (["delete"], "DELETE")],
)
def test_several_jobs(server: FakeServer, run: Run, words: list[str], method: str) -> None:
    """One that is refused keeps none of the others."""

    def answer(asked: Asked) -> Reply:
        if asked.path == "/jobs/8":
            return Reply({"message": "There is no job 8."}, 404)
        return Reply(job("paused", job_id=int(asked.path.rpartition("/")[2]), pending=1))

    server.answer = answer
    result = run(*words, "7", "8", "9", "7")
    assert (result.exit_code, result.stderr) == (2, "puppetmaster: There is no job 8.\n")
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["job", "7"], ["job", "9"]]
    assert [(asked.method, asked.path) for asked in server.asked] == [
        (method, f"/jobs/{number}") for number in (7, 8, 9)
    ]
    assert [one["id"] for one in json.loads(run(*words, "7", "9", "--json").stdout)] == [7, 9]
    assert json.loads(run(*words, "8", "8", "--json").stdout) == []


def test_a_cancel_that_ends_a_job(server: FakeServer, run: Run) -> None:
    said = {"reason": "canceled by a request", "reasonCode": "canceled"}
    server.answer = always(Reply({**job("canceled", resolved=1, canceled=2), **said}))
    line = "job 7 canceled by a request after 1 min 00 s: 1 of 3 resolved, 2 canceled.\n"
    assert run("cancel", "7").stdout == line


def test_delete(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply(job(resolved=1)))
    assert run("delete", "7").stdout == "job 7 is removed; it was resolved.\n"
    assert json.loads(run("delete", "7", "--json").stdout)["id"] == 7
    assert [(asked.method, asked.path) for asked in server.asked] == [("DELETE", "/jobs/7")] * 2


def test_several_jobs_are_named_in_the_question(
    server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "somebody_types", lambda: True)
    result = run("delete", "7", "8", "9", text="n\n")
    assert "Remove jobs 7, 8 and 9 with all requests for good? [y/N]" in result.stderr
    assert server.asked == []


@pytest.mark.parametrize("words", [["delete", "7"], ["cancel", "7", "--force"]])
@pytest.mark.parametrize(("yes", "typed", "asked"), [(False, "n\n", 0), (False, "y\n", 1), (True, "", 1)])
def test_somebody_at_a_terminal_is_asked(
    server: FakeServer,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    yes: bool,
    typed: str,
    asked: int,
) -> None:
    monkeypatch.setattr(session, "somebody_types", lambda: True)
    server.answer = always(Reply(job("canceled", canceled=1)))
    result = run(*words, *(["--yes"] if yes else []), text=typed)
    assert len(server.asked) == asked
    assert result.exit_code == (0 if asked else 2)
    assert ("[y/N]" in result.stderr) is not yes
    assert ("Nothing was changed." in result.stderr) == (not asked)


def test_a_question_that_is_interrupted(
    server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "somebody_types", lambda: True)
    result = run("delete", "7", text="")  # its end is to click what Ctrl-C is
    assert (result.exit_code, result.stdout, server.asked) == (130, "", [])
    assert result.stderr.splitlines()[-1] == "Nothing was changed."


def in_a_shell(server: FakeServer, script: str) -> tuple[int, str]:
    """The exit code, and what was said of it; ``CLI`` stands for the command line as a process."""
    ran = subprocess.run(
        ["bash", "-c", script.replace("CLI", shlex.join(COMMAND))],
        env={**os.environ, "PUPPETMASTER_URL": server.url},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    return ran.returncode, ran.stderr


def test_nobody_reads(server: FakeServer) -> None:
    """As with 'puppetmaster list | head': not the exit code of a verdict."""
    server.answer = always(Reply([job(resolved=1)] * 20_000))
    assert in_a_shell(server, "CLI list | head -1; exit ${PIPESTATUS[0]}") == (141, "")


FULL = "puppetmaster: cannot write what there is to say: No space left on device\n"
CLOSED = "puppetmaster: expected something on standard input, and it is closed\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("list >/dev/full", 141, FULL),
        ("--help >/dev/full", 141, FULL),
        ("list >&-", 0, ""),
        ("requests 7 --csv >&-", 0, ""),
        ("delete 7 <&-", 0, ""),
        ("submit --to a put /x - <&-", 2, CLOSED),
    ],
)
def test_streams_that_are_not_there(server: FakeServer, words: str, code: int, told: str) -> None:
    one = job(resolved=1)
    server.answer = lambda asked: Reply([one] if asked.path == "/jobs?limit=20" else one)
    assert in_a_shell(server, f"CLI {words}") == (code, told)


# -- rerun ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--failed"]])
def test_rerun_all_that_failed(server: FakeServer, run: Run, words: list[str]) -> None:
    server.answer = created
    assert run("rerun", "3", *words, "--key", "k", "--window", "2").exit_code == 0  # its older name
    wanted = {"job": 3, "status": ["error", "timeout", "unknown", "skipped", "canceled"]}
    assert server.asked[-1].body == {"rerun": wanted, "key": "k", "concurrency": 2}


@pytest.mark.parametrize(("words", "name"), [([], "night"), (["--name", "day"], "day")])
def test_a_rerun_keeps_the_name(server: FakeServer, run: Run, words: list[str], name: str) -> None:
    server.answer = always(Reply({**job(resolved=2), "name": "night"}))
    assert run("rerun", "3", *words).exit_code == 0
    assert server.asked[-1].body["name"] == name


def test_rerun_several(server: FakeServer, run: Run) -> None:
    server.answer = created
    result = run("rerun", "3", "5", "--status", "error")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert [asked.body["rerun"]["job"] for asked in server.asked if asked.method == "POST"] == [3, 5]
    for words in (["--wait"], ["--key", "k"], ["--dry-run"], ["--exit-at-gate"]):
        result = run("rerun", "3", "5", *words)
        assert (result.exit_code, f"{words[0]}: expected one JOB, got 2" in result.stderr) == (2, True)


def test_rerun_some(server: FakeServer, run: Run) -> None:
    server.answer = created
    assert run("rerun", "3", "--status", "error,skipped", "--wait").exit_code == 0
    posted = next(asked for asked in server.asked if asked.method == "POST")
    assert posted.body["rerun"] == {"job": 3, "status": ["error", "skipped"]}
    assert run("rerun", "3", "--status", "error", "--failed").exit_code == 2
    assert run("rerun", "3", "--status", "resolved").exit_code == 2


# -- around ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "list",
        *(f"{look} 7" for look in ("show", "watch", "results")),
        *(f"{change} 7" for change in ("pause", "resume", "cancel", "delete", "rerun")),
        "submit --to a get /x",
    ],
)
def test_it_cannot_be_reached(server: FakeServer, run: Run, words: str) -> None:
    server.answer = always(Reply({"message": "needs the token"}, 401))
    result = run(*words.split())
    assert (result.exit_code, result.stdout) == (7, "")
    assert len(result.stderr.splitlines()) == 1
    assert "set PUPPETMASTER_TOKEN" in result.stderr


def test_the_url_may_stand_anywhere(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply([]))
    elsewhere = {"PUPPETMASTER_URL": "http://127.0.0.1:1"}
    assert run("list", "--url", server.url, "--json", **elsewhere).stdout == "[]\n"
    assert run("--url", server.url, "--json", "list", **elsewhere).stdout == "[]\n"
    assert run("list", PUPPETMASTER_TOKEN=" a-token ").exit_code == 0
    assert server.asked[-1].headers["Authorization"] == "Bearer a-token"


@pytest.mark.parametrize("words", [["frob"], ["show"], ["list", "--frob"], ["--frob"], ["submit", "get"]])
def test_usage(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    first, last = result.stderr.splitlines()
    assert first.startswith("puppetmaster: ")
    assert last.startswith("Try 'puppetmaster")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "x"], "JOB: expected the number of a job, got 'x'"),
        (["pause", "7", "0"], "JOB: expected the number of a job, got '0'"),
        (["request", "x"], "ID: expected the number of a request, got 'x'"),
        (["list", "--limit", "-1"], "--limit: expected a whole number from 0, got '-1'"),
        (["list", "--status", "done"], "--status: expected some of pending, dispatching"),
        (["completion", "csh"], "SHELL: expected bash, zsh or fish, got 'csh'"),
        (["list", "--url", "x"], "--url: expected a URL such as http://127.0.0.1:8700, got 'x'"),
        (["--url", "x", "list"], "--url: expected a URL such as"),
        (["pause", "1_0"], "JOB: expected the number of a job, got '1_0'"),
        (["pause", "9" * 5000], f"JOB: expected the number of a job, got '{'9' * 80}'\n"),
        (["list", "--limit", "\u0661"], "--limit: expected a whole number from 0, got '\u0661'"),
        (["list", "--status", "x" * 5000], "--status: expected some of pending, "),
        (["list", "--name", "\udcff"], r"Expected words in UTF-8, got '\udcff'."),
        (["gateways", "set", "\udcff"], r"Expected words in UTF-8, got '/gateways/\udcff'."),
        (
            ["submit", "--to", "a", "--attempts", "1_0", "get", "/x"],
            "--attempts: expected a whole number from 1",
        ),
        (["submit", "--to", "a", "--rate", "1_0", "get", "/x"], "--rate: expected a number from 0.0001"),
    ],
)
def test_a_wrong_value_is_named_as_it_is_typed(run: Run, words: list[str], sentence: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"puppetmaster: {sentence}")
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 300


def test_a_wrong_url_is_named_where_it_is_from(run: Run) -> None:
    elsewhere = {"PUPPETMASTER_URL": "http://127.0.0.1:1"}
    assert "or set PUPPETMASTER_URL to where it is" in run("list", **elsewhere).stderr
    assert "or set --url to where it is" in run("list", "--url", "http://127.0.0.1:1").stderr
    said = run("list", PUPPETMASTER_URL="x").stderr
    assert said.startswith("puppetmaster: PUPPETMASTER_URL: expected a URL")


def test_doctor_says_what_to_do(server: FakeServer, run: Run) -> None:
    server.answer = always(Reply({"message": "no"}, 401))
    environ = {"BROKER_PORT_1883_TCP_ADDR": "127.0.0.1", "BROKER_PORT_1883_TCP_PORT": "1"}
    result = run("doctor", **environ)
    assert result.exit_code == 7
    lines = [line.split()[:2] for line in result.stdout.splitlines()]
    assert ["fail", "broker"] in lines
    assert ["fail", "answer"] in lines
    told = json.loads(run("doctor", "--json", **environ).stdout)
    assert told["healthy"] is False
    assert {"python", "broker", "answer"} <= {check["name"] for check in told["checks"]}


@pytest.mark.parametrize("command", ["export", "import", "run", "completion"])
def test_what_a_command_ignores_is_not_listed(run: Run, command: str) -> None:
    told = run(command, "--help").stdout
    assert "--url" not in told
    assert ("--json" in told) == (command in ("export", "import"))
    assert "--url" not in run(command, "--url", "http://127.0.0.1:1", "--frob").stderr  # it is still taken


@pytest.mark.parametrize("command", sorted(main.cli.commands))
def test_helps_are_fit_to_read_and_to_paste(run: Run, command: str) -> None:
    told = run(command, "--help").stdout
    assert "\b" not in told
    assert "\\b" not in told
    assert "RANGE" not in told.upper()
    examples = "".join(line for line in told.splitlines() if "puppetmaster" in line)
    assert re.findall(r"(?<!')\bcg-\[", examples) == []


@pytest.mark.parametrize("command", ["", "submit", "list"])
def test_helps_on_a_narrow_terminal(run: Run, command: str) -> None:
    told = run(*filter(None, [command]), "--help", COLUMNS="40").stdout
    long = [line for line in told.splitlines() if len(line) > 40]
    assert [line for line in long if "  puppetmaster submit" not in line] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_PUPPETMASTER_COMPLETE={shell}_complete" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("puppetmaster res", {"results", "resume"}),
        ("puppetmaster submit --to a PO", {"post"}),
        ("puppetmaster show 1", {"12", "1"}),
        ("puppetmaster list --status pending,a", {"pending,aborted"}),
    ],
)
def test_what_a_shell_is_offered(server: FakeServer, run: Run, words: str, expected: set[str]) -> None:
    server.answer = always(Reply([job(job_id=number) for number in (12, 2, 1)]))
    offered = run(**completing(words))
    assert offered.stderr == ""
    assert {line.partition(",")[2] for line in offered.stdout.splitlines() if line} == expected


def completing(words: str) -> dict[str, str]:
    """What a shell tells that completes the last of these words."""
    count = str(len(words.split()) - 1)
    return {"COMP_WORDS": words, "COMP_CWORD": count, "_PUPPETMASTER_COMPLETE": "bash_complete"}


def process(*words: str, **env: str) -> tuple[int, str, str]:
    ran = subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ran.returncode, ran.stdout, ran.stderr


def test_a_shell_is_offered_nothing_when_nobody_answers() -> None:
    asked = completing("puppetmaster show 1")
    assert process(PUPPETMASTER_URL="http://127.0.0.1:1", **asked) == (0, "\n", "")


def test_a_name_that_the_terminal_cannot_show(server: FakeServer) -> None:
    server.answer = always(Reply([{**job(resolved=1), "name": "Zürich \ud800"}]))
    code, shown, said = process("list", PUPPETMASTER_URL=server.url, PYTHONIOENCODING="ascii")
    assert (code, said) == (0, "")
    assert shown.endswith("\tZ\\xfcrich \\ud800\tpost /system/reboot\n")


def test_run_becomes_the_bundle(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda *words: became.append(words))
    assert run("run").exit_code == 0
    assert became == [(sys.executable, [sys.executable, str(ROOT / "index.py")])]


# -- the page about it ----------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "cli.md").read_text()


def test_the_page_has_every_command_with_an_example() -> None:
    sections = {part.split("\n", 1)[0]: part for part in PAGE.split("\n### ")[1:]}
    assert set(sections) == set(main.cli.commands)
    assert [name for name, part in sections.items() if f"puppetmaster {name}" not in part] == []


def test_the_examples_of_all_documents_can_be_pasted() -> None:
    """Into zsh too, to which brackets and stars outside quotes are patterns of files."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    command = re.compile(rf"^ *(?:\$ )?puppetmaster (?:{'|'.join(main.cli.commands)}) .*", re.MULTILINE)
    lines = [line for page in pages for line in command.findall(page.read_text())]
    assert len(lines) > 50
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", line) for line in lines]
    assert [line for line in bare if set("[]*?{}()").intersection(line)] == []


@pytest.mark.parametrize(
    ("words", "answer", "fault"),
    [
        (["pause", "7"], {"counts": {}}, "KeyError: 'finishedAt' (main.py:"),
        (["list"], [{"counts": 5}], "KeyError: 'doneCount' (tables.py:"),
        (["templates", "next", "n"], [{"nextStarts": 1}], "TypeError: 'int' object is not iterable ("),
        (
            ["results", "7", "--csv"],
            [{"sample": 1}],
            "TypeError: 'int' object is not subscriptable (",
        ),
    ],
)
def test_an_answer_of_another_version_ends_with_a_sentence(
    server: FakeServer, run: Run, words: list[str], answer: Any, fault: str
) -> None:
    server.answer = always(Reply(answer))
    result = run(*words)
    assert result.exit_code == 7
    assert result.stderr.startswith(f"puppetmaster: expected an answer of version {__version__} from ")
    assert fault in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_memory_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def jobs(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Client, "jobs", jobs)
    result = run("list")
    assert (result.exit_code, result.stdout) == (7, "")
    assert result.stderr.startswith("puppetmaster: this takes more memory than there is")
