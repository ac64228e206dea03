"""Long answers on the bus: what it does not carry is refused, with what fits."""

from types import SimpleNamespace
from typing import Any

import pytest

from puppetmaster import jsoncodec
from puppetmaster.bundle import routes
from puppetmaster.bus.limit import Limit
from puppetmaster.errors import TooLarge
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity
from tests.unit.api.test_pages import Source


@pytest.mark.parametrize("capacity", [DEFAULT_CAPACITY, Capacity(100_000)])
@pytest.mark.parametrize("within", [lambda rows: rows, lambda rows: {"id": 1, "requests": rows}])
def test_what_the_bus_does_not_carry_is_refused_with_what_fits(within: Any, capacity: Capacity) -> None:
    source = Source(200_000, 500)
    with pytest.raises(TooLarge, match=r"limit=\d+ fits") as refused:
        routes._fitting(within(source.rows()), capacity)
    assert source.read < 3000
    fits = int(refused.value.message.partition("limit=")[2].partition(" ")[0])
    assert fits > capacity.answer_bytes // 600
    answered = routes._fitting(within(Source(fits, 500).rows()), capacity)
    assert capacity.size(jsoncodec.encode(answered), depth=1) <= capacity.answer_bytes
    with pytest.raises(TooLarge, match="collection=false"):
        routes._fitting(within(Source(3, capacity.answer_bytes).rows()), capacity)


@pytest.mark.parametrize(
    ("long", "answered"),
    [
        ((), {"requests": [1], "targets": [{"all": True}]}),
        (("requests",), {"requests": [], "targets": [{"all": True}]}),
        (("targets",), {"requests": []}),
        (("requests", "targets"), {"requests": []}),
    ],
)
def test_a_job_that_was_created_is_answered_whatever_its_size(
    long: tuple[str, ...], answered: dict[str, Any]
) -> None:
    """Its targets may be as long as its body was. Who is answered with an error creates it again."""
    given: dict[str, Any] = {"id": 1, "requests": [1], "targets": [{"all": True}]}
    said: list[Any] = []
    bundle: Any = SimpleNamespace(limit=Limit(10_000))
    job = {**given, **{name: ["x" * 10_000] for name in long}}
    routes.Routes._answer_change(bundle, lambda **answer: said.append(answer), job)
    assert said == [{"code": 200, "data": {"id": 1, **answered}}]
