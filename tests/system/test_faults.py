"""The torture's failing disk and wrong clock do what they say; the short form of it."""

import os
import sys
import time
from pathlib import Path

import pytest

from sandbox.process import PROJECT, Process
from tests.conftest import require
from tests.torture import kills
from tests.torture.faults import BEHIND_S, Shim, failing
from tests.torture.world import UNTOLD

pytestmark = pytest.mark.skipif(not Shim.available(), reason="gcc is not installed, or this is no Linux")

SCRIPT = """
import sys, threading, time
from pathlib import Path
from puppetmaster.store.base import Changes, Ids
from puppetmaster.errors import StoreError
from puppetmaster.store.sqlite.store import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
print("open", flush=True)
number = 2**31 + 2**30
while True:
    number += 1
    said = []
    try:
        store.commit(Changes(ids=Ids(1, number)))
    except StoreError as error:
        said.append(error.message)
    try:
        with (Path(sys.argv[1]) / "puppetmaster.db").open("rb") as file:
            file.read(100)
    except OSError as error:
        said.append(f"read {error.strerror}")
    print(" ".join([*said, time.strftime("%Y", time.gmtime(time.time())), "done"]), flush=True)
    threading.Event().wait(0.05)
"""


def test_the_disk_fails_and_the_clock_is_wrong_while_it_is_told_to(tmp_path: Path) -> None:
    shim = Shim(tmp_path)
    env = {"PYTHONPATH": str(PROJECT), **shim.env}
    child = Process("store", [sys.executable, "-c", SCRIPT, str(tmp_path / "data")], env=env, ready="open")
    with child:
        child.wait_for("done", 10)
        assert not [line for line in child.output() if "cannot be written" in line or "read " in line]
        shim.tell(syncs=1.0)
        child.wait_for("puppetmaster.db cannot be written: disk I/O error.", 10)
        shim.tell(reads=1.0)
        child.wait_for(f"read {os.strerror(5)}", 10)
        shim.tell(behind_s=BEHIND_S[-1])
        year = time.gmtime(time.time() - BEHIND_S[-1]).tm_year
        child.wait_for(f"{year} done", 10)


@pytest.mark.timeout(300)
def test_every_promise_holds_on_a_disk_that_fails_and_with_a_clock_that_is_set(tmp_path: Path) -> None:
    require("mosquitto")
    outcome = kills.run(3, failing(6), tmp_path, conditions=UNTOLD)
    assert not outcome.faults
    assert outcome.statuses["resolved"] > 50
