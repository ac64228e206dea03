"""The command line as a process, against a whole gateway; also on a terminal of its own."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from puppetmaster.cli.called import NAME, VARIABLE
from sandbox.gateway import Gateway
from sandbox.process import PROJECT, free_port
from tests.conftest import any_broker
from tests.terminal import COMMAND, Terminal

TOKEN = "a-token-of-the-tests"
FLEET = [
    *("--shape", "per-gateway", "--to", "cg-[01-20]"),
    *("--fail", "cg-[07-08]:500", "--silent", "cg-[09-10]", "--slow", "cg-[18-20]:600"),
]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests here: each makes jobs of its own."""
    any_broker()
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{free_port()}", "PUPPETMASTER_TOKEN": TOKEN}
    with Gateway(tmp_path_factory.mktemp("gateway"), fleet=FLEET, settings=settings) as started:
        yield started


def environment(gateway: Gateway, **more: str) -> Mapping[str, str]:
    url = f"http://{gateway.bundle.env['PUPPETMASTER_HTTP']}"
    return {**os.environ, "PUPPETMASTER_URL": url, "PUPPETMASTER_TOKEN": TOKEN, VARIABLE: NAME, **more}


def run(gateway: Gateway, *words: str, text: str = "", **more: str) -> Ran:
    ran = subprocess.run(
        [*COMMAND, *words],
        env=environment(gateway, **more),
        cwd=PROJECT,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def terminal(gateway: Gateway, *words: str) -> Terminal:
    """A command on a terminal of 100 columns."""
    return Terminal(*words, env=environment(gateway), columns=100)


WAIT = ["--wait", "--request-timeout", "1"]


def test_a_job_from_its_creation_to_its_results(gateway: Gateway) -> None:
    ran = run(gateway, "submit", "--to", "cg-[01-09]", *WAIT, "--name", "all", "post", "/system/time")
    assert (ran.code, ran.err) == (1, "")
    lines = ran.out.splitlines()
    number = lines[0].split()[1].rstrip(":")
    assert {"cg-07 error 500 from device: fails on purpose"} <= set(lines)
    verdict = next(line for line in lines if line.startswith(f"job {number} resolved after "))
    assert verdict.endswith(" s: 6 of 9 resolved, 2 error, 1 timeout.")
    assert (
        lines[-1]
        == f"Run the rest again: puppetmaster rerun {number} --failed (1 of them may have run already)"
    )

    assert f"{number}\tresolved\t9/9\t3\t" in run(gateway, "list", "--name", "all").out
    shown = run(gateway, "show", number, "--json").json
    assert [one["__request"]["destination"] for one in shown["requests"][:4]] == [
        f"cg-{n:02}" for n in (7, 8, 9, 1)
    ]
    shown = run(gateway, "show", number, "--status", "timeout", "--json").json
    assert [one["__request"]["destination"] for one in shown["requests"]] == ["cg-09"]
    results = run(gateway, "results", number, "--diff")
    assert results.code == 0
    assert "2\terror\t500\tcg-[07-08]" in results.out

    again = run(gateway, "rerun", number, "--status", "error", *WAIT, "--json")
    assert again.code == 1
    assert (again.json["parent"], again.json["totalCount"]) == (int(number), 2)
    ids = [one["id"] for one in run(gateway, "show", str(again.json["id"]), "--json").json["requests"]]
    assert again.json["requests"] == ids

    assert run(gateway, "delete", number).code == 0
    gone = run(gateway, "show", number)
    assert (gone.code, gone.out) == (2, "")
    assert gone.err == f"puppetmaster: There is no job {number}: 'puppetmaster list' shows those there are.\n"
    assert run(gateway, "rerun", number).err == gone.err


def test_requests_in_full(gateway: Gateway) -> None:
    words = ["--to", "cg-[07-08]", "--attempts", "2", "--retry-delay", "100ms", "--idempotent"]
    made = run(gateway, "submit", *words, *WAIT, "--name", "twice", "put", "/x", '{"a": 1}', "--json").json
    number, first = str(made["id"]), str(made["requests"][0])
    shown = run(gateway, "show", number, "cg-07")
    assert shown.out == run(gateway, "request", first).out
    lines = dict(line.split("\t", 1) for line in shown.out.splitlines()[2:])
    assert (lines["command"], lines["data"], lines["attempts"]) == ("put /x", '{"a": 1}', "2")
    assert lines["attempt 1"].startswith("error 500 from device: fails on purpose; sent ")
    assert lines["answer"] == lines["answer 1"] == '{"message": "fails on purpose"}'
    assert run(gateway, "requests", number, "--csv").out.count("\n") == 3
    assert "\n2,error,500,cg-[07-08],device," in run(gateway, "results", number, "--csv").out
    again = run(gateway, "rerun", number, number, "--json").json  # named twice it is one job
    assert [one["name"] for one in again] == ["twice"]
    nobody = run(gateway, "show", number, "cg-01")
    assert (nobody.code, nobody.err) == (2, f"puppetmaster: Job {number} has no request to cg-01.\n")


def test_control(gateway: Gateway) -> None:
    created = run(
        gateway, "submit", "--to", "cg-20", "--to", "cg-01", "--concurrency", "1", "post", "/x", "--json"
    )
    number = str(created.json["id"])
    assert run(gateway, "pause", number).out.startswith(f"job {number} paused by a request: ")
    assert run(gateway, "resume", number).out.startswith(f"job {number} dispatching: ")
    canceled = run(gateway, "cancel", number, "--force")
    assert canceled.code == 0
    assert re.match(
        rf"job {number} canceled by a request after [0-9.]+ s: [01] of 2 resolved, ", canceled.out
    )
    assert run(gateway, "watch", number, "--json").code == 4
    assert run(gateway, "resume", number).code == 2


def test_a_closed_gate(gateway: Gateway) -> None:
    words = ["--to", "cg-[07-08],cg-[01-02]", "--waves", "2,100%", "--gate-errors", "50%"]
    with terminal(gateway, "submit", *words, *WAIT, "post", "/system/time") as shown:
        shown.read_until("wave 1 failed its gate: 2 of 2 requests failed, and at most 50% may")
        shown.read_until("ends it")
        found = re.search(r"puppetmaster resume (\d+) sends on, puppetmaster cancel \1 ends it", shown.text)
        assert found
        assert f"job {found[1]} paused " in shown.text
        assert run(gateway, "resume", found[1]).code == 0
        ended = shown.end()
    assert ended.code == 1
    assert "2 of 4 resolved, 2 error." in ended.text

    left = run(gateway, "submit", *words, "--exit-at-gate", "--request-timeout", "1", "post", "/system/time")
    assert left.code == 8
    number = left.out.splitlines()[0].split()[1].rstrip(":")
    assert f"puppetmaster cancel {number} ends it" in left.out
    assert run(gateway, "watch", number, "--exit-at-gate").code == 8
    assert run(gateway, "cancel", found[1], number).code == 2  # the first has ended
    assert run(gateway, "watch", number).code == 4


def test_doctor(gateway: Gateway) -> None:
    ran = run(gateway, "doctor", "--json")
    marks = {check["name"]: check["mark"] for check in ran.json["checks"]}
    assert {name for name, mark in marks.items() if mark != "ok"} == set(), ran.out
    assert {"broker", "store file", "controller", "registered"} <= set(marks)
    assert ran.code == 0


def test_a_live_bar(gateway: Gateway) -> None:
    to = ["--to", "cg-[01-08]", "--to", "cg-10"]  # cg-09 is still locked by a command of another test
    wait = ["--wait", "--request-timeout", "4"]  # so long it is seen that one answer is waited for
    with terminal(gateway, "submit", *to, *wait, "post", "/system/time") as shown:
        shown.read_until("8 of 9 done, 2 failed, 1 in flight, waiting for 1 answer")
        assert re.search(r"^job \d+ dispatching █+x+▒+ 88%$", shown.text, re.MULTILINE)
        ended = shown.end()
    assert ended.code == 1
    assert shown.raw.rindex("\x1b[?25h") > shown.raw.rindex("\x1b[?25l")  # the cursor is back
    assert "█" not in ended.text
    assert "\ncg-08 error 500 from device: fails on purpose\n" in ended.text
    assert "6 of 9 resolved, 2 error, 1 timeout." in ended.text


def test_ctrl_c_detaches_and_the_job_goes_on(gateway: Gateway) -> None:
    with terminal(gateway, "submit", "--to", "cg-19", "--wait", "post", "/system/time") as shown:
        shown.read_until("1 in flight")
        shown.press(b"\x03")
        ended = shown.end()
    found = re.search(r"Detached: job (\d+) goes on. Watch it again: puppetmaster watch \1\n", ended.text)
    assert found
    assert ended.code == 130
    assert "Traceback" not in ended.text
    assert run(gateway, "show", found[1], "--json").json["status"] == "dispatching"

    for keys, code in ((b"n\n", 2), (b"\x03", 130), (b"\x04", 130)):
        with terminal(gateway, "delete", found[1]) as shown:
            shown.read_until("[y/N]")
            shown.press_until(keys, "Nothing was changed.")
            assert shown.end().code == code
    removed = run(gateway, "delete", found[1])
    assert removed.code == 0
    assert removed.out.startswith(f"job {found[1]} is stopped and removed: 0 of 1 resolved, ")


def test_watching_goes_on_while_the_bundle_starts_again(gateway: Gateway) -> None:
    number = str(run(gateway, "submit", "--to", "cg-18", "post", "/x", "--json").json["id"])
    with terminal(gateway, "watch", number) as shown:
        shown.read_until("1 in flight")
        gateway.bundle.kill()
        shown.read_until("waiting: Cannot reach puppetmaster at")
        gateway.bundle.start()
        run(gateway, "cancel", number, "--force")
        ended = shown.end()
    assert ended.code == 4
    assert re.search(
        rf"job {number} canceled by a request after .* s: 0 of 1 resolved, 1 unknown\.", ended.text
    )


def test_run_is_the_bundle(gateway: Gateway, tmp_path: Path) -> None:
    """A second bundle in the same directory ends with the sentence that it has always ended with."""
    env = {name: value for name, value in gateway.bundle.env.items() if name != "PUPPETMASTER_HTTP"}
    ran = run(gateway, "run", **{**env, "PUPPETMASTER_HTTP": "off"})
    assert ran.code == 1
    assert "puppetmaster cannot start" in ran.err
