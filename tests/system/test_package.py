"""What pip and dpkg install: it runs from there, an upgrade keeps the store, and removal leaves nothing."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from puppetmaster import __version__
from puppetmaster.errors import NotLeading
from sandbox.broker import Broker
from sandbox.process import Process, free_port
from tests import ROOT
from tests.conftest import needed

#: The settings of the Debian package, and its store.
SETTINGS, STATE = "etc/puppetmaster/puppetmaster.json", "var/lib/puppetmaster"
HOME = "usr/lib/sanji-1.0/puppetmaster"
#: That the administrator wants the service; Debian keeps this until the purge.
SWITCHED_ON = ("etc/systemd/system", "var/lib/systemd")
#: What brings each tool that is needed to build the package and to install it in a clean root.
TOOLS = {"dh": "debhelper", "mmdebstrap": "mmdebstrap", "systemd-analyze": "systemd"}
#: What dpkg and its tools keep for themselves.
OWN = ("proc", "sys", "dev", "run", "var/lib/dpkg", "var/log", "var/cache", "etc/.pwd.lock")
USERS = ("etc/passwd-", "etc/group-", "etc/shadow", "etc/gshadow")


def run(*argv: str | Path, **options: Any) -> str:
    """The output of a command that succeeds."""
    done = subprocess.run([str(one) for one in argv], capture_output=True, text=True, timeout=280, **options)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return str(done.stdout)


def sources(to: Path) -> Path:
    """A copy of the sources, as `make dist` packs them."""
    run("make", "dist", f"ARCHIVE={to / 'sources'}", cwd=ROOT)
    run("tar", "-xzf", to / "sources.tar.gz", "-C", to)
    return to / "sources"


# -- pip -------------------------------------------------------------------------------------------


def pins(file: str) -> list[str]:
    return [line for line in (ROOT / file).read_text().split("\n") if "==" in line]


@pytest.mark.timeout(300)
def test_a_wheel_has_all_that_the_program_needs(tmp_path: Path) -> None:
    venv, python = tmp_path / "venv", tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--use-pep517", "--no-deps", sources(tmp_path))
    # What it depends on is here already.
    there = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (there / "packages.pth").write_text(sysconfig.get_path("purelib"))
    state = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": ""}
    assert __version__ in run(venv / "bin" / "puppetmaster", "--version", env=state, cwd=tmp_path)
    found = json.loads(
        run(
            python,
            "-c",
            "import json, puppetmaster; from importlib import metadata; from puppetmaster import places; "
            "from puppetmaster.http.app import DASHBOARD; print(json.dumps([puppetmaster.__file__, "
            "str(places.home()), str(DASHBOARD), metadata.requires('puppetmaster')]))",
            env=state,
            cwd=tmp_path,
        )
    )
    package, home, page, needs = Path(found[0]), Path(found[1]), Path(found[2]), found[3]
    assert package.is_relative_to(venv)
    assert home.is_relative_to(venv)
    extra = [f'{pin}; extra == "postgresql"' for pin in pins("requirements-postgresql.txt")]
    assert sorted(needs) == sorted(pins("requirements.txt") + extra)
    for name in ("bundle.json", "schema/openapi.json", "data/puppetmaster.json.factory"):
        assert (home / name).read_bytes() == (ROOT / name).read_bytes()
    assert {one.name for one in page.iterdir()} == {
        one.name for one in (ROOT / "puppetmaster" / "dashboard").iterdir()
    }
    port = free_port()
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{port}", "BROKER_PORT_1883_TCP_PORT": "1"}
    argv = [str(venv / "bin" / "puppetmaster"), "run"]
    with Process("bundle", argv, env={**state, **settings}, ready="puppetmaster.db"):
        assert (tmp_path / "state" / "puppetmaster" / "puppetmaster.db").is_file()


@pytest.mark.parametrize(("target", "which"), [("all", "PYTHON"), ("install", "INSTALL_PYTHON")])
def test_a_python_that_makes_no_environments_is_named_with_the_cure(
    tmp_path: Path, target: str, which: str
) -> None:
    python = tmp_path / "python3"  # as Debian's, when python3-venv is missing
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    argv = ["make", target, f"{which}={python}", f"VENV={tmp_path / 'venv'}", f"DESTDIR={tmp_path / 'root'}"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"{python} cannot make an environment: apt install python3-venv\n" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["python3"]


# -- dpkg ------------------------------------------------------------------------------------------


def suite() -> str:
    """The name of this Debian."""
    lines = Path("/etc/os-release").read_text().split("\n")
    about = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    if about.get("ID") != "debian" or os.geteuid() != 0:
        pytest.skip("it is installed in a clean Debian, which root makes, on Debian")
    return about["VERSION_CODENAME"]


def packages(folder: Path) -> Path:
    """The folder of the Debian packages of these sources."""
    tree = sources(folder)
    run("make", "deb", cwd=tree, env={**os.environ, "DPKG_DEB_COMPRESSOR_TYPE": "none"})  # that takes longest
    return tree / "dist"


class Root:
    """A clean Debian, with its own files, processes of this machine, and its network."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.notify = directory / "run" / "notify"

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    def argv(self, *words: str, user: str = "root", **environ: str) -> list[str]:
        """A command in it, with these variables only, which begin as those of a service."""
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environ}
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return ["env", "-i", *pairs, "chroot", f"--userspec={user}:{user}", str(self.directory), *words]

    def run(self, *words: str, user: str = "root", **environ: str) -> str:
        """Its output; it succeeds."""
        return run(*self.argv(*words, user=user, **environ))

    def dpkg(self, *words: str) -> str:
        """Without a network: nothing is fetched. Returns what it said."""
        return run("unshare", "--net", *self.argv("dpkg", *words, DEBIAN_FRONTEND="noninteractive"))

    def unpack(self, package: Path) -> str:
        """Install it, or a newer version of it. Returns what was said."""
        shutil.copy(package, self / "package.deb")
        said = self.dpkg("--install", "/package.deb")
        (self / "package.deb").unlink()
        return said

    def said(self, *words: str, **environ: str) -> str:
        """The output of a command that may fail."""
        done = subprocess.run(self.argv(*words, **environ), capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def files(self) -> set[str]:
        """All but what others keep."""
        found = {str(one.relative_to(self.directory)) for one in self.directory.rglob("*")}
        return {one for one in found if not one.startswith((*OWN, *USERS))}

    def unit(self) -> dict[str, str]:
        """What the service's unit says; the last of those with a name counts."""
        lines = (self / "lib/systemd/system/puppetmaster.service").read_text().split("\n")
        return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def debian(directory: Path) -> Root:
    """A Debian with what the package depends on, and what removes users; nothing else."""
    needs = "--include=python3,systemd-standalone-sysusers,passwd"
    unsafe, docs = "--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*"
    run("mmdebstrap", "--quiet", "--variant=essential", unsafe, docs, needs, suite(), directory)
    return Root(directory)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Root]:
    """The package that everybody installs, and a Debian to install it in. Both wait for what they fetch."""
    suite()
    for tool, name in TOOLS.items():
        needed(shutil.which(tool) is not None, name)
    venv = subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], check=False, capture_output=True)
    needed(venv.returncode == 0, "python3-venv")
    with ThreadPoolExecutor(2) as pool:
        built = pool.submit(packages, tmp_path_factory.mktemp("build"))
        root = pool.submit(debian, tmp_path_factory.mktemp("root") / "debian")
    return next(built.result().glob("puppetmaster_*_all.deb")), root.result()


