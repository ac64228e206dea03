"""The commands about templates: jobs that are kept and started again, by hand or by a schedule."""

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click

from puppetmaster import ranges
from puppetmaster.api.fields import SCHEDULE_FIELDS
from puppetmaster.cli import jobfile
from puppetmaster.cli import submit as submitting
from puppetmaster.cli.client import Client, Refused
from puppetmaster.cli.context import (
    Context,
    Group,
    as_typed,
    confirm,
    limit_option,
    policies,
    usage,
    yes_option,
)
from puppetmaster.cli.kinds import OneOf
from puppetmaster.cli.terminal import Column, Screen
from puppetmaster.model.template import Missed, Overlap

Row = Mapping[str, Any]
_ABOUT = {field.name: f"{field.sentence}." for field in SCHEDULE_FIELDS}
#: Options of ``set`` -> the property of the schedule.
_SCHEDULE = ("cron", "timezone", "missed", "overlap")
_name_argument = click.argument("template", metavar="NAME")


@click.group(cls=Group, short_help="Keep jobs, and start them again.")
def templates() -> None:
    """Keep jobs to start them again, by hand or by a schedule. NAME is a template's name or number."""


@templates.command("list")
@limit_option("templates")
@click.pass_obj
def list_templates(session: Context, limit: int) -> None:
    """List templates, the oldest first, with when each starts next."""
    screen = session.screen()
    found, total = session.client().templates(limit=limit)
    rows = [
        (one["id"], one["name"], _when(one), screen.moment(one["nextAt"]), screen.said(_last(one)))
        for one in found
    ]
    titles = (Column("id", right=True), Column("name", wraps=True), Column("at"), Column("next"))
    screen.listed(found, (*titles, Column("last", wraps=True)), rows)
    screen.rest(len(found), total)


def _when(template: Row) -> str:
    schedule = template["schedule"]
    if schedule is None:
        return "by hand"
    return f"{schedule['cron']} {schedule['timezone']}{'' if schedule['enabled'] else ', off'}"


def _last(template: Row) -> str:
    last = template["lastStart"]
    if last is None:
        return "" if template["lastJob"] is None else f"job {template['lastJob']}"
    return f"{last['outcome']}: {last['message']}"


@templates.command("show")
@_name_argument
@click.pass_obj
def show(session: Context, template: str) -> None:
    """Show a template: its job, its next starts, and what has become of the last."""
    _show(session.screen(), session.client().template(template))


def _show(screen: Screen, template: Row) -> None:
    if screen.json:
        screen.value(template)
        return
    number = "" if template["id"] is None else f"template {template['id']}: "
    screen.line(f"{number}{template['name']}", "bold" if screen.terminal else "")
    starts = ", ".join(f"{count} {outcome}" for outcome, count in template["starts"].items() if count)
    facts = {
        "job": _commands(template["job"]),
        "starts": _when(template),
        "next": ", ".join(screen.moment(at) for at in template["nextStarts"]) or None,
        "waits": template["queuedAt"] and f"the start of {screen.moment(template['queuedAt'])}",
        "last": screen.said(_last(template)) or None,
        "so far": starts or None,
    }
    screen.facts({name: value for name, value in facts.items() if value is not None})
    for sentence in template.get("plan", ()):
        screen.line(screen.said(sentence))


def _commands(job: Row | None) -> str:
    """The commands of a job as it was given: each with where it goes."""
    if job is None:  # too long for the caller
        return "too long to be shown"
    return "; ".join(f"{one['method']} {one['resource']} to {_to(one)}" for one in job["batch"])


def _to(item: Row) -> str:
    known = {**item, **item.get("__request", {})}
    to: Any = known.get("destination", known.get("__destination"))
    if isinstance(to, dict):
        return ", ".join("all" if name == "all" else f"{name} {value}" for name, value in to.items())
    return to if isinstance(to, str) else ", ".join(ranges.fold(to))


@templates.command("set")
@_name_argument
@submitting.words
@click.option("--cron", help=_ABOUT["cron"])
@click.option("--timezone", help=_ABOUT["timezone"])
@click.option("--missed", type=OneOf([*Missed]), help=_ABOUT["missed"])
@click.option("--overlap", type=OneOf([*Overlap]), help=_ABOUT["overlap"])
@click.option("--by-hand", is_flag=True, help="It has no schedule.")
@click.option("--rename", metavar="NEW", help="Its new name.")
@policies
@click.pass_obj
def set_template(
    session: Context, /, template: str, by_hand: bool, rename: str | None, **options: Any
) -> None:
    """Keep a job as a template, or change one: METHOD RESOURCE [DATA] as in submit, or --file.

    What is not said stays. --dry-run shows the next five starts and what the job would do, and keeps nothing.
    """
    schedule = {name: options.pop(name) for name in _SCHEDULE}
    if by_hand and any(schedule.values()):
        raise click.UsageError("expected --by-hand, or a schedule, got both")
    if options["wait"] or options["exit_at_gate"]:
        raise click.UsageError("expected no --wait: nothing is started here")
    client = session.client()
    known = _known(client, template)
    body = _changes(known, options)
    if known is None or rename:
        body["name"] = rename or template
    given = {name: value for name, value in schedule.items() if value is not None}
    if given or by_hand:
        before = (known and known["schedule"]) or {}
        body["schedule"] = None if by_hand else {**before, **given}
    if options["dry_run"]:
        body["dryRun"] = True
    try:
        kept = client.put_template(None if known is None else known["id"], body)
    except Refused as error:
        raise error.named(partial(_spoken, options=options)) from error
    if not session.json and kept["id"] is None:
        session.screen().aside("This is a dry run: nothing was kept.")
    _show(session.screen(), kept)


