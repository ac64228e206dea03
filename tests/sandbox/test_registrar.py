import itertools
from typing import Any

import pytest

from sandbox.registrar import Model, Registrar, models

A, B = models("per-gateway", ["a", "b"])


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("one-model", [Model("fleet", ("/remote/+",), "/remote/a")]),
        (
            "per-gateway",
            [
                Model("fleet-a", ("/remote/a",), "/remote/a"),
                Model("fleet-b", ("/remote/b",), "/remote/b"),
                Model("fleet-c", ("/remote/c",), "/remote/c"),
            ],
        ),
        (
            "grouped:2",
            [
                Model("fleet-1", ("/remote/a", "/remote/b"), "/remote/a"),
                Model("fleet-2", ("/remote/c",), "/remote/c"),
            ],
        ),
    ],
)
def test_shapes(shape: str, expected: list[Model]) -> None:
    assert models(shape, ["a", "b", "c"]) == expected


@pytest.mark.parametrize("shape", ["", "two-models", "grouped", "grouped:0", "grouped:x", "per-gateway:2x"])
def test_there_is_no_other_shape(shape: str) -> None:
    with pytest.raises(ValueError, match="expected the shape"):
        models(shape, ["a"])


def test_long_names_stay_apart_in_the_31_characters_the_controller_looks_at() -> None:
    names = {model.name for model in models("per-gateway", ["x" * 40 + "1", "x" * 40 + "2"])}
    assert len(names) == 2
    assert all(len(name) <= 31 for name in names)


class Exchange:
    """A registrar with a clock, and a controller that answers what the test says."""

    def __init__(self, *registered: Model, watch: bool = True) -> None:
        self.now_s = 100.0
        self.registrar = Registrar(registered, tunnel="back", ttl_s=5, watch=watch, ids=itertools.count(1))
        self.registrar.connected(self.now_s)

    def ask(self) -> dict[str, Any] | None:
        message = self.registrar.poll(self.now_s)
        assert message is None or self.registrar.poll(self.now_s) is None  # one at a time
        return message

    def step(self, code: int, data: Any = None) -> tuple[str, str]:
        """Let one request be sent and answered; give its method and the model's name or resource."""
        message = self.ask()
        assert message is not None
        assert message["tunnel"] == "back"
        self.registrar.answered({"id": message["id"], "code": code, "data": data}, self.now_s)
        return message["method"], message.get("data", {}).get("name") or message["resource"].partition("=")[2]

    def register(self) -> None:
        for number, model in enumerate((A, B)):
            assert self.step(200, {"tunnel": f"t-{number}"}) == ("post", model.name)

    def later(self, seconds: float) -> None:
        self.now_s += seconds


def test_models_are_registered_one_after_the_other() -> None:
    exchange = Exchange(A, B)
    first = exchange.ask()
    assert first == {
        "id": 1,
        "method": "post",
        "resource": "/controller/registration",
        "tunnel": "back",
        "data": {
            "name": "fleet-a",
            "description": "simulated gateways",
            "role": "model",
            "ttl": 5,
            "resources": ["/remote/a"],
        },
    }
    registrar = exchange.registrar
    assert registrar.answered({"id": 1, "code": 200, "data": {"tunnel": "t-a"}}, exchange.now_s) == "t-a"
    assert not registrar.complete()
    assert exchange.step(200, {"tunnel": "t-b"}) == ("post", "fleet-b")
    assert registrar.complete()
    assert registrar.tunnels == ["t-a", "t-b"]
    assert (registrar.model("t-b"), registrar.model("t-c")) == (B, None)


def test_a_name_that_is_taken_is_deregistered_first() -> None:
    exchange = Exchange(A)
    assert exchange.step(403, {"message": "component had beed already registered"}) == ("post", "fleet-a")
    assert exchange.step(200) == ("delete", "fleet-a")
    assert exchange.step(200, {"tunnel": "t"}) == ("post", "fleet-a")
    assert exchange.registrar.complete()


