"""The tables of the command line: jobs, requests, results, dry runs and checks."""

import json
import re
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from puppetmaster.cli import wording
from puppetmaster.cli.doctor import Check
from puppetmaster.cli.follow import style
from puppetmaster.cli.jobfile import OWN_KEY
from puppetmaster.cli.terminal import STYLES, Cell, Column, Screen
from puppetmaster.model.request import OPEN

#: Most characters that are shown of a device's answer; JSON has all of it.
LONGEST = 200
#: The same on a narrow terminal, at least.
LEAST = 40
#: A value of ``Column.below`` that hides a column on every terminal.
EVER = 1_000_000

Row = Mapping[str, Any]


def jobs(screen: Screen, found: Sequence[Row]) -> None:
    """Show jobs, one in a row."""
    if screen.terminal:
        screen.table(*job_table(screen, found))
    else:
        screen.rows(map(job_row, found))


def job_row(job: Row) -> Sequence[Any]:
    """A job as a pipe gets it."""
    done = f"{job['doneCount']}/{job['totalCount']}"
    about = (job["errorCount"], job["createdAt"], job["name"], job.get("summary"))
    return job["id"], job["status"], done, *about


def job_table(screen: Screen, found: Sequence[Row]) -> tuple[Sequence[Column], Sequence[Sequence[Any]]]:
    """Jobs as a terminal gets them: columns and rows."""
    columns = (
        Column("job", right=True),
        Column("status"),
        Column("done", right=True),
        Column("age", right=True),
        Column("took", right=True, below=80),
        Column("what", cut=True),
    )
    rows = []
    for job in found:
        took_s = wording.took(job)
        rows.append(
            (
                job["id"],
                Cell(wording.status(job), style(job)),
                f"{job['doneCount']}/{job['totalCount']}",
                wording.age(job["createdAt"], screen.now()),
                "" if took_s is None else wording.duration(took_s),
                ": ".join(filter(None, (job["name"], job.get("summary")))),
            )
        )
    return columns, rows


def job(screen: Screen, found: Row, requests: Sequence[Row]) -> None:
    """Show one job with its policies, and the data that ``requests`` of it have in common."""
    name = f": {found['name']}" if found["name"] else ""
    screen.line(f"job {found['id']}{name}", "bold" if screen.terminal else "")
    why = f": {wording.reason(found)}" if wording.reason(found) else ""
    screen.line(f"{wording.status(found)}{why}", style(found))
    if advice := wording.advice(found):
        screen.line(advice)
    counts = ", ".join(f"{count} {status}" for status, count in found["counts"].items() if count)
    took_s = wording.took(found)
    after = f", after {wording.duration(took_s)}" if took_s is not None and screen.terminal else ""
    ago = f", {wording.age(found['createdAt'], screen.now())} ago" if screen.terminal else ""
    by = f", by {found['createdBy']}" if found.get("createdBy") else ""
    key = found["key"] or ""
    facts = {
        "command": found.get("summary"),
        "data": _common_data(requests),
        "requests": f"{found['totalCount']}: {counts}",
        "sought": wording.targets(found),
        "created": screen.moment(found["createdAt"]) + ago + by,
        "ended": screen.moment(found["finishedAt"]) + after if found["finishedAt"] else None,
        **dict(wording.policies(found, screen.now(), screen.moment)),
        "opened by hand": wording.opened_gates(found, screen.moment),
        "key": None if key.startswith(OWN_KEY) else key,
        "runs again": f"requests of job {found['parent']}" if found.get("parent") else None,
    }
    screen.facts(facts)


def _common_data(requests: Sequence[Row]) -> str:
    """The data that all of these send; empty: there are none, or each sends others."""
    first = requests[0]["data"] if requests else {}
    return wording.shortly(first) if all(one["data"] == first for one in requests) else ""


def planned(screen: Screen, would: Row) -> None:
    """Show a dry run: the gateway's sentences, its policies, and its steps in the order of sending."""
    screen.line("This is a dry run: nothing was created.")
    for sentence in would.get("plan", ()):  # an older bundle has none
        screen.line(screen.said(sentence))
    screen.line("")
    screen.facts({"name": would["name"], **dict(wording.policies(would, screen.now(), screen.moment))})
    screen.line("")
    if not screen.terminal:
        screen.rows(wording.steps(would))
        return
    columns = (
        Column("wave", right=True, below=0 if would.get("waves") else EVER),
        Column("requests", right=True),
        Column("command", wraps=True),
        Column("to", wraps=True),
    )
    screen.table(columns, wording.steps(would))


