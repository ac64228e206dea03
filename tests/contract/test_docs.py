"""The documents say what the code does: their examples run, and what is generated is up to date."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from websockets.sync.client import connect

from docs import generate, offline
from puppetmaster.cli import main
from puppetmaster.model import request
from puppetmaster.store.sqlite.store import SqliteStore
from sandbox.ask import ask
from sandbox.bridged import BRIDGE, NOTIFICATIONS, BridgedFleet, status_topic
from sandbox.demo import FLEET
from sandbox.gateway import Gateway
from sandbox.process import free_port
from tests import ROOT
from tests.bus_client import BusClient
from tests.conftest import require
from tests.desk import until
from tests.strict_broker import ACL
from tests.web_client import batch, fetch

README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
#: The pages whose consoles show JSON, and how many commands each has.
EXAMPLES = {"README.md": 3, "docs/examples.md": 11}
FLEET_PAGE = (DOCS / "fleet.md").read_text()
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def examples(page: str) -> list[tuple[str, Any]]:
    """The commands of the page's consoles, in order, each with the JSON that is shown below it."""
    found = []
    for block in CONSOLE.findall((ROOT / page).read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, shown = part.split("\n", 1)
            found.append((command, json.loads(shown)))
    return found


def missing(shown: Any, came: Any, path: str = "") -> list[str]:
    """Where ``came`` does not hold what ``shown`` does; it may hold more."""
    if isinstance(shown, dict) and isinstance(came, dict):
        return [
            one
            for key, value in shown.items()
            for one in (missing(value, came[key], f"{path}.{key}") if key in came else [f"{path}.{key}"])
        ]
    if isinstance(shown, list) and isinstance(came, list) and len(shown) == len(came):
        return [
            one
            for index, pair in enumerate(zip(shown, came, strict=True))
            for one in missing(*pair, f"{path}[{index}]")
        ]
    return [] if shown == came else [f"{path}: the page shows {shown!r}, and {came!r} came"]


def test_what_missing_finds() -> None:
    assert missing({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2, "c": 3}], "d": 4}) == []
    assert missing({"a": 1}, {"a": 2})
    assert missing({"a": 1}, {})
    assert missing([1], [1, 2])


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_run(page: str, tmp_path: Path) -> None:
    require("mosquitto")
    shown = re.findall(r"^\$ (curl|\.venv/bin/python|websocat)", (ROOT / page).read_text(), re.MULTILINE)
    assert len(examples(page)) == len(shown) == EXAMPLES[page]
    port = free_port()
    settings = {"PUPPETMASTER_HTTP": f"127.0.0.1:{port}"}
    SqliteStore(tmp_path / "data").close()  # whose ids begin where those that are shown do
    with Gateway(tmp_path, fleet=FLEET, settings=settings) as gateway:
        for command, answer in examples(page):
            known = command.replace("$PORT", str(gateway.broker.port)).replace("8700", str(port))
            words = shlex.split(known.replace("$URL", f"http://127.0.0.1:{port}"))
            assert not missing(answer, json.loads(_run(words))), command
            _settle(gateway)


def _run(words: list[str]) -> str | bytes:
    """What a command of the page prints; of websocat, which Debian does not have, the first frame."""
    if words[0] == "websocat":
        with connect(words[1]) as socket:
            return socket.recv(timeout=10)
    program = sys.executable if words[0] == ".venv/bin/python" else words[0]
    ran = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, timeout=30, cwd=ROOT, check=False
    )
    return ran.stdout


def _settle(gateway: Gateway) -> None:
    """Until no job runs: the page shows what one finds then."""

    def open_jobs() -> int:
        health: Any = ask(gateway.broker.port, "get", "/system/puppetmaster", {})
        return int(health["data"]["counters"]["openJobs"])

    until(lambda: open_jobs() == 0, "the jobs of the examples end")


