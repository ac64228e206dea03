"""Which store is opened, and what is imported for it."""

import subprocess
import sys
from pathlib import Path

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
    print(*sorted(name for name in [*sys.modules] if "psycopg" in name or "postgres" in name))
    print("prometheus_client" in sys.modules)
    assert fetch(door.port, "GET", "/metrics").status == 200
    print("prometheus_client" in sys.modules)
"""

#: Where psycopg cannot be imported, all that needs it says so.
WITHOUT = """
import sys
sys.modules["psycopg"] = None
from pathlib import Path
from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings
from puppetmaster.store import opening
place = Path(sys.argv[1])
settings = Settings(data_dir=place, store="postgresql://host/db")
for step in (
    lambda: opening.open_store(settings),
    lambda: opening.export(settings, place / "all.json"),
    lambda: opening.import_(place / "all.json", settings),
    lambda: opening.doubts(settings.store),
):
    try:
        step()
    except SettingsError as error:
        print(error)
"""


def test_without_the_setting_it_is_the_file(tmp_path: Path) -> None:
    store = opening.open_store(Settings(data_dir=tmp_path))
    assert isinstance(store, SqliteStore)
    store.close()


def test_what_is_not_used_is_not_imported(tmp_path: Path) -> None:
    """Nothing of PostgreSQL without the setting, and the library of metrics at the first scrape."""
    argv = [sys.executable, "-c", STARTED, str(tmp_path)]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n") == ["", "False", "True", ""]


def test_psycopg_is_an_extra_that_may_be_missing(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    said = ran.stdout.splitlines()
    assert len(said) == 4
    assert all("pip install 'puppetmaster[postgresql]', or the package" in one for one in said), said
