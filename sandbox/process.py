"""One child process of the sandbox: started, watched, paused, killed, and never left behind."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

PROJECT = Path(__file__).resolve().parent.parent
KEPT_LINES = 10_000

# Runs in the child before the real program: asks Linux to kill it when its parent goes (PR_SET_PDEATHSIG is
# 1, see prctl(2)), which exec keeps, then becomes that program. Doing it here and not in Popen's preexec_fn
# keeps Python code out of the moment between fork and exec, where a thread's lock may be held for ever.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent process ended before its child began")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error}")
"""

# To Linux the parent is the thread that forked, not the process: a child started by a thread that ends would
# be killed with it. So all children are started by this one thread, which lives as long as the process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-spawn")


class ProcessError(RuntimeError):
    """A child process did not do what it was started for; says what was awaited and its last lines."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens.

    It is below the range from which Linux takes ports for outgoing connections (32768 and up), so that a
    client cannot take it while a server is being restarted on it.
    """
    for _ in range(200):
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ProcessError(
        "expected a free TCP port between 12000 and 32000, found none in 200 tries; close some servers"
    )


class Process:
    """One child process with its output.

    It has its own session, so that Ctrl-C in a terminal does not reach it, and it is killed when this process
    ends, however that comes about (Linux only).

    Args:
        name: for messages and for the name of the thread that reads the output.
        argv: program and arguments.
        env: variables added to this process's environment.
        ready: text of a line of stdout or stderr which says that the child is ready; None: ready at once.

    After it has ended, ``start`` may be called again; the output begins anew.
    """

    def __init__(
        self,
        name: str,
        argv: Iterable[str],
        *,
        env: Mapping[str, str] | None = None,
        ready: str | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env or {})
        self.ready = ready
        self._child: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._ended = False
        self._news = threading.Condition()  # guards _lines and _ended

    @classmethod
    def module(
        cls,
        name: str,
        module: str,
        *args: object,
        env: Mapping[str, str] | None = None,
        ready: str | None = None,
    ) -> Self:
        """Return a child that runs ``python -m module args`` with this project's packages on its path."""
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        settings = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})}
        return cls(name, [sys.executable, "-m", module, *map(str, args)], env=settings, ready=ready)

    def start(self, timeout_s: float = 15) -> Self:
        """Start the child and wait until it is ready.

        Raises:
            ProcessError: it runs already, ended, or was not ready in time; then it is killed.
        """
        if self.running:
            raise ProcessError(f"{self.name} runs already as process {self.pid}; terminate() it first")
        with self._news:
            self._lines.clear()
            self._ended = False
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
        child = _spawner.submit(
            subprocess.Popen,
            [*launcher, *self.argv],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        ).result()
        reader = threading.Thread(target=self._read, args=(child,), name=f"{self.name}-output", daemon=True)
        reader.start()
        self._child, self._reader = child, reader  # from here on another thread may end it
        if self.ready is not None:
            try:
                self.wait_for(self.ready, timeout_s)
            except ProcessError:
                self.kill()
                raise
        return self

    def terminate(self, timeout_s: float = 5) -> int:
        """Ask the child to end with SIGTERM, insist with SIGKILL after `timeout_s`; return its exit code.

        A child that has ended before is no error. A code below zero is the signal that ended it.
        """
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a paused child could not answer
        try:
            return self.wait(timeout_s)
        except ProcessError:
            return self.kill()

    def kill(self) -> int:
        """End the child at once with SIGKILL, wait for that, and return its exit code."""
        self._signal(signal.SIGKILL)
        return self.wait(10)

    def interrupt(self) -> None:
        """Send SIGINT, which is what Ctrl-C does."""
        self._signal(signal.SIGINT)

    def pause(self) -> None:
        """Stop the child from running (SIGSTOP): its connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused child run on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the child has ended and return its exit code.

        Raises:
            ProcessError: it was never started, or still runs after `timeout_s`.
        """
        child = self._started()
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise ProcessError(
                self._message(f"expected {self.name} to end within {timeout_s:g} s")
            ) from error
        if self._reader is not None:
            self._reader.join(1)  # its last lines; a grandchild may hold the pipe open, so not for ever
        return code

    def wait_for(self, text: str, timeout_s: float) -> str:
        """Return the first line of the output, past or to come, that contains `text`.

        Raises:
            ProcessError: the child ended, or the time was over, before there was one.
        """
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                left_s = deadline - time.monotonic()
                if self._ended or left_s <= 0:
                    break
                self._news.wait(left_s)
            came = "its output ended" if self._ended else f"{timeout_s:g} s passed"
        raise ProcessError(self._message(f"expected {self.name} to print {text!r}, but {came}"))

    def output(self) -> list[str]:
        """Return the last 10,000 lines of stdout and stderr, oldest first, without line ends."""
        with self._news:
            return list(self._lines)

    @property
    def pid(self) -> int:
        """The child's process id; ProcessError when it was never started."""
        return self._started().pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while the child runs or when it was never started."""
        return None if self._child is None else self._child.poll()

    @property
    def running(self) -> bool:
        """True from start until the end; also while paused."""
        return self._child is not None and self._child.poll() is None

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self.terminate()

    def _read(self, child: "subprocess.Popen[str]") -> None:
        """Collect the child's lines; runs in the reader thread until the pipe is closed."""
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                with self._news:
                    self._lines.append(line.rstrip("\r\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _signal(self, number: signal.Signals) -> None:
        self._started().send_signal(number)  # does nothing when the child has ended

    def _started(self) -> "subprocess.Popen[str]":
        if self._child is None:
            raise ProcessError(f"{self.name} was never started; call start() first")
        return self._child

    def _message(self, sentence: str) -> str:
        last = "\n  ".join(self.output()[-15:]) or "(nothing)"
        return f"{sentence}; its last lines were:\n  {last}"


class Started(ABC):
    """What ``with`` starts, and stops at its end."""

    @abstractmethod
    def start(self) -> Self:
        """Start it and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """End it."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Parts(Started):
    """What is made of several parts: ``with`` starts them, and ends every one that still runs."""

    def __init__(self) -> None:
        self._parts = ExitStack()

    def stop(self) -> None:
        """End every part that still runs."""
        self._parts.close()
