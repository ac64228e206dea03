"""How the command line was called: what it proposes to type next begins as what was typed."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

NAME = "puppetmaster"
#: A script that starts us under a name of its own says here which.
VARIABLE = "_PUPPETMASTER_CALLED"


@cache
def name() -> str:
    """What stands before a command: ``.venv/bin/puppetmaster``, ``python -m puppetmaster``."""
    return named(sys.argv, sys.orig_argv, os.environ)


def command(*words: object) -> str:
    """A command as its reader can type it: ``puppetmaster watch 7``."""
    return " ".join([name(), *map(str, words)])


def named(argv: Sequence[str], typed: Sequence[str], environ: Mapping[str, str]) -> str:
    """As ``name``. ``argv`` begins with the file that runs, ``typed`` with the interpreter."""
    file = environ.get(VARIABLE) or argv[0]
    path = Path(file)
    if path.parts[-2:] == (NAME, "__main__.py"):
        interpreter, *options = typed[: len(typed) - len(argv) + 1]
        return shlex.join([_short(interpreter), *options])
    if path.name != NAME or file == NAME:
        return NAME
    found = shutil.which(NAME)
    return NAME if found and Path(found).absolute() == path.absolute() else shlex.quote(_short(file))


def _short(file: str) -> str:
    """The file as it can be typed here, shorter when it lies below."""
    try:
        below = Path(file).relative_to(Path.cwd())
    except (ValueError, OSError):
        return file
    return str(below) if len(below.parts) > 1 else f"./{below}"
