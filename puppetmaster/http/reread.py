"""A file of the settings that is read again when it has changed."""

import logging
import threading
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Generic, TypeVar

from puppetmaster.errors import SettingsError
from puppetmaster.settings import PREFIX

log = logging.getLogger("sanji.puppetmaster.http.reread")

Said = TypeVar("Said", bound=Sized)


class Reread(Generic[Said]):
    """What a file says. It is read at the start, and again when it has changed.

    ``now`` looks at its status, which tells. While the file cannot be read, or has faults, what it said
    before holds.

    Args:
        setting: which setting names it: ``tokens``.
        name: its path; empty: there is none, and it says the same as an empty text.
        parse: makes a value of its text, and of a name for the file in errors. Raises SettingsError.
        nothing: the value of no file.

    Raises SettingsError: the file cannot be read, or has faults.
    """

    def __init__(self, setting: str, name: str, parse: Callable[[str, str], Said], nothing: Said) -> None:
        self._setting = setting
        self._file = Path(name) if name else None
        self._parse = parse
        self._lock = threading.Lock()  # guards what follows
        self._status = self._look()
        self._said = nothing if self._file is None else self._read(self._file)
        #: Why the file as it is now does not hold, as a sentence; None: it does.
        self.fault: str | None = None

    def __bool__(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def now(self) -> Said:
        """What it says. Until it says something else, this is the same object."""
        if self._file is None:
            return self._said
        with self._lock:
            if (status := self._look()) != self._status:
                self._status = status
                self._read_again(self._file)
            return self._said

    def _look(self) -> tuple[int, ...]:
        """What differs when the file has changed, or who may read it; empty: there is none."""
        if self._file is None:
            return ()
        try:
            status = self._file.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino

    def _read(self, file: Path) -> Said:
        where = f"{PREFIX}{self._setting.upper()}: {file}"
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{where} cannot be read: {error}.") from error
        return self._parse(text, where)

    def _read_again(self, file: Path) -> None:
        try:
            self._said = self._read(file)
        except SettingsError as error:
            self.fault = error.message
            action = f"{self._setting}_fault"
            log.error("%s What it said before holds.", self.fault, extra={"action": action})  # noqa: TRY400
        else:
            self.fault = None
            action = f"{self._setting}_read"
            log.info("%s: %s %s are known", file, len(self._said), self._setting, extra={"action": action})