@pytest.mark.parametrize("page", generate.PAGES)
def test_what_is_generated_is_up_to_date(page: str) -> None:
    written = (DOCS / page).read_text()
    assert written == generate.PAGES[page](written), "run python -m docs.generate"


def test_the_drawings_and_the_factory_settings_are_up_to_date() -> None:
    drawn = {name: (DOCS / "images" / name).read_text() for name in generate.images()}
    assert drawn == generate.images(), "run python -m docs.generate"
    factory = (ROOT / "data" / "puppetmaster.json.factory").read_text()
    assert factory == generate.factory(), "run python -m docs.generate"


def test_a_drawing_has_an_arrow_for_each_transition() -> None:
    drawn = generate.images()["request-states.svg"]
    assert drawn.count("<circle") == len(request.TRANSITIONS)
    root = ElementTree.fromstring(drawn)
    texts = {one.text for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert texts == {*request.RequestStatus, *request.RequestEvent}


def test_nothing_of_the_site_comes_from_the_internet() -> None:
    here = '<script src="a.js"><link rel="stylesheet" href="b.css"><a href="https://github.com">'
    assert offline.loaded(here) == []
    for there in (
        '<script src="https://x/a.js">',
        '<link href="//x/b.css" rel="stylesheet">',
        "url(https://x/font)",
        "<img alt='' src='http://x/c.png'>",
    ):
        assert offline.loaded(here + there) != [], there


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    named = re.findall(r"^ *- (?:Home: )?([a-z/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")]
    assert sorted(named) == sorted(page for page in pages if not page.startswith("decisions/"))


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_architecture_names_every_module_in_its_wing() -> None:
    page = (DOCS / "architecture.md").read_text()
    rows = re.findall(r"^\| ([^|]*) \| [^|]* \|([^|]*)\|$", page, re.MULTILINE)
    named = {wing: set(re.findall(r"`([a-z_.]+)`", f"{wing} {modules}")) for wing, modules in rows}
    package = ROOT / "puppetmaster"
    for folder in ("model", "store", "scheduling", "engine", "bus", "api", "http", "bundle", "cli"):
        files = (package / folder).rglob("[a-z]*.py")
        modules = {".".join(file.relative_to(package / folder).with_suffix("").parts) for file in files}
        assert modules - named[f"`{folder}`"] == set(), folder
    at_the_top = {file.stem for file in package.glob("[a-z]*.py")}
    assert at_the_top - set.union(*named.values()) == set()
    assert len(list(package.glob("*.py"))) <= 14


