"""The terminal session at the top of the README is what the program shows on 100 columns.

The job is one of the demo's fleet, told by a server of the test.
``python -m tests.unit.cli.test_readme`` prints the session as it is now.
"""

import os
import re
import shlex
from typing import Any

from puppetmaster.cli.called import NAME, VARIABLE
from tests import ROOT
from tests.fake_http import Asked, FakeServer, Reply, group, job, request
from tests.terminal import Terminal

README = ROOT / "README.md"
SUBMIT = "puppetmaster submit --to 'cg-[150-185],cg-lost' --request-timeout 8 --wait post /system/reboot"
RESULTS = "puppetmaster results 3"
BLOCKS = re.compile(r"```\n(\$ puppetmaster submit .*?)```\n\n[^`]*\n\n```\n(.*?)```", re.DOTALL)

ON_PURPOSE: dict[str, Any] = {"code": 409, "source": "device", "data": {"message": "fails on purpose"}}
NOWHERE = "no gateway of this name is registered at the controller"
UNKNOWN: dict[str, Any] = {"code": 404, "source": "controller", "message": NOWHERE}
NOTHING = "no answer within 8 s: it may have run"
SILENT: dict[str, Any] = {"code": 408, "source": "puppetmaster", "message": NOTHING}
DONE: dict[str, Any] = {"code": 200, "source": "device", "data": {"rebooting": True}}


class Demo:
    """A server that knows one job: first its last four answers are waited for, then it has ended."""

    def __init__(self) -> None:
        self.ended = False
        self._failures = [
            *(self._request(f"cg-{number}", "error", ON_PURPOSE) for number in (155, 156, 157)),
            self._request("cg-lost", "error", UNKNOWN),
        ]
        self._silent = [self._request(f"cg-{number}", "timeout", SILENT) for number in range(180, 184)]

    def answer(self, asked: Asked) -> Reply:
        if "/results" in asked.path:
            return Reply(self._groups())
        if "/requests" in asked.path:
            return Reply([*self._failures, *(self._silent if self.ended else [])])
        return Reply(self._job())

    def _job(self) -> dict[str, Any]:
        if not self.ended:
            return job("dispatching", job_id=3, resolved=29, error=4, sent=4)
        began, ended = ("2026-01-02T03:04:05.000Z", "2026-01-02T03:04:14.200Z")
        return {
            **job(job_id=3, resolved=29, error=4, timeout=4),
            "createdAt": began,
            "startedAt": began,
            "finishedAt": ended,
        }

    def _groups(self) -> list[dict[str, Any]]:
        good = [*range(150, 155), *range(158, 180), 184, 185]
        return [
            group([f"cg-{number}" for number in good], **DONE),
            group([f"cg-{number}" for number in range(180, 184)], "timeout", **SILENT),
            group([f"cg-{number}" for number in (155, 156, 157)], "error", **ON_PURPOSE),
            group(["cg-lost"], "error", **UNKNOWN),
        ]

    def _request(self, destination: str, status: str, result: dict[str, Any]) -> dict[str, Any]:
        return request(destination, status, int(destination[3:].replace("lost", "0")), **result)


def session(submit: str = SUBMIT, results: str = RESULTS) -> tuple[str, str]:
    """What stands on the terminal while the job runs, and what comes below that afterwards."""
    demo = Demo()
    with FakeServer(demo.answer) as server:
        env = {**os.environ, "PUPPETMASTER_URL": server.url, "PUPPETMASTER_TOKEN": "", VARIABLE: NAME}
        with Terminal(*shlex.split(submit)[1:], env=env, columns=100) as terminal:
            terminal.read_until("waiting for 4 answers")
            running = terminal.text
            demo.ended = True
            ended = terminal.end().text
        with Terminal(*shlex.split(results)[1:], env=env, columns=100) as terminal:
            shown = terminal.end().text
    known = running.splitlines()
    rest = "\n".join(line for line in ended.splitlines() if line not in known)
    return f"$ {submit}\n{running}", f"{rest}\n\n$ {results}\n{shown}"


def test_the_readme_shows_what_the_program_shows() -> None:
    found = BLOCKS.search(README.read_text(encoding="utf-8"))
    assert found, "expected two blocks, the first of which begins with '$ puppetmaster submit'"
    commands = re.findall(r"^\$ (.*)$", "".join(found.groups()), re.MULTILINE)
    assert found.groups() == session(*commands), "run python -m tests.unit.cli.test_readme"


if __name__ == "__main__":
    for part in session():
        print(part)  # noqa: T201 - output
