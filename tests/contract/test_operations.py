"""The table of operations: what the bundle registers is what it says."""

import json
from typing import Any

from puppetmaster.api.operations import OPERATIONS, WEBSOCKET
from puppetmaster.api.query import PARAMETERS
from puppetmaster.bundle.routes import Routes
from tests import ROOT


def over_bus() -> dict[str, list[str]]:
    """The methods of each resource of the bus."""
    found: dict[str, list[str]] = {}
    for one in OPERATIONS:
        if one.over_bus:
            found.setdefault(one.path.replace("{id}", ":id"), []).append(one.method.lower())
    return found


def test_the_bundle_registers_what_is_over_the_bus() -> None:
    bundle = json.loads((ROOT / "bundle.json").read_text())
    assert {one["resource"]: one["methods"] for one in bundle["resources"]} == over_bus()


def test_the_bundle_has_a_route_for_each_operation_of_the_bus() -> None:
    class Router:
        """As the SDK's: notes which methods of which resource have a handler."""

        def __init__(self) -> None:
            self.known: dict[str, list[str]] = {}

        def route(self, resource: str) -> Any:
            noted = self.known.setdefault(resource, [])

            class Noting:
                def __getattr__(self, method: str) -> Any:
                    return lambda *_: noted.append(method)

            return Noting()

    class Bare:
        router = Router()

    for name, member in vars(Routes).items():
        if name.startswith("route_"):
            member(Bare)
    assert Bare.router.known == over_bus()


def test_an_operation_is_there_once_and_says_what_it_does() -> None:
    assert len({(one.method, one.path) for one in OPERATIONS}) == len(OPERATIONS)
    assert all(one.about for one in OPERATIONS)
    assert {name for one in OPERATIONS for name in one.query} == set(PARAMETERS)
    assert {one.call is None for one in OPERATIONS if one.method == WEBSOCKET} == {True}


def test_the_page_about_http_has_each_path() -> None:
    page = (ROOT / "docs" / "http.md").read_text("utf-8")
    assert [one.path for one in OPERATIONS if f"`{one.path}`" not in page] == []
