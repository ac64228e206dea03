"""The commands ``export`` and ``import``, which read and write the data directory itself, without HTTP."""

import json
from pathlib import Path

import click

from puppetmaster import places
from puppetmaster.cli.client import ClientError
from puppetmaster.cli.context import Command, Context
from puppetmaster.errors import PuppetmasterError
from puppetmaster.settings import Settings
from puppetmaster.store import opening


class Failed(ClientError):
    """The store or the file cannot be read or written."""

    exit_code = 1


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where the store is; else PUPPETMASTER_DATA_DIR, else data/ of the bundle.",
)


def _settings(data_dir: Path | None) -> Settings:
    """The settings that say where the store is: a directory that is named means the file in it."""
    if data_dir is not None:
        return Settings(data_dir=data_dir)
    return Settings.from_environment(data_dir=places.data_dir())


def _told(session: Context, jobs: int, sentence: str) -> None:
    click.echo(json.dumps({"jobs": jobs}) if session.json else sentence)


@click.command("export", cls=Command, ignored=("url",), short_help="Write all jobs to a JSON file.")
@click.argument("file", type=click.Path(path_type=Path))
@data_dir_option
@click.pass_obj
def export_store(session: Context, file: Path, data_dir: Path | None) -> None:
    """Write all jobs to a plain TinyDB JSON file; the bundle may run."""
    try:
        jobs = opening.export(_settings(data_dir), file)
    except PuppetmasterError as error:
        raise Failed(error.message) from error
    _told(session, jobs, f"{jobs} jobs are in {file}.")


@click.command(
    "import", cls=Command, ignored=("url",), short_help="Fill an empty store with what export wrote."
)
@click.argument("file", type=click.Path(path_type=Path))
@data_dir_option
@click.pass_obj
def import_store(session: Context, file: Path, data_dir: Path | None) -> None:
    """Fill an empty store with what export wrote; the bundle must not run."""
    try:
        settings = _settings(data_dir)
        jobs = opening.import_(file, settings)
    except PuppetmasterError as error:
        raise Failed(error.message) from error
    _told(session, jobs, f"{jobs} jobs are in {settings.store or settings.data_dir}.")
