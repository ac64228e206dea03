"""The command line in this process, and as one on a terminal of its own, with what one sees there."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

from click.testing import CliRunner, Result

from puppetmaster.cli import main
from sandbox.process import PROJECT

COMMAND = [sys.executable, "-m", "puppetmaster"]
_PART = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)", re.DOTALL)


Run = Callable[..., Result]


def typed(url: str, token: str = "", *, code: int | None = None) -> Run:
    """Runs commands in this process, their output no terminal.

    They must end with this ``code``, unless a test names another one; None: however they like.
    """
    expected = code

    def run(*words: str, text: str | None = None, code: int | None = expected, **environ: str) -> Result:
        env = {"PUPPETMASTER_URL": url, "PUPPETMASTER_TOKEN": token, **environ}
        result = CliRunner().invoke(main.cli, words, input=text, env=env, prog_name="puppetmaster")
        assert code is None or result.exit_code == code, result.output
        return result

    return run


class Ended(NamedTuple):
    """The exit code, and what was left to see."""

    code: int
    text: str


class Display:
    """What a terminal makes of what is written to it: movements up, lines erased, lines that go on below."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._lines = [""]
        self._row = self._column = 0

    def write(self, text: str) -> None:
        """Show ``text``, which ends no escape sequence in the middle."""
        for match in _PART.finditer(text):
            argument, command, back, down, plain = match.groups()
            if plain:
                self._put(plain)
            elif back:
                self._column = 0
            elif down:
                self._to(self._row + 1)
            elif command == "A":
                self._row -= int(argument or 1)
            elif command == "K":
                assert argument == "2", "no more of it is known here"
                self._lines[self._row] = ""
            else:
                assert command in "mhl", f"what does {command} do?"

    def text(self) -> str:
        """All lines, without the blanks at their ends."""
        return "\n".join(line.rstrip() for line in self._lines).rstrip("\n") + "\n"

    def _to(self, row: int) -> None:
        self._row = row
        self._lines += [""] * (row + 1 - len(self._lines))

    def _put(self, text: str) -> None:
        for sign in text:
            if self._column == self._columns:
                self._to(self._row + 1)
                self._column = 0
            line = self._lines[self._row].ljust(self._column)
            self._lines[self._row] = line[: self._column] + sign + line[self._column + 1 :]
            self._column += 1


class Terminal:
    """A command that runs on a terminal of so many columns."""

    def __init__(self, *words: str, env: Mapping[str, str], columns: int) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self._fd = ours
        kept = {name: value for name, value in env.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self._child = subprocess.Popen(
            [*COMMAND, *words],
            env={**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
            cwd=PROJECT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C is the terminal's to translate
        )
        os.close(theirs)
        self._display = Display(columns)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        #: All that was written, and the beginning of an escape sequence whose end has not come yet.
        self.raw = self._cut = ""

    @property
    def text(self) -> str:
        """What one sees now."""
        return self._display.text()

    def read_until(self, text: str, timeout_s: float = 30) -> None:
        """Read on until ``text`` is to be seen."""
        assert self._reads_until(text, timeout_s), f"expected {text!r}, there was {self.text!r}"

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._fd, keys)

    def press_until(self, keys: bytes, text: str) -> None:
        """Type, again if need be, as one does: a Ctrl-C just before Python begins to read is lost on it."""
        for _ in range(20):
            self.press(keys)
            if self._reads_until(text, 1.0):
                return
        raise AssertionError(f"expected {text!r}, there was {self.text!r}")

    def _reads_until(self, text: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while text not in self.text:
            ready, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
            if not ready or not self._read():
                return False
        return True

    def end(self) -> Ended:
        """Read to the end."""
        while self._read():
            pass
        return Ended(self._child.wait(30), self.text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        try:
            part = os.read(self._fd, 65536)
        except OSError:  # what Linux says when the other side is closed
            return False
        new = self._decoder.decode(part)
        self.raw += new
        whole, escape, rest = (self._cut + new).rpartition("\x1b")
        self._cut = "" if _PART.match(escape + rest) else escape + rest
        self._display.write(whole if self._cut else whole + escape + rest)
        return bool(part)