@pytest.fixture
def ear(made: tuple[Path, Root]) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    _, clean = made
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        # A path of a socket may have 108 letters only.
        here = os.open(clean / "run", os.O_PATH)
        listening.bind(f"/proc/self/fd/{here}/notify")
        os.close(here)
        (clean / "run/notify").chmod(0o666)
        listening.settimeout(30)
        yield listening
    (clean / "run/notify").unlink()


def hear(ear: socket.socket, beginning: bytes) -> None:
    """Wait until the service manager is told this."""
    while not ear.recv(4096).startswith(beginning):
        pass


def newer(package: Path, to: Path) -> Path:
    """The same package, of the next version."""
    run("dpkg-deb", "--raw-extract", package, to / "newer")
    for file in (to / "newer/DEBIAN/control", to / "newer" / HOME / "bundle.json"):
        text = file.read_text()
        assert __version__ in text
        file.write_text(text.replace(__version__, "99.0.0"))
    run("dpkg-deb", "-Znone", "--build", to / "newer", to)
    return next(to.glob("*.deb"))


@pytest.mark.timeout(500)
def test_it_is_installed_runs_is_upgraded_and_removed(
    made: tuple[Path, Root], ear: socket.socket, broker: Broker, controller: Process, tmp_path: Path
) -> None:
    package, clean = made
    assert controller.running
    port = free_port()
    before, users = clean.files(), (clean / "etc/passwd").read_text()
    built_in = os.fsencode(package.parents[1])

    assert "earlier installation" not in clean.unpack(package)
    installed = clean.files()
    assert oct((clean / STATE).stat().st_mode) == "0o40700"
    assert oct((clean / SETTINGS).stat().st_mode) == "0o100640"
    for name in installed - before:
        file = clean / name
        assert file.suffix != ".so", "it fits every processor"
        assert file.is_symlink() or file.is_dir() or built_in not in file.read_bytes(), name
    assert {"usr/share/man/man1/puppetmaster.1.gz", "usr/share/man/man5/puppetmaster.json.5.gz"} <= installed
    words = clean / "usr/share/bash-completion/completions/puppetmaster"
    assert "_PUPPETMASTER_COMPLETE" in words.read_text()

    told = {"brokerHost": broker.host, "brokerPort": broker.port, "http": f"127.0.0.1:{port}"}
    (clean / SETTINGS).write_text(json.dumps(told))
    unit, url = clean.unit(), {"PUPPETMASTER_URL": f"http://127.0.0.1:{port}"}
    watchdog = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "300000"}
    service = Process("service", clean.argv(*unit["ExecStart"].split(), user=unit["User"], **watchdog))

    with service.start():
        hear(ear, b"READY=1\nWATCHDOG=1\nSTATUS=")
        hear(ear, b"WATCHDOG=1\nSTATUS=")
        service.wait_for("registered with the controller", 30)
        clean.run("puppetmaster", "doctor", user="puppetmaster", **url)
        clean.run("puppetmaster", "submit", "--to", "cg-1", "--name", "kept", "get", "/system/time", **url)
        assert service.terminate(20) == 0
    hear(ear, b"STOPPING=1")

    earlier = clean / HOME / "data/puppetmaster.db"  # as `make install` of an earlier version kept it
    earlier.touch()
    assert "has the jobs of an earlier installation" in clean.unpack(newer(package, tmp_path))
    earlier.unlink()
    assert "brokerPort" in (clean / SETTINGS).read_text()
    assert "99.0.0" in clean.run("puppetmaster", "--version")
    with service.start():
        hear(ear, b"READY=1\n")
        (job,) = json.loads(clean.run("puppetmaster", "list", "--json", **url))
        assert job["name"] == "kept"
        assert service.terminate(20) == 0

    database = {**url, "PUPPETMASTER_STORE": "postgresql://127.0.0.1:1/jobs"}
    assert "or the package puppetmaster-postgresql" in clean.said("puppetmaster", "doctor", **database)
    main = clean.files()
    clean.unpack(next(package.parent.glob("puppetmaster-postgresql_*.deb")))
    assert "port 1 failed: Connection refused" in clean.said("puppetmaster", "doctor", **database)
    clean.dpkg("--purge", "puppetmaster-postgresql")
    assert clean.files() == main

    clean.dpkg("--remove", "puppetmaster")
    left = {one for one in clean.files() - before if not one.startswith((STATE, *SWITCHED_ON))}
    assert left == {SETTINGS, str(Path(SETTINGS).parent)}
    assert (clean / STATE / "puppetmaster.db").is_file()
    assert "puppetmaster" in (clean / "etc/passwd").read_text()

    clean.dpkg("--purge", "puppetmaster")
    assert clean.files() <= before
    assert (clean / "etc/passwd").read_text() == users


def test_the_unit_is_hardened() -> None:
    needed(shutil.which("systemd-analyze") is not None, "systemd")
    unit = ROOT / "build-deb" / "puppetmaster.service"
    run("systemd-analyze", "security", "--offline=true", "--threshold=30", unit)


def test_who_has_lost_the_lead_is_started_again_and_has_not_failed() -> None:
    unit = (ROOT / "build-deb" / "puppetmaster.service").read_text().splitlines()
    assert {"Restart=always", f"SuccessExitStatus={NotLeading.exit_code}"} <= set(unit)
