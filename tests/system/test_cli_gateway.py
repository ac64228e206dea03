"""The command line against a whole gateway: here, and as a process on a terminal of its own."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from puppetmaster.cli.called import NAME, VARIABLE
from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests.conftest import any_broker
from tests.terminal import Run, Terminal, typed

TOKEN = "a-token-of-the-tests"
FLEET = [
    *("--shape", "per-gateway", "--to", "cg-[01-20]"),
    *("--fail", "cg-[07-08]:500", "--silent", "cg-[09-10]", "--slow", "cg-[18-20]:600"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests here: each makes jobs of its own."""
    any_broker()
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{free_port()}", "PUPPETMASTER_TOKEN": TOKEN}
    with Gateway(tmp_path_factory.mktemp("gateway"), fleet=FLEET, settings=settings) as started:
        yield started


@pytest.fixture(scope="module")
def run(gateway: Gateway) -> Run:
    return typed(url(gateway), TOKEN)


def url(gateway: Gateway) -> str:
    return f"http://{gateway.bundle.env['PUPPETMASTER_HTTP']}"


def terminal(gateway: Gateway, *words: str) -> Terminal:
    """A command on a terminal of 100 columns."""
    asked = {"PUPPETMASTER_URL": url(gateway), "PUPPETMASTER_TOKEN": TOKEN, VARIABLE: NAME}
    return Terminal(*words, env={**os.environ, **asked}, columns=100)


def told(run: Run, *words: str) -> Any:
    """What a program is told."""
    return json.loads(run(*words, "--json").stdout)


WAIT = ["--wait", "--request-timeout", "1"]


def test_a_job_from_its_creation_to_its_results(run: Run) -> None:
    ran = run("submit", "--to", "cg-[01-09]", *WAIT, "--name", "all", "post", "/system/time")
    assert (ran.exit_code, ran.stderr) == (1, "")
    lines = ran.stdout.splitlines()
    number = lines[0].split()[1].rstrip(":")
    assert {"cg-07 error 500 from device: fails on purpose"} <= set(lines)
    verdict = next(line for line in lines if line.startswith(f"job {number} resolved after "))
    assert verdict.endswith(" s: 6 of 9 resolved, 2 error, 1 timeout.")
    again = f"puppetmaster rerun {number} --failed (1 of them may have run already)"
    assert lines[-1] == f"Run the rest again: {again}"

    assert f"{number}\tresolved\t9/9\t3\t" in run("list", "--name", "all").stdout
    shown = told(run, "show", number)["requests"]
    first = [one["__request"]["destination"] for one in shown[:4]]
    assert first == ["cg-07", "cg-08", "cg-09", "cg-01"]
    shown = told(run, "show", number, "--status", "timeout")["requests"]
    assert [one["__request"]["destination"] for one in shown] == ["cg-09"]
    results = run("results", number, "--diff")
    assert results.exit_code == 0
    assert "2\terror\t500\tcg-[07-08]" in results.stdout

    rerun = run("rerun", number, "--status", "error", *WAIT, "--json")
    new = json.loads(rerun.stdout)
    assert (rerun.exit_code, new["parent"], new["totalCount"]) == (1, int(number), 2)
    assert [one["id"] for one in told(run, "show", str(new["id"]))["requests"]] == new["requests"]

    assert run("delete", number).exit_code == 0
    gone = run("show", number)
    assert (gone.exit_code, gone.stdout) == (2, "")
    said = f"There is no job {number}: 'puppetmaster list' shows those there are."
    assert gone.stderr == f"puppetmaster: {said}\n"
    assert run("rerun", number).stderr == gone.stderr


def test_requests_in_full(run: Run) -> None:
    words = ["--to", "cg-[07-08]", "--attempts", "2", "--retry-delay", "100ms", "--idempotent"]
    made = told(run, "submit", *words, *WAIT, "--name", "twice", "put", "/x", '{"a": 1}')
    number, first = str(made["id"]), str(made["requests"][0])
    shown = run("show", number, "cg-07")
    assert shown.stdout == run("request", first).stdout
    lines = dict(line.split("\t", 1) for line in shown.stdout.splitlines()[2:])
    assert (lines["command"], lines["data"], lines["attempts"]) == ("put /x", '{"a": 1}', "2")
    assert lines["attempt 1"].startswith("error 500 from device: fails on purpose; sent ")
    assert lines["answer"] == lines["answer 1"] == '{"message": "fails on purpose"}'
    assert run("requests", number, "--csv").stdout.count("\n") == 3
    assert "\n2,error,500,cg-[07-08],device," in run("results", number, "--csv").stdout
    again = told(run, "rerun", number, number)  # named twice it is one job
    assert [one["name"] for one in again] == ["twice"]


def test_a_closed_gate(gateway: Gateway, run: Run) -> None:
    words = ["--to", "cg-[07-08],cg-[01-02]", "--waves", "2,100%", "--gate-errors", "50%"]
    with terminal(gateway, "submit", *words, *WAIT, "post", "/system/time") as shown:
        shown.read_until("wave 1 failed its gate: 2 of 2 requests failed, and at most 50% may")
        shown.read_until("ends it")
        found = re.search(r"puppetmaster resume (\d+) sends on, puppetmaster cancel \1 ends it", shown.text)
        assert found
        assert f"job {found[1]} paused " in shown.text
        assert run("resume", found[1]).exit_code == 0
        ended = shown.end()
    assert ended.code == 1
    assert "2 of 4 resolved, 2 error." in ended.text
    assert run("cancel", found[1]).exit_code == 2  # it has ended


def test_doctor(run: Run) -> None:
    ran = run("doctor", "--json")
    marks = {check["name"]: check["mark"] for check in json.loads(ran.stdout)["checks"]}
    assert {name for name, mark in marks.items() if mark != "ok"} == set(), ran.stdout
    assert {"broker", "store file", "controller", "registered"} <= set(marks)
    assert ran.exit_code == 0


def test_ctrl_c_detaches_and_the_job_goes_on(gateway: Gateway, run: Run) -> None:
    with terminal(gateway, "submit", "--to", "cg-19", "--wait", "post", "/system/time") as shown:
        shown.read_until("1 in flight")
        shown.press(b"\x03")
        ended = shown.end()
    found = re.search(r"Detached: job (\d+) goes on. Watch it again: puppetmaster watch \1\n", ended.text)
    assert found
    assert ended.code == 130
    assert "Traceback" not in ended.text
    assert told(run, "show", found[1])["status"] == "dispatching"

    for keys in (b"\x03", b"\x04"):
        with terminal(gateway, "delete", found[1]) as shown:
            shown.read_until("[y/N]")
            shown.press_until(keys, "Nothing was changed.")
            assert shown.end().code == 130
    removed = run("delete", found[1])
    assert removed.exit_code == 0
    assert removed.stdout.startswith(f"job {found[1]} is stopped and removed: 0 of 1 resolved, ")


def test_watching_goes_on_while_the_bundle_starts_again(gateway: Gateway, run: Run) -> None:
    number = str(told(run, "submit", "--to", "cg-18", "post", "/x")["id"])
    with terminal(gateway, "watch", number) as shown:
        shown.read_until("1 in flight")
        gateway.bundle.kill()
        shown.read_until("waiting: Cannot reach puppetmaster at")
        gateway.bundle.start()
        run("cancel", number, "--force")
        ended = shown.end()
    assert ended.code == 4
    became = rf"job {number} canceled by a request after .* s: 0 of 1 resolved, 1 unknown\."
    assert re.search(became, ended.text)
