"""Which store is opened, and what is imported for it."""

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings
from puppetmaster.store import opening
from puppetmaster.store.sqlite.store import SqliteStore
from tests import ROOT

#: Starts the whole application without a bus, and says which modules there are.
STARTED = """
import sys
from pathlib import Path
from tests.web_client import fetch, running
with running(Path(sys.argv[1])) as door:
    assert fetch(door.port, "GET", "/jobs").status == 200
print(*sorted(name for name in sys.modules if "psycopg" in name or "postgres" in name))
"""


def test_without_the_setting_it_is_the_file(tmp_path: Path) -> None:
    store = opening.open_store(Settings(data_dir=tmp_path))
    assert isinstance(store, SqliteStore)
    store.close()


def test_an_installation_without_the_setting_imports_nothing_of_postgresql(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", STARTED, str(tmp_path)]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "\n", ran.stdout


def test_psycopg_is_an_extra_that_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if "psycopg" in name or "store.postgres" in name]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *given: Any) -> Any:
        if name.startswith("psycopg"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    settings = Settings(data_dir=tmp_path, store="postgresql://host/db")
    steps = (
        lambda: opening.open_store(settings),
        lambda: opening.export(settings, tmp_path / "all.json"),
        lambda: opening.import_(tmp_path / "all.json", settings),
    )
    for step in steps:
        with pytest.raises(SettingsError, match=r"pip install 'puppetmaster\[postgresql\]'"):
            step()