def _known(client: Client, name: str) -> dict[str, Any] | None:
    """The template of this name or number; None: there is none."""
    try:
        return client.template(name)
    except Refused as error:
        if error.status != 404:
            raise
    return None


def _changes(known: Row | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The new job, if any of it is said."""
    command = {name: options[name] for name in ("method", "resource", "data", "to", "file")}
    others = {name: value for name, value in options.items() if name not in command}
    says_where = options["to"] or _target(options)
    if command["method"] is not None or command["file"] is not None or known is None:
        job = submitting.asked_for(**command, **others).body
    elif says_where:
        job = {**known["job"], "batch": _aimed(known["job"], options)}
    else:
        job = dict(known["job"])
    with usage():
        changed = jobfile.with_options(job, {**others, "dry_run": None})
    if others["key"] is None:
        changed.pop("key", None)  # the key that is made for a job that is sent now
    return {} if known is not None and changed == known["job"] else {"job": changed}


def _target(options: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the known gateways are meant, as the options say it."""
    with usage():
        return jobfile.target(options)


def _aimed(job: Row, options: Mapping[str, Any]) -> list[Any]:
    """The batch of a job with the destinations that the options say."""
    with usage():
        to = submitting.destinations(options["to"], options, jobfile.Files())
    commands = [{name: one[name] for name in one if name != "__destination"} for one in job["batch"]]
    return [{**command, "__request": {"destination": to}} for command in commands]


def _spoken(path: str, options: Mapping[str, Any]) -> str:
    """A place in the body as it is typed."""
    if path.startswith("schedule."):
        return f"--{path.removeprefix('schedule.')}"
    inner = path.removeprefix("job.")
    if inner == path:
        return "NAME" if path == "name" else path
    return as_typed(jobfile.spoken(inner, options, words=options["method"] is not None))


@templates.command("run")
@_name_argument
@submitting.where
@policies
@click.pass_obj
def run_template(session: Context, /, template: str, **options: Any) -> None:
    """Start a job of a template now, with what the options say in place of what it says."""
    client = session.client()
    found = client.template(template)
    body: dict[str, Any] = {}
    if options["to"] or _target(options):
        body["batch"] = _aimed(found["job"], options)
    with usage():
        body = _merged(found["job"], jobfile.with_options(body, options))
    if not body.get("dryRun"):
        body.setdefault("key", f"{jobfile.OWN_KEY}{uuid.uuid4()}")
    job = submitting.created(
        lambda: client.start_template(found["id"], body),
        body.get("key"),
        lambda path: as_typed(jobfile.spoken(path, options, words=False)),
    )
    submitting.show(session, client, job, options)


def _merged(job: Row, body: dict[str, Any]) -> dict[str, Any]:
    """What is said, with the parts of its groups (``retry``, ``gate``) that only the template says."""
    return {
        name: {**job[name], **value} if isinstance(value, dict) and isinstance(job.get(name), dict) else value
        for name, value in body.items()
    }


@templates.command("on")
@_name_argument
@click.pass_obj
def switch_on(session: Context, template: str) -> None:
    """Switch the schedule of a template on: it begins now, and makes up for nothing."""
    _switch(session, template, on=True)


@templates.command("off")
@_name_argument
@click.pass_obj
def switch_off(session: Context, template: str) -> None:
    """Switch the schedule of a template off. What runs goes on."""
    _switch(session, template, on=False)


def _switch(session: Context, name: str, *, on: bool) -> None:
    client = session.client()
    found = client.template(name)
    if found["schedule"] is None:
        raise click.UsageError(
            f"template {found['id']} has no schedule: give it one with templates set --cron"
        )
    body = {"schedule": {**found["schedule"], "enabled": on}}
    _show(session.screen(), client.put_template(found["id"], body))


@templates.command("next")
@_name_argument
@click.pass_obj
def show_next(session: Context, template: str) -> None:
    """Show the next five starts of a template, also when its schedule is off."""
    screen = session.screen()
    found = session.client().template(template)
    if screen.json:
        screen.value(found["nextStarts"])
        return
    for at in found["nextStarts"]:
        screen.line(screen.moment(at))
    if found["nextAt"] is None:
        screen.aside("It does not start by itself.")


@templates.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@yes_option
@click.pass_obj
def delete_templates(session: Context, names: Sequence[str], yes: bool) -> None:
    """Remove templates. Their jobs stay."""
    client, screen = session.client(), session.screen()
    found = [client.template(name) for name in dict.fromkeys(names)]
    confirm(f"Remove {', '.join(one['name'] for one in found)}? Their jobs stay.", yes=yes)
    gone = [client.delete_template(one["id"]) for one in found]
    if screen.json:
        screen.value(gone if len(gone) > 1 else gone[0])
        return
    for one in gone:
        screen.line(f"template {one['id']} ({one['name']}) is removed")
