"""A PostgreSQL cluster of its own, on a unix socket in a temporary directory."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from sandbox.process import Process, ProcessError, Started

USER = "puppetmaster"
CURE = "apt install postgresql"
DEBIAN = Path("/usr/lib/postgresql")
#: Of the names of this port's files only the directory differs: nothing listens on TCP.
PORT = 5432
#: What makes a cluster fast and loses it with the machine: for tests.
CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on"}


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs, which Debian keeps off the PATH; None: there is none."""
    found = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(found[-1]) if found else shutil.which(name)


class Cluster(Started):
    """A cluster as a child process. As root it runs as ``nobody``, because PostgreSQL refuses root.

    Args:
        durable: whether it waits for the disk. Without, it is for tests: a crash of the machine damages it.
        directory: below this its files are made; None: where temporary files are.
        settings: more settings of the server.
    """

    def __init__(
        self, *, durable: bool = False, directory: Path | None = None, settings: dict[str, str] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="puppetmaster-pg-", dir=directory)
        self.place = Path(self._folder.name)
        given = {**({} if durable else CARELESS), **(settings or {})}
        server = program("postgres")
        if server is None:
            raise ProcessError(f"expected PostgreSQL to be installed, it is not; {CURE}")
        options = {"listen_addresses": "", "unix_socket_directories": str(self.place), "port": str(PORT)}
        argv = [server, "-D", str(self.place / "data")]
        argv += [word for name, value in {**options, **given}.items() for word in ("-c", f"{name}={value}")]
        self.process = Process("postgres", [*_unprivileged(), *argv], ready="ready to accept connections")

    @staticmethod
    def available() -> bool:
        """Whether PostgreSQL's server is installed."""
        return program("initdb") is not None

    def start(self, timeout_s: float = 60) -> Self:
        """Make the cluster if there is none, and start it. Raises ProcessError."""
        if not (self.place / "data").exists():
            if os.geteuid() == 0:
                shutil.chown(self.place, "nobody", "nogroup")
            made = ["-D", str(self.place / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
            initdb = [*_unprivileged(), str(program("initdb")), *made, "--no-sync"]
            done = subprocess.run(initdb, check=False, capture_output=True, text=True, cwd="/")
            if done.returncode:
                said = done.stdout + done.stderr
                raise ProcessError(f"expected initdb to make a cluster in {self.place}, it did not:\n{said}")
        self.process.start(timeout_s)
        return self

    def stop(self) -> None:
        """End it at once and in good order: its sessions are ended."""
        if self.process.running:
            self.process.interrupt()
            self.process.resume()
            self.process.wait(30)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Its processes stand still meanwhile (SIGSTOP): connections stay open, and nothing answers."""
        server, stopped = self.process.pid, set[int]()
        self.process.pause()  # first: from now on it makes no process
        try:
            # Again until there is no other one: proc(5) says that the list may lack some while they run.
            found = _children(server)
            while found - stopped or not all(map(_stands_still, {server, *found})):
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                stopped |= found
                found = _children(server)
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.process.resume()

    def url(self, database: str = "postgres", *, schema: str | None = None) -> str:
        """Where a database of it is, as ``PUPPETMASTER_STORE`` takes it."""
        options = "" if schema is None else f"&options={quote(f'-csearch_path={schema}')}"
        return f"postgresql:///{database}?host={quote(str(self.place), safe='')}&user={USER}{options}"

    def run(self, sql: str, database: str = "postgres") -> str:
        """What psql prints for these statements."""
        argv = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, self.url(database)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._folder.cleanup()


def _unprivileged() -> list[str]:
    """How a program is run as nobody, and ends with us, where we are root; empty: we are not."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=KILL"]


def _children(pid: int) -> set[int]:
    return {*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())}


def _stands_still(pid: int) -> bool:
    """Whether a process is stopped, or gone."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] in "TZX"
    return True