def sentences() -> str:
    """Every text in the code, a line each, with what is filled in left out."""
    found = []
    for file in (ROOT / "puppetmaster").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [
                one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            found += [" ".join("".join(texts).split())] if texts else []
    found += [part.strip() for text in found for part in text.split(";")]
    return "\n".join(found)


def quoted() -> list[str]:
    """What these pages say that one reads, in pieces: without numbers, and what is left out."""
    failures = (DOCS / "failures.md").read_text().split("\n## Codes", 1)[0]
    api = (DOCS / "api.md").read_text().split("The 503s", 1)[1].split("\n## ", 1)[0]
    fleet = re.sub(r"```.*?```", "", FLEET_PAGE, flags=re.DOTALL)
    said = re.findall(r'"([^"]+)"', re.sub(r"`[^`]*`", "", failures + fleet))
    said += re.findall(r"^\| `([^|]+)` \|", api, re.MULTILINE) + re.findall(r"`, `([^|`]+)` \|", api)
    pieces = [piece.strip(" `,.:;()") for one in said for piece in re.split(r"\.\.|[0-9.,]*[0-9]|[;:`]", one)]
    return [piece for piece in pieces if len(piece) > 2]


def test_the_sentences_that_are_quoted_are_those_of_the_code() -> None:
    known = sentences() + (ROOT / "index.py").read_text()
    assert len(quoted()) > 40
    assert [piece for piece in quoted() if piece not in known] == []


def configuration(first: str) -> str:
    """The lines for mosquitto on the page of the fleet that begin with this word."""
    blocks: list[str] = re.findall(r"```conf\n(.*?)```", FLEET_PAGE, re.DOTALL)
    return next(block for block in blocks if block.startswith(first))


def test_the_bridge_of_the_fleet_page_is_that_of_the_sandbox() -> None:
    shown = configuration("connection").splitlines()
    made = (BRIDGE + NOTIFICATIONS).format(id="cg-001", address="SERVER:1883", reconnect_s=1).splitlines()
    assert sorted(shown) == sorted(line for line in made if not line.startswith("restart_timeout"))


@pytest.mark.parametrize("route", ["remote", "direct"])
def test_the_acl_of_the_fleet_page_is_enough(tmp_path: Path, route: str) -> None:
    require("mosquitto")
    acl = configuration("user")
    if route == "remote":
        acl = acl.split("# the direct way")[0]
    (tmp_path / "acl").write_text("topic readwrite #\n" + acl)  # the first line: everybody else
    port = free_port()
    ours = {"HTTP": f"127.0.0.1:{port}", "ROUTE": route, "BROKER_USER": "puppetmaster"}
    settings = {f"PUPPETMASTER_{name}": value for name, value in ours.items()}
    fleet = BridgedFleet(tmp_path, ["cg-1"], settings=settings)
    fleet.server.broker.config += f"acl_file {tmp_path / 'acl'}\n"

    def known() -> tuple[int, int]:
        gateways = fetch(port, "GET", "/system/puppetmaster").json["gateways"]
        return gateways["connected"], gateways["away"]

    def asked() -> Any:
        job = fetch(port, "POST", "/jobs", batch("cg-1", requestTimeout=10)).json["id"]
        until(lambda: fetch(port, "GET", f"/jobs/{job}").json["finishedAt"], "it has ended")
        return fetch(port, "GET", f"/jobs/{job}").json["requests"][0]["__request"]

    with fleet, BusClient(fleet.server.broker) as bus:
        until(lambda: known() == (1, 0), "the bridge is seen")
        there = asked()
        assert (there["status"], there["route"]) == ("resolved", route)
        bus.send(b"0", status_topic("cg-1"), retain=True)  # an old word
        until(lambda: known() == (0, 1), "the word is seen")
        away = asked()
        assert (away["status"], away["route"], away["result"]["code"]) == ("error", None, 503)
        bus.send(b"", status_topic("cg-1"), retain=True)
        until(lambda: known() == (0, 0), "nothing is known")
        assert asked()["status"] == "resolved"


def commands() -> list[str]:
    """The commands in the code blocks of the how-tos and of cli.md; one may go on in the next line."""
    pages = [*sorted((DOCS / "howto").glob("*.md")), DOCS / "cli.md"]
    text = "".join(page.read_text() for page in pages)
    return re.findall(r"^ *(puppetmaster [a-z]+ .*|puppetmaster [a-z]+)$", re.sub(r"\\\n *", "", text), re.M)


@pytest.mark.parametrize("line", commands())
def test_the_commands_of_the_pages_are_commands(line: str) -> None:
    _, name, *words = shlex.split(re.split(" [|<>] ?", line)[0])
    with main.cli.commands[name].make_context(name, words) as context:
        assert context.params is not None


def test_the_commands_in_the_text_are_commands() -> None:
    named = {
        name
        for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
        for name in re.findall(r"`puppetmaster ([a-z]+)", page.read_text())
    }
    assert len(named) > 5
    assert named <= set(main.cli.commands)


def test_the_acl_of_the_how_to_is_the_one_that_is_tried() -> None:
    found = re.search(r"```conf\nuser .*\n((?:topic .*\n)+)```", (DOCS / "howto" / "broker.md").read_text())
    assert found
    assert found[1] == ACL


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
