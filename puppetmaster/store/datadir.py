"""The data directory and its files, held by one process, for nobody else to read.

Two locks: that of ``puppetmaster.lock``, which earlier versions know, and that of ``puppetmaster.db`` itself,
which stays when somebody removes the other by hand.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from puppetmaster.errors import StoreError

FILE_NAME, LOCK_NAME = "puppetmaster.db", "puppetmaster.lock"
#: Beside the store: how often a store was opened in this directory. A copy of an earlier day says less.
GENERATION_NAME = "puppetmaster.generation"
PRIVATE, PRIVATE_DIR = 0o600, 0o700


class DataDir:
    """The directory, which is made when it is missing, and its locks. Raises OSError, StoreError."""

    def __init__(self, path: Path) -> None:
        self.file = path / FILE_NAME
        self._path = path
        path.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        self._held: list[int] = []
        try:
            for file in (path / LOCK_NAME, self.file):
                self._hold(file)
        except BaseException:
            self.close()
            raise
        for name in (f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"):  # a new one gets the rights of the file itself
            with suppress(OSError):
                (path / name).chmod(PRIVATE)

    def _hold(self, file: Path) -> None:
        """Open and lock a file until ``close``, or until the process is gone; what is in it stays."""
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        self._held.append(opened)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"Another puppetmaster uses {self._path}: stop it, or set PUPPETMASTER_DATA_DIR to another."
            ) from None
        with suppress(PermissionError):  # somebody else's
            os.fchmod(opened, PRIVATE)

    @property
    def inode(self) -> int:
        """Which file the store is: a copy is another one."""
        return os.fstat(self._held[1]).st_ino

    def check(self) -> None:
        """Raise StoreError when the file is not there any more, or another is in its place."""
        if not self._held:
            return
        try:
            same = os.path.samestat(os.fstat(self._held[1]), self.file.stat())
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreError(
                f"{self.file} was removed or replaced while it is in use: put it back, or start again."
            )

    @property
    def generation(self) -> int:
        """How often a store was opened in this directory, as far as is known."""
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
        """Let another process have it. SQLite's connections must be closed before: its locks go too."""
        while self._held:
            os.close(self._held.pop())
