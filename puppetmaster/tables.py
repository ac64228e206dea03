"""How jobs, requests, results and checks are laid out on a screen."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from puppetmaster import watch
from puppetmaster.doctor import Check
from puppetmaster.screen import STYLES, Screen

#: What a device sent is cut behind so many characters; JSON holds all of it.
LONGEST = 200

Row = Mapping[str, Any]


def jobs(screen: Screen, found: Sequence[Row]) -> None:
    """Jobs, one in a row."""
    columns = ("job", "status", "done", "failed", "created", "name")
    rows = [
        (
            job["id"],
            job["status"],
            f"{job['doneCount']}/{job['totalCount']}",
            job["errorCount"],
            job["createdAt"],
            job["name"],
        )
        for job in found
    ]
    screen.table(columns, rows)


def job(screen: Screen, found: Row) -> None:
    """All that is known of one job, without its requests."""
    counts = ", ".join(f"{count} {status}" for status, count in found["counts"].items() if count)
    screen.facts({**found, "requests": None, "counts": counts})


def requests(screen: Screen, found: Sequence[Row]) -> None:
    """Requests, one in a row, with what they wait for or what came back."""
    rows = []
    for one in found:
        about = one["__request"]
        command = f"{one['method']} {one['resource']}"
        said = about.get("why") or _said(about["result"])
        code = about["result"].get("code")
        rows.append((one["id"], about["destination"], about["status"], code, command, said))
    screen.table(("request", "destination", "status", "code", "command", "result"), rows)


def results(screen: Screen, groups: Sequence[Row]) -> None:
    """Groups of equal results, one in a row; below, how they differ."""
    rows = []
    for group in groups:
        said = _said(group["sample"]["result"])
        rows.append((group["count"], group["status"], group["code"], " ".join(group["destinations"]), said))
    screen.table(("count", "status", "code", "destinations", "result"), rows)
    for group in groups:
        if group.get("diff"):
            screen.line(f"{' '.join(group['destinations'])}:", "bold")
            for one in group["diff"]:
                screen.line(f"  {_difference(one)}")


def check(screen: Screen, found: Check) -> None:
    """One check of the doctor."""
    style = STYLES[found.mark] if found.mark != "ok" else ""
    screen.line(f"{found.mark:4}  {found.name:10}  {found.says}", style)


def _said(result: Row) -> str:
    data = result.get("data")
    text = result.get("message") or watch.said(data) or ("" if data in (None, {}) else json.dumps(data))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _difference(one: Row) -> str:
    if "message" in one:
        return str(one["message"])
    here, good = (json.dumps(one[side]) if side in one else "nothing" for side in ("here", "good"))
    return f"{one['path'] or 'data'}: {here}, in the largest group {good}"