@pytest.mark.parametrize("refusal", [(423, {"message": "resource is locked"}), (408, None), (200, None)])
def test_a_refused_registration_is_repeated_a_little_later(refusal: tuple[int, Any]) -> None:
    exchange = Exchange(A)
    exchange.step(*refusal)
    assert exchange.ask() is None
    exchange.later(Registrar.RETRY_S)
    assert exchange.step(200, {"tunnel": "t"}) == ("post", "fleet-a")
    assert exchange.registrar.complete()


def test_what_is_not_answered_is_asked_again_and_the_late_answer_is_nothing() -> None:
    exchange = Exchange(A)
    lost = exchange.ask()
    assert lost is not None
    exchange.later(Registrar.ANSWER_S)
    again = exchange.ask()
    assert again is not None
    assert again == lost | {"id": again["id"]} != lost
    late = {"id": lost["id"], "code": 200, "data": {"tunnel": "late"}}
    assert exchange.registrar.answered(late, exchange.now_s) is None
    assert not exchange.registrar.complete()


def test_the_watch_asks_after_each_model_in_turn() -> None:
    exchange = Exchange(A, B)
    exchange.register()
    assert exchange.ask() is None
    for model in (A, B, A):
        exchange.later(Registrar.WATCH_S)
        assert exchange.step(200, {"resources": [model.probe, "/hooked"]}) == ("get", model.probe)
        assert exchange.registrar.complete()


@pytest.mark.parametrize(
    "forgotten", [(404, None), (200, {"resources": []}), (200, {"resources": ["/other"]})]
)
def test_a_forgotten_model_is_registered_again_and_the_others_are_asked_after(
    forgotten: tuple[int, Any],
) -> None:
    exchange = Exchange(A, B)
    exchange.register()
    exchange.later(Registrar.WATCH_S)
    assert exchange.step(*forgotten) == ("get", "/remote/a")
    assert exchange.registrar.tunnels == ["t-1"]
    assert exchange.step(200, {"tunnel": "t-2"}) == ("post", "fleet-a")
    assert not exchange.registrar.complete()  # nobody knows about b yet
    assert exchange.step(*forgotten) == ("get", "/remote/b")
    assert exchange.step(200, {"tunnel": "t-3"}) == ("post", "fleet-b")
    assert exchange.registrar.complete()
    assert exchange.registrar.tunnels == ["t-2", "t-3"]


def test_an_odd_answer_to_the_watch_changes_nothing() -> None:
    exchange = Exchange(A)
    exchange.step(200, {"tunnel": "t"})
    for code in (408, 503):
        exchange.later(Registrar.WATCH_S)
        exchange.step(code)
        assert exchange.registrar.complete()


def test_the_model_on_a_wildcard_is_asked_after_by_one_of_its_destinations() -> None:
    exchange = Exchange(*models("one-model", ["a", "b"]))
    exchange.step(200, {"tunnel": "t"})
    exchange.later(Registrar.WATCH_S)
    assert exchange.step(200, {"resources": ["/remote/+"]}) == ("get", "/remote/a")
    assert exchange.registrar.complete()


def test_after_a_lost_connection_all_are_asked_after() -> None:
    exchange = Exchange(A, B)
    assert exchange.step(200, {"tunnel": "t-0"}) == ("post", "fleet-a")
    assert exchange.ask() is not None
    exchange.registrar.connected(exchange.now_s)  # the answer for b went with the connection
    assert exchange.step(200, {"resources": ["/remote/a"]}) == ("get", "/remote/a")
    assert exchange.step(200, {"tunnel": "t-1"}) == ("post", "fleet-b")
    assert exchange.registrar.complete()


def test_without_watch_nothing_is_asked_once_all_are_registered() -> None:
    exchange = Exchange(A, watch=False)
    exchange.step(200, {"tunnel": "t"})
    exchange.later(1000)
    assert exchange.ask() is None
    exchange.registrar.connected(exchange.now_s)
    assert exchange.registrar.complete()
    assert exchange.ask() is None