def requests(screen: Screen, found: Sequence[Row], most: int | None = None, *, fold: bool = False) -> int:
    """Show requests with what they wait for or their result, in up to ``most`` rows.

    With ``fold`` requests with the same text share a row on a terminal. Returns how many are shown.
    """
    if not screen.terminal:
        rows = [_request_row(screen, one, LONGEST) for one in found[:most]]
        screen.rows(row if row[-1] else row[:-1] for row in rows)
        return len(rows)
    longest = max(screen.console.width // 2, LEAST)
    alike: dict[Any, list[Sequence[Any]]] = {}
    for number, one in enumerate(found):
        alike.setdefault(_likeness(one) if fold else number, []).append(_request_row(screen, one, longest))
    groups = list(alike.values())[:most]
    commands = {group[0][4] for group in groups}
    columns = (
        Column("count", right=True, below=0 if len(alike) < len(found) else EVER),
        Column("request", right=True, below=100),
        Column("destination", wraps=True),
        Column("status"),
        Column("code", right=True),
        Column("command", wraps=True, below=EVER if len(commands) == 1 else 0),
        Column("result", wraps=True),
        Column("route", below=0 if any(group[0][-1] for group in groups) else EVER),
    )
    screen.table(columns, map(_group_row, groups))
    return sum(map(len, groups))


def gateways(screen: Screen, found: Sequence[Row], most: int) -> int:
    """Show gateways with their steps on a terminal, in up to ``most`` rows, failed gateways first.

    Gateways with the same text share a row. Returns how many requests are shown.
    """
    steps: dict[str, list[Row]] = {}
    for one in sorted(found, key=itemgetter("id")):
        steps.setdefault(one["__request"]["destination"], []).append(one)
    alike: dict[Any, list[list[Row]]] = {}
    for each in sorted(steps.values(), key=_rank):
        how = [(one["method"], one["resource"], one["__request"]["status"]) for one in each]
        alike.setdefault((*how, _likeness(wording.deciding(each))), []).append(each)
    groups = list(alike.values())[:most]
    longest = max(screen.console.width // 2, LEAST)
    columns = (
        Column("count", right=True, below=0 if len(alike) < len(steps) else EVER),
        Column("destination", wraps=True),
        Column("steps"),
        Column("code", right=True),
        Column("command", wraps=True),
        Column("result", wraps=True),
    )
    screen.table(columns, [_gateway_row(screen, group, longest) for group in groups])
    return sum(len(each) for group in groups for each in group)


def _rank(steps: Sequence[Row]) -> int:
    """The order of rows: failures first, then what is open."""
    status = wording.deciding(steps)["__request"]["status"]
    return 0 if status in wording.FAILED else 1 if status in OPEN else 2


def _gateway_row(screen: Screen, group: Sequence[Sequence[Row]], longest: int) -> Sequence[Any]:
    _, _, status, code, command, text, _ = _request_row(screen, wording.deciding(group[0]), longest)
    to = wording.folded([each[0]["__request"]["destination"] for each in group])
    return len(group), to, Cell(wording.progress(group[0]), STYLES[status]), code, command, text


def _request_row(screen: Screen, request: Row, longest: int) -> Sequence[Any]:
    about = request["__request"]
    sent = wording.shortly(request["data"]) if screen.terminal else ""
    command = f"{request['method']} {request['resource']} {sent}".rstrip()
    text = screen.said(about["why"]) if about.get("why") else _said(about["result"], longest)
    code = about["result"].get("code")
    direct = "direct" if about.get("route") == "direct" else ""
    return request["id"], about["destination"], about["status"], code, command, text, direct


def _likeness(request: Row) -> str:
    """A value that is equal for requests with the same text."""
    about = request["__request"]
    said = [about.get(name) for name in ("status", "why", "route")]
    came = {**about["result"], "late": None}
    return json.dumps([*said, came, request["method"], request["resource"], request["data"]], sort_keys=True)


def _group_row(group: Sequence[Sequence[Any]]) -> Sequence[Any]:
    id_, _, *same = group[0]
    return len(group), id_ if len(group) == 1 else "", wording.folded([row[1] for row in group]), *same


#: The times of a request, and of an attempt, in words.
_TIMES = {"createdAt": "created", "sentAt": "sent", "finishedAt": "ended"}


def request(screen: Screen, found: Row) -> None:
    """Show one request in full: what was sent, each attempt, and what came back."""
    about = found["__request"]
    screen.line(f"request {found['id']} of job {found['job']}, to {about['destination']}")
    how = wording.outcome(about)  # what a device says stays as it is
    screen.line(screen.said(how) if about.get("why") else how, STYLES[about["status"]])
    screen.facts(
        {
            "command": f"{found['method']} {found['resource']}",
            "event": found.get("code"),
            **_times(screen, about),
            "answer within": wording.duration(about["timeout"]) if about.get("timeout") else None,
            "attempts": about["attempts"],
            "route": about.get("route"),
        }
    )
    _in_full(screen, "data", found["data"])
    for number, one in enumerate(about.get("history", ()), 1):
        times = ", ".join(f"{name} {at}" for name, at in _times(screen, one).items())
        screen.facts({f"attempt {number}": f"{wording.outcome(one)}; {times}"})
        _in_full(screen, f"answer {number}", one["result"].get("data"))
    _in_full(screen, "answer", about["result"].get("data"))


def _times(screen: Screen, attempt: Row) -> dict[str, str]:
    return {name: screen.moment(attempt[key]) for key, name in _TIMES.items() if attempt.get(key)}


def _in_full(screen: Screen, name: str, data: Any) -> None:
    """Show JSON below its name on a terminal, else in its line."""
    if data is None:
        return
    if not screen.terminal:
        screen.rows([(name, json.dumps(data))])
        return
    screen.line(name, "bold")
    for line in json.dumps(data, indent=2, ensure_ascii=False).splitlines():
        screen.line(f"  {line}")


#: Of a group that was skipped: the id is that of one gateway's earlier step.
_STEP_ID = re.compile(r"request \d+, (an earlier step), ")


def results(screen: Screen, groups: Sequence[Row], *, full: bool = False) -> None:
    """Show groups of equal results, one in a row, and below them their differences.

    A terminal gets the first destinations of each, unless they are wanted in ``full``.
    """
    to = [
        wording.few(one["destinations"]) if screen.terminal and not full else " ".join(one["destinations"])
        for one in groups
    ]
    steps = any("step" in group for group in groups)
    rows = []
    for group, names in zip(groups, to, strict=True):
        text = _STEP_ID.sub(r"\1 ", _said(group["sample"]["result"], LONGEST))
        row = (group["count"], group["status"], group["code"], names, text)
        rows.append((group["step"], *row) if steps else row)
    if screen.terminal:
        columns = (
            *((Column("step"),) if steps else ()),
            Column("count", right=True),
            Column("status"),
            Column("code", right=True),
            Column("destinations", wraps=True),
            Column("result", wraps=True),
        )
        screen.table(columns, rows)
    else:
        screen.rows(rows)
    for group, names in zip(groups, to, strict=True):
        if group.get("diff"):
            screen.line(f"{names}:", "bold")
            for one in group["diff"]:
                screen.line(f"  {_difference(one)}")


def check(screen: Screen, found: Check) -> None:
    """Show one check of the doctor. The columns have fixed widths, because checks are shown one by one."""
    style = STYLES[found.mark] if found.mark != "ok" else ""
    row = (f"{found.mark:4}", f"{found.name:10}", found.says)
    if screen.terminal:
        columns = (Column(""), Column(""), Column("", wraps=True))
        screen.table(columns, [[Cell(text, style) for text in row]])
    else:
        screen.line("  ".join(row))


def _said(result: Row, longest: int) -> str:
    """The text of a result: its message, or up to ``longest`` characters of its data."""
    data = result.get("data")
    message = result.get("message") or wording.said(data)
    text = message or ("" if data in (None, {}) else json.dumps(data))
    return wording.cut(text, LONGEST if message else longest)


def _difference(one: Row) -> str:
    if "message" in one:
        return str(one["message"])
    here, good = (json.dumps(one[side]) if side in one else "nothing" for side in ("here", "good"))
    return f"{one['path'] or 'data'}: {here}, in the largest group {good}"
