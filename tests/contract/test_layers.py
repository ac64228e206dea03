"""The order of the modules: each imports only from those above it; foreign packages have one door each."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

PROJECT = ROOT
PACKAGE = PROJECT / "puppetmaster"

#: From what knows nothing to what knows everything.
ORDER = [
    "errors",
    "settings",
    "clock",
    "timers",
    "wire",
    "limit",
    "names",
    "request",
    "job",
    "answer",
    "results",
    "rollout",
    "rows",
    "spec",
    "schemas",
    "batch",
    "query",
    "shapes",
    "samples",
    "latencies",
    "window",
    "locks",
    "owners",
    "turns",
    "scheduler",
    "presence",
    "flight",
    "tally",
    "threads",
    "heap",
    "signals",
    "login",
    "sdk",
    "envelope",
    "exchange",
    "registration",
    "bundle",
    "sqlite_schema",
    "sqlite_rows",
    "sqlite_storage",
    "reader",
    "migrations",
    "changes",
    "datadir",
    "retention",
    "store",
    "transfer",
    "chores",
    "state",
    "drafts",
    "mqtt",
    "visit",
    "link",
    "bus",
    "refusals",
    "corrections",
    "delivery",
    "crowd",
    "lifecycle",
    "engine",
    "events",
    "dispatcher",
    "publisher",
    "service",
    "metrics",
    "connections",
    "guard",
    "server",
    "web",
    "openapi",
    "watcher",
    "sockets",
    "door",
    "app",
    "routes",
    "index",
    "client",
    "watch",
    "phrases",
    "screen",
    "live",
    "submission",
    "plan",
    "doctor",
    "tables",
    "session",
    "options",
    "newjob",
    "archive",
    "cli",
    "__main__",
]

#: Who may import what is not of the standard library.
DOORS = {
    "sanji": {"sdk"},
    "simplejson": {"bundle"},
    "paho": {"sdk"},
    "tinydb": {"sqlite_rows", "sqlite_storage"},
    "voluptuous": {"schemas", "sdk"},
    "prometheus_client": {"metrics"},
    "starlette": {"guard", "server", "web", "sockets", "door"},
    "uvicorn": {"connections", "server"},
    "h11": {"connections"},
    "wsproto": {"connections"},
    "click": {"session", "options", "newjob", "archive", "cli"},
    "rich": {"screen", "live"},
}
#: Who may import what touches the machine, though it is of the standard library.
TOUCHES = {
    "sqlite3": {"sqlite_schema", "sqlite_rows", "sqlite_storage", "reader", "store", "transfer", "doctor"},
    "fcntl": {"datadir"},
    "signal": {"signals", "__main__"},
    "socket": {"signals", "login", "visit", "link", "server", "client", "doctor"},
    "ssl": {"link", "server", "login", "client"},
    "subprocess": set(),
}

#: What decides: no thread, no socket, no file, no clock of its own.
PURE = [
    *("errors", "timers", "wire", "mqtt", "names", "request", "job", "answer", "results", "rollout"),
    *(
        "spec",
        "schemas",
        "batch",
        "query",
        "window",
        "turns",
        "locks",
        "scheduler",
        "flight",
        "tally",
        "rows",
    ),
    *("envelope", "chores", "state", "drafts", "delivery", "crowd", "lifecycle", "engine", "latencies"),
]
IMPURE = {
    *("threading", "queue", "concurrent", "asyncio", "socket", "select", "ssl", "subprocess"),
    *("time", "datetime", "sqlite3", "os", "pathlib", "shutil", "tempfile"),
}


def _file(module: str) -> Path:
    return PROJECT / "index.py" if module == "index" else PACKAGE / f"{module}.py"


def _imports(module: str) -> Iterator[str]:
    """Every module that ``module`` imports, anywhere in its file, by its full name."""
    for node in ast.walk(ast.parse(_file(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: expected absolute imports, got a relative one"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _roots(module: str) -> set[str]:
    return {name.partition(".")[0] for name in _imports(module)}


def _ours(module: str) -> set[str]:
    """The modules of the package that ``module`` imports."""
    parts = [name.split(".") for name in _imports(module)]
    return {name[1] for name in parts if name[0] == "puppetmaster" and len(name) > 1 and name[1] in ORDER}


def test_the_order_names_every_module_once() -> None:
    found = {path.stem for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(ORDER) == sorted(found | {"index"})


def test_the_reading_of_imports_sees_both_forms() -> None:
    assert _ours("batch") >= {"wire", "schemas", "errors"}
    assert "simplejson" in _roots("bundle")
    assert "routes" in _ours("index")


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_from_above(module: str) -> None:
    above = set(ORDER[: ORDER.index(module)])
    assert _ours(module) - above == set()


def test_the_package_itself_imports_none_of_its_modules() -> None:
    assert {name for name in _imports("__init__") if name.startswith("puppetmaster")} == set()


@pytest.mark.parametrize(("package", "doors"), [*DOORS.items(), *TOUCHES.items()])
def test_what_is_not_ours_comes_in_by_few_doors(package: str, doors: set[str]) -> None:
    assert {module for module in ORDER if package in _roots(module)} - doors == set()


@pytest.mark.parametrize(("package", "door"), [("sanji", "sdk")])
def test_the_bus_has_one_door_each(package: str, door: str) -> None:
    assert {module for module in ORDER if package in _roots(module)} == {door}


@pytest.mark.parametrize("module", ORDER)
def test_every_foreign_package_has_a_door(module: str) -> None:
    assert _roots(module) - sys.stdlib_module_names - {"puppetmaster"} <= set(DOORS)


@pytest.mark.parametrize("module", [*ORDER, "__init__"])
def test_the_bundle_stands_without_what_is_around_it(module: str) -> None:
    assert _roots(module) & {"sandbox", "tests", "benchmarks", "index"} == set()


@pytest.mark.parametrize("module", PURE)
def test_what_decides_knows_no_thread_socket_or_clock(module: str) -> None:
    assert _roots(module) & IMPURE == set()


@pytest.mark.parametrize("module", ORDER)
def test_a_module_is_named_for_what_it_holds(module: str) -> None:
    assert not {"util", "utils", "common", "helper", "helpers", "misc"} & set(module.split("_"))


@pytest.mark.parametrize("module", ORDER)
def test_no_module_imports_at_run_time(module: str) -> None:
    """An import inside a function would hide from whoever reads the top of the file."""
    tree = ast.parse(_file(module).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = [
        node
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert inside == []
