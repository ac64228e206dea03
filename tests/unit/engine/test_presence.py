"""What bridges say of gateways, and which way a request takes then."""

import pytest

from puppetmaster.engine import presence as module
from puppetmaster.engine.presence import Presence

AT, LATER = "2026-01-02T03:04:05.678Z", "2026-01-02T03:04:06.789Z"


def said(presence: Presence, *statuses: bool | None, at: str = AT, retained: bool = False) -> None:
    for status in statuses:
        presence.heard("cg-1", status, at, retained=retained)


def test_of_most_gateways_nothing_is_known() -> None:
    presence = Presence("auto")
    assert presence.why_away("cg-1") is None
    assert not presence.direct("cg-1")
    assert (presence.connected_count, presence.away_count, presence.changes) == (0, 0, 0)


def test_one_that_is_away_says_since_when() -> None:
    presence = Presence("auto")
    said(presence, True, at=AT)
    said(presence, False, at=LATER)
    assert presence.why_away("cg-1") == f"not connected since {LATER}"
    said(presence, False, at="later still")
    assert presence.why_away("cg-1") == f"not connected since {LATER}", "it has not been there meanwhile"
    assert presence.why_away("cg-2") is None


def test_what_was_so_before_we_looked_is_older_than_we_know() -> None:
    presence = Presence("auto")
    said(presence, False, retained=True)
    assert presence.why_away("cg-1") == f"not connected since before {AT}"


@pytest.mark.parametrize(
    ("route", "statuses", "direct"),
    [
        ("remote", (True,), False),
        ("direct", (), True),
        ("direct", (True,), True),
        ("direct", (None,), True),
        ("auto", (), False),
        ("auto", (True,), True),
        ("auto", (True, False), False),
        ("auto", (True, None), False),
        ("auto", (False, True), True),
    ],
)
def test_the_way(route: str, statuses: tuple[bool | None, ...], direct: bool) -> None:
    presence = Presence(route)
    said(presence, *statuses)
    assert presence.direct("cg-1") is direct


@pytest.mark.parametrize(("route", "ways"), [("remote", "no no"), ("direct", "yes yes"), ("auto", "yes no")])
def test_the_ways_of_all(route: str, ways: str) -> None:
    presence = Presence(route)
    said(presence, True)
    kept = presence.ways()
    presence.forget_all()
    assert [kept("cg-1"), kept("cg-2")] == [one == "yes" for one in ways.split()]


@pytest.mark.parametrize("route", ["direct", "auto"])
def test_where_no_answer_could_be_heard_nothing_goes_directly(route: str) -> None:
    presence = Presence(route)
    said(presence, True)
    presence.unheard = True
    assert not presence.direct("cg-1")


def test_gateways_are_counted() -> None:
    presence = Presence("auto")
    for gateway, status in (("a", True), ("b", False), ("c", True), ("a", False), ("c", None), ("d", None)):
        presence.heard(gateway, status, AT, retained=False)
    assert (presence.connected_count, presence.away_count) == (0, 2)
    presence.forget_all()
    assert (presence.connected_count, presence.away_count) == (0, 0)
    assert presence.why_away("a") is None


def test_of_each_it_is_known_whether_it_is_connected_and_when_it_was_seen() -> None:
    presence = Presence("auto")
    assert (presence.connected("cg-1"), presence.seen_at("cg-1")) == (None, None)
    said(presence, False, retained=True)
    assert (presence.connected("cg-1"), presence.seen_at("cg-1")) == (False, None), "gone before we looked"
    said(presence, True, at=AT)
    assert (presence.connected("cg-1"), presence.seen_at("cg-1")) == (True, AT)
    said(presence, False, at=LATER)
    assert (presence.connected("cg-1"), presence.seen_at("cg-1")) == (False, LATER), "it was there until then"
    presence.forget_all()
    assert (presence.connected("cg-1"), presence.seen_at("cg-1")) == (None, LATER)


def test_changes_are_counted_and_what_was_so_before_is_none() -> None:
    presence = Presence("auto")
    said(presence, True, retained=True)
    said(presence, True)
    assert presence.changes == 0
    said(presence, False, True, None)
    assert presence.changes == 3


def test_no_more_gateways_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_LIMIT", 3)
    presence = Presence("auto")
    for number in range(10):
        presence.heard(f"cg-{number}", False, AT, retained=False)
    assert presence.away_count == 3
    for number in range(10):
        presence.seen(f"cg-{number}", LATER)
    assert [presence.seen_at(f"cg-{number}") for number in range(2, 4)] == [LATER, None]
    presence.heard("cg-0", True, AT, retained=False)
    assert (presence.connected_count, presence.away_count) == (1, 2)
