"""The data directory, which one process holds, and which no other user can read.

It has two locks: on ``puppetmaster.lock``, which earlier versions know, and on ``puppetmaster.db`` itself,
which stays when the other file is removed by hand.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from puppetmaster.errors import StoreError

FILE_NAME, LOCK_NAME = "puppetmaster.db", "puppetmaster.lock"
#: A file beside the store with how often a store was opened here. The store has the number too; a copy of an
#: earlier day has a smaller one.
GENERATION_NAME = "puppetmaster.generation"
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
        """Raises StoreError: the store's file was removed, or another one is in its place."""
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
        try:
            return int((self._path / GENERATION_NAME).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    @generation.setter
    def generation(self, number: int) -> None:
        part = self._path / f"{GENERATION_NAME}.part"
        part.unlink(missing_ok=True)
        opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        with os.fdopen(opened, "w", encoding="ascii") as file:
            file.write(f"{number}\n")
        part.replace(self._path / GENERATION_NAME)

    def close(self) -> None:
        """Release the locks. SQLite's connections must be closed before, because their locks are lost too."""
        while self._held:
            os.close(self._held.pop())
