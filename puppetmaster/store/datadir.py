"""The data directory, which one process holds, and which no other user can read.

It has two locks: on ``puppetmaster.lock``, which earlier versions know, and on ``puppetmaster.db`` itself,
which stays when the other file is removed by hand.
"""

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from puppetmaster.errors import StoreError

FILE_NAME, LOCK_NAME = "puppetmaster.db", "puppetmaster.lock"
#: A file beside the store with how often a store was opened here. The store has the number too; a copy of an
#: earlier day has a smaller one.
GENERATION_NAME = "puppetmaster.generation"
#: What is known here of the database that was used last, where the store is in PostgreSQL.
KNOWN_NAME = "puppetmaster.postgresql"
PRIVATE, PRIVATE_DIR = 0o600, 0o700


class DataDir:
    """The directory and its locks. It is created if it is missing. Raises OSError, StoreError."""

    def __init__(self, path: Path) -> None:
        self.file = path / FILE_NAME
        self._path = path
        path.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        self._held: list[int] = []
        try:
            for file in (path / LOCK_NAME, self.file):
                self._hold(file)
            self._opened = os.fstat(self._held[1])
        except BaseException:
            self.close()
            raise
        for name in (f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):  # a new one gets the rights of the file itself
            with suppress(OSError):
                (path / name).chmod(PRIVATE)

    def _hold(self, file: Path) -> None:
        """Create a missing file and lock it, until ``close`` or the end of the process. Raises StoreError."""
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        self._held.append(opened)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"Another puppetmaster uses {self._path}: stop it, or set PUPPETMASTER_DATA_DIR to another."
            ) from None
        with suppress(PermissionError):  # the file belongs to another user
            os.fchmod(opened, PRIVATE)

    @property
    def inode(self) -> int:
        """The inode of the store's file. A copy has another one."""
        return os.fstat(self._held[1]).st_ino

    def check(self) -> None:
        """Raises StoreError: the store's file was removed, or another one is in its place; OSError."""
        if not self._held:
            return
        try:
            same = os.path.samestat(self._opened, self.file.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreError(
                f"{self.file} was removed or replaced while it is in use: put it back, or start again."
            )

    @property
    def generation(self) -> int:
        """How often a store was opened in this directory; 0: not known."""
        return _generation(self._path)

    @generation.setter
    def generation(self, number: int) -> None:
        _write(self._path / GENERATION_NAME, f"{number}\n")

    def close(self) -> None:
        """Release the locks. SQLite's connections must be closed before, because their locks are lost too."""
        while self._held:
            os.close(self._held.pop())


class Known(NamedTuple):
    """What a machine remembers of a database: whose it is, and how often a leader was counted in it."""

    installation: str
    epoch: int
    #: Where it is remembered.
    file: str = ""


def known(data_dir: Path) -> Known | None:
    """What this directory remembers of the database that was used last; None: nothing."""
    file = data_dir / KNOWN_NAME
    try:
        found = json.loads(file.read_text(encoding="ascii"))
        return Known(str(found["installation"]), int(found["epoch"]), str(file))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def goes_on_in_database(data_dir: Path, now: Known) -> None:
    """Remember the database. A file that lies here is older from now on: it sends nothing by itself.

    Where the directory cannot be written nothing is remembered.
    """
    with suppress(OSError):
        if (data_dir / FILE_NAME).exists():
            _write(data_dir / GENERATION_NAME, f"{_generation(data_dir) + 1}\n")
        data_dir.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        text = json.dumps({"installation": now.installation, "epoch": now.epoch})
        _write(data_dir / KNOWN_NAME, f"{text}\n")


def goes_on_in_file(data_dir: Path) -> None:
    """Note that the database that was used here is older from now on: it sends nothing by itself."""
    before = known(data_dir)
    if before is not None:
        with suppress(OSError):
            # One leader more than there were: the next one of the database has no higher number.
            text = json.dumps({"installation": before.installation, "epoch": before.epoch + 1})
            _write(data_dir / KNOWN_NAME, f"{text}\n")


def _generation(path: Path) -> int:
    try:
        return int((path / GENERATION_NAME).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _write(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(opened, "w", encoding="ascii") as writing:
        writing.write(text)
    part.replace(file)
