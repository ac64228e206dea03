"""The manual pages, from what the program says of itself: ``python -m docs.manual DIRECTORY``.

puppetmaster(1) is made of the descriptions of the commands, puppetmaster.json(5) of those of the settings.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import click

from docs.generate import plain
from puppetmaster import __version__
from puppetmaster.cli.main import NAME, cli
from puppetmaster.settings import Settings, name_in_file, variable

FILES = """
.SH FILES
.TP
.I /etc/puppetmaster/puppetmaster.json
The settings of the service; see
.BR puppetmaster.json (5).
.TP
.I /var/lib/puppetmaster
The store of the service.
"""
SETTINGS = """
.SH SYNOPSIS
.I /etc/puppetmaster/puppetmaster.json
.SH DESCRIPTION
One JSON object. A setting that it does not name has its default. With an unknown name, or a value out of
bounds, puppetmaster does not start, and says which it is. Times are in seconds. Settings are read at the
start:
.B systemctl restart puppetmaster
reads them again. An environment variable overrides the file.
.B PUPPETMASTER_SETTINGS
names another file.
.SH EXAMPLE
.EX
{"brokerHost": "10.0.0.1", "keepDays": 90}
.EE
.SH SETTINGS
"""


def escaped(text: str) -> str:
    """The text as roff shows it."""
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", r"\e").replace("-", r"\-"), flags=re.MULTILINE)


def _head(name: str, section: int, about: str) -> str:
    title = f'.TH {name.upper()} {section} "" "puppetmaster {__version__}"'
    return f"{title}\n.SH NAME\n{name} \\- {escaped(about)}"


def _help(command: click.Command) -> str:
    """The paragraphs of a command's description; a line break within one means nothing."""
    return "\n.PP\n".join(escaped(" ".join(part.split())) for part in (command.help or "").split("\n\n"))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Those with a description; what every command takes is described once."""
    above = set() if command is cli else {"--help", *(name for one in cli.params for name in one.opts)}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and record[1] and not above.intersection(parameter.opts):
            yield f".TP\n.B {escaped(record[0])}\n{escaped(record[1])}"


def command_page() -> str:
    """All of puppetmaster(1)."""
    context = click.Context(cli, info_name=NAME)
    parts = [
        _head(NAME, 1, "run batches of commands on the remote gateways of a Sanji bus"),
        f".SH SYNOPSIS\n.B {NAME}\n{escaped(' '.join(cli.collect_usage_pieces(context)))}",
        f".SH DESCRIPTION\n{_help(cli)}",
        ".SH OPTIONS",
        *_options(cli, context),
        ".SH COMMANDS",
    ]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context)
        usage = escaped(" ".join([name, *command.collect_usage_pieces(inner)]))
        parts += [f".SS {usage}\n{_help(command)}", *_options(command, inner)]
    return "\n".join(parts) + FILES + ".SH SEE ALSO\n.BR puppetmaster.json (5)\n"


def _setting(knob: "Field[Any]") -> str:
    low, high = knob.metadata["low"], knob.metadata["high"]
    bounds = "" if low is None else f", {plain(low)} to {plain(high)}"
    said = f"{knob.metadata['about']}. Default: {plain(knob.default)}{bounds}. Variable: {variable(knob)}."
    return f".TP\n.B {escaped(name_in_file(knob.name))}\n{escaped(said)}"


def settings_page() -> str:
    """All of puppetmaster.json(5)."""
    knobs = [_setting(knob) for knob in fields(Settings) if knob.name != "data_dir"]
    head = _head(f"{NAME}.json", 5, "the settings of puppetmaster")
    return head + SETTINGS + "\n".join(knobs) + "\n.SH SEE ALSO\n.BR puppetmaster (1)\n"


def main() -> None:
    """Write them."""
    for name, page in ((f"man1/{NAME}.1", command_page()), (f"man5/{NAME}.json.5", settings_page())):
        file = Path(sys.argv[1], name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page)


if __name__ == "__main__":
    main()
