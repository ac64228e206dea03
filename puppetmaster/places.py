"""Where the files are that are no modules: bundle.json, index.py, the API's description, the first settings.

In a clone and in ``/usr/lib/sanji-1.0/puppetmaster`` they stand beside the package, as those of every bundle.
A wheel has them under ``share/puppetmaster`` of its environment.
"""

import os
import sysconfig
from pathlib import Path

_BESIDE = Path(__file__).resolve().parent.parent
_INSTALLED = Path(sysconfig.get_path("data"), "share", "puppetmaster")


def home(beside: Path = _BESIDE, installed: Path = _INSTALLED) -> Path:
    """The directory that they are in."""
    return beside if (beside / "bundle.json").is_file() else installed


def data_dir(beside: Path = _BESIDE) -> Path:
    """Where the store is unless somebody says otherwise.

    It is not in the environment of a wheel, because that is made anew with each new Python.
    """
    if home(beside) == beside:
        return beside / "data"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "puppetmaster")
