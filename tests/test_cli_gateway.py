"""The command line as a process, against a whole gateway; also on a terminal of its own."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest

from sandbox.gateway import Gateway
from sandbox.process import PROJECT, free_port
from tests.conftest import require

TOKEN = "a-token-of-the-tests"
COMMAND = [sys.executable, "-m", "puppetmaster"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FLEET = [
    *("--shape", "per-gateway", "--to", "cg-[01-20]"),
    *("--fail", "cg-[07-08]:500", "--silent", "cg-[09-10]", "--slow", "cg-[18-20]:600"),
]


class Ran(NamedTuple):
    code: int
    out: str
    err: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests here: each makes jobs of its own."""
    require("mosquitto")
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{free_port()}", "PUPPETMASTER_TOKEN": TOKEN}
    with Gateway(tmp_path_factory.mktemp("gateway"), fleet=FLEET, settings=settings) as started:
        yield started


def environment(gateway: Gateway, **more: str) -> Mapping[str, str]:
    url = f"http://{gateway.bundle.env['PUPPETMASTER_HTTP']}"
    return {**os.environ, "PUPPETMASTER_URL": url, "PUPPETMASTER_TOKEN": TOKEN, **more}


def run(gateway: Gateway, *words: str, **more: str) -> Ran:
    ran = subprocess.run(
        [*COMMAND, *words],
        env=environment(gateway, **more),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


class Terminal:
    """A command on a terminal of 100 columns."""

    def __init__(self, gateway: Gateway, *words: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._fd = ours
        self._child = subprocess.Popen(
            [*COMMAND, *words],
            env=environment(gateway, TERM="xterm-256color"),
            cwd=PROJECT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C is the terminal's to translate
        )
        os.close(theirs)
        self.shown = ""

    def read_until(self, text: str, timeout_s: float = 30) -> None:
        """Read on until ``text`` was shown, colours and movements left out."""
        deadline = time.monotonic() + timeout_s
        while text not in ESCAPES.sub("", self.shown):
            ready, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"expected {text!r}, the last was {self.shown[-400:]!r}"
            assert self._read(), f"expected {text!r}, the last before the end was {self.shown[-400:]!r}"

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> Ran:
        """All that was shown, and the exit code."""
        while self._read():
            pass
        return Ran(self._child.wait(30), ESCAPES.sub("", self.shown))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        try:
            part = os.read(self._fd, 65536)
        except OSError:  # what Linux says when the other side is closed
            return False
        self.shown += part.decode(errors="replace")
        return bool(part)


WAIT = ["--wait", "--request-timeout", "1"]


def test_a_job_from_its_creation_to_its_results(gateway: Gateway) -> None:
    ran = run(gateway, "submit", "--to", "cg-[01-09]", *WAIT, "--name", "all", "post", "/system/time")
    assert (ran.code, ran.err) == (1, "")
    lines = ran.out.splitlines()
    number = lines[0].split()[1].rstrip(":")
    assert {"cg-07 error 500 from device: fails on purpose"} <= set(lines)
    assert f"job {number} resolved: 6 of 9 resolved, 2 error, 1 timeout." in lines

    assert f"{number}\tresolved\t9/9\t3\t" in run(gateway, "list", "--name", "all").out
    shown = run(gateway, "show", number, "--status", "timeout", "--json").json
    assert [one["__request"]["destination"] for one in shown["requests"]] == ["cg-09"]
    results = run(gateway, "results", number, "--diff")
    assert results.code == 0
    assert "2\terror\t500\tcg-[07-08]" in results.out

    again = run(gateway, "rerun", number, "--status", "error", *WAIT, "--json")
    assert again.code == 1
    assert (again.json["parent"], again.json["totalCount"]) == (int(number), 2)

    assert run(gateway, "delete", number).code == 0
    gone = run(gateway, "show", number)
    assert (gone.code, gone.out) == (2, "")
    assert gone.err.startswith(f"puppetmaster: There is no job {number}")


def test_all_resolved(gateway: Gateway) -> None:
    ran = run(gateway, "submit", "--to", "cg-[01-06]", *WAIT, "get", "/system/time")
    assert ran.code == 0
    assert ran.out.splitlines()[-1].endswith("6 of 6 resolved.")


def test_control(gateway: Gateway) -> None:
    created = run(
        gateway, "submit", "--to", "cg-20", "--to", "cg-01", "--window", "1", "post", "/x", "--json"
    )
    number = str(created.json["id"])
    assert run(gateway, "pause", number).out.startswith(f"job {number} paused: ")
    assert run(gateway, "resume", number).out.startswith(f"job {number} dispatching: ")
    assert run(gateway, "cancel", number, "--force").code == 0
    assert run(gateway, "watch", number, "--json").code == 4
    assert run(gateway, "resume", number).code == 2


def test_a_dry_run(gateway: Gateway) -> None:
    ran = run(
        gateway, "submit", "--to", "cg-[01-02]", "--dry-run", "--waves", "1,100%", "get", "/x", "--json"
    )
    assert (ran.code, ran.json["id"], ran.json["totalCount"]) == (0, None, 2)


def test_mistakes(gateway: Gateway) -> None:
    ran = run(gateway, "submit", "--to", "cg-01", "--window", "0", "get", "/x")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("puppetmaster: concurrency: expected")
    ran = run(gateway, "list", PUPPETMASTER_TOKEN="another-wrong-token")
    assert (ran.code, "this is another one: set PUPPETMASTER_TOKEN" in ran.err) == (7, True)


def test_doctor(gateway: Gateway) -> None:
    ran = run(gateway, "doctor", "--json")
    marks = {check["name"]: check["mark"] for check in ran.json["checks"]}
    assert {name for name, mark in marks.items() if mark != "ok"} == set(), ran.out
    assert {"broker", "store file", "controller", "registered"} <= set(marks)
    assert ran.code == 0


def test_a_live_bar(gateway: Gateway) -> None:
    to = ["--to", "cg-[01-08]", "--to", "cg-10"]  # cg-09 is still locked by a command of another test
    with Terminal(gateway, "submit", *to, *WAIT, "post", "/system/time") as terminal:
        ran = terminal.end()
    assert ran.code == 1
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")  # the cursor is back
    assert "9 of 9 done 3 failed 0 in flight" in ran.out
    assert "cg-08 error 500 from device: fails on purpose" in ran.out
    assert "6 of 9 resolved, 2 error, 1 timeout." in ran.out


def test_ctrl_c_detaches_and_the_job_goes_on(gateway: Gateway) -> None:
    with Terminal(gateway, "submit", "--to", "cg-19", "--wait", "post", "/system/time") as terminal:
        terminal.read_until("1 in flight")
        terminal.press(b"\x03")
        ran = terminal.end()
    found = re.search(r"Detached: job (\d+) goes on. Watch it again: puppetmaster watch \1\r?\n", ran.out)
    assert found
    assert ran.code == 130
    assert "Traceback" not in ran.out
    assert run(gateway, "show", found[1], "--json").json["status"] == "dispatching"

    with Terminal(gateway, "delete", found[1]) as terminal:
        terminal.read_until("[y/N]")
        terminal.press(b"n\n")
        assert terminal.end().code == 2
    assert run(gateway, "delete", found[1]).code == 0


def test_watching_goes_on_while_the_bundle_starts_again(gateway: Gateway) -> None:
    number = str(run(gateway, "submit", "--to", "cg-18", "post", "/x", "--json").json["id"])
    with Terminal(gateway, "watch", number) as terminal:
        terminal.read_until("1 in flight")
        gateway.bundle.kill()
        terminal.read_until("away, waiting")
        gateway.bundle.start()
        run(gateway, "cancel", number, "--force")
        ran = terminal.end()
    assert ran.code == 4
    assert f"job {number} canceled: 0 of 1 resolved, 1 unknown." in ran.out


def test_run_is_the_bundle(gateway: Gateway, tmp_path: Path) -> None:
    """A second bundle in the same directory ends with the sentence that it has always ended with."""
    env = {name: value for name, value in gateway.bundle.env.items() if name != "PUPPETMASTER_HTTP"}
    ran = run(gateway, "run", **{**env, "PUPPETMASTER_HTTP": "off"})
    assert ran.code == 1
    assert "puppetmaster cannot start" in ran.err
