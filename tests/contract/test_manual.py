"""The manual pages say of every command and setting what the program says of it."""

from dataclasses import fields

import click

from docs import manual
from puppetmaster import __version__
from puppetmaster.cli.main import cli
from puppetmaster.settings import Settings, name_in_file


def _with_options(command: click.Command) -> list[str]:
    found = [command.help or ""]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            found += [*parameter.opts, parameter.help or ""]
    return found


def test_every_command_and_option_is_described() -> None:
    page = " ".join(manual.command_page().split())
    assert page.startswith(f'.TH PUPPETMASTER 1 "" "puppetmaster {__version__}"')
    for name, command in cli.commands.items():
        assert f".SS {name}" in page
        for text in _with_options(command):
            for part in text.split("\n\n"):
                assert manual.escaped(" ".join(part.split())) in page, name


def test_every_setting_that_a_file_may_hold_is_described() -> None:
    page = manual.settings_page()
    for knob in fields(Settings):
        named = f"\n.B {name_in_file(knob.name)}\n{manual.escaped(knob.metadata['about'])}"
        assert (named in page) == (knob.name != "data_dir")
    assert "Default: 500, 1 to 10000. Variable: PUPPETMASTER_MAX_IN_FLIGHT." in page


def test_nothing_in_a_text_is_taken_for_a_command_of_roff() -> None:
    assert manual.escaped(".a\n'b-c\\") == "\\&.a\n\\&'b\\-c\\e"
