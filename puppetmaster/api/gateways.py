"""The use cases of ``/gateways``: which gateways are known, with labels, and what is known of each."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from heapq import nsmallest
from threading import Event
from typing import Any

from puppetmaster.api import gateway_bodies
from puppetmaster.api.pages import PART, Chunks, Part
from puppetmaster.api.query import Query
from puppetmaster.dispatcher import Decider
from puppetmaster.engine.engine import Known
from puppetmaster.engine.registered import Copy
from puppetmaster.errors import NotFound, StoreError, Unavailable
from puppetmaster.model.gateway import Gateway, Put, Target
from puppetmaster.store.base import LastResult, Readable, Reader

#: How long a caller waits until a change is on disk. The bus gives us ``ttl`` seconds (bundle.json).
CHANGE_TIMEOUT_S = 15.0
#: How long a look waits for the dispatcher.
LOOK_TIMEOUT_S = 5.0
#: A plan asks the controller anew for gateways of which it last said something longer ago than this.
STALE_S = 300.0
ALL = Query()
#: The sources of results that are a sign of the gateway.
ANSWERED = ("device",)


@dataclass(frozen=True, slots=True)
class Registration:
    """How many of some gateways the controller knows."""

    gateways: int
    registered: int
    #: Those that it does not know, in the order in which they were asked for.
    missing: list[str]
    #: Number of those that it has said nothing of: it was not asked, or has not answered yet.
    unanswered: int

    @property
    def unknown(self) -> int:
        """Number of those of which it is not known: the controller, or an owner of many, says nothing."""
        return self.gateways - self.registered - len(self.missing)

    def view(self) -> dict[str, Any]:
        """As a dry run shows it."""
        return {
            "gateways": self.gateways,
            "registered": self.registered,
            "notRegistered": len(self.missing),
            "unknown": self.unknown,
            "unanswered": self.unanswered,
            "names": self.missing[: gateway_bodies.MOST_NAMED],
        }


class Gateways:
    """The gateways behind all doors. Any thread may call it."""

    def __init__(self, store: Readable, dispatcher: Decider) -> None:
        self._store = store
        self._dispatcher = dispatcher

    def known(self, asked: Query) -> Chunks:
        """GET /gateways, by name."""
        where = asked.where
        fits = _fits(where.get("registered"))

        def read(names: Sequence[str]) -> Part:
            with self._store.reading() as reader:
                rows = self._views(reader, reader.gateways(names))
            return Part([row for row in rows if fits(row["registered"])], len(names))

        with self._store.reading() as reader:
            names = reader.gateway_names(gateway_bodies.sought(where))
        if "name" in where:
            wanted = {*str(where["name"]).split(",")}
            names = [name for name in names if name in wanted]
        if "registered" in where:
            said = self._said()
            names = [name for name in names if fits(said.of(name).registered)]
        page = asked.page(names)
        if asked.check:
            self._ask(page[: gateway_bodies.MOST_CHECKED])
        return Chunks(len(names), page, read)

    def gateway(self, name: str, asked: Query = ALL) -> dict[str, Any]:
        """GET /gateways/:name. Raises NotFound."""
        if asked.check:
            self._ask([name])
        with self._store.reading() as reader:
            views = self._views(reader, reader.gateways([name]))
        if not views:
            raise NotFound(f"There is no gateway '{name[:80]}': GET /gateways lists those there are.")
        return views[0]

    def registration(self, names: Sequence[str]) -> Registration:
        """How many of these gateways the controller knows.

        It is asked for those of which that is not known, or was said more than ``STALE_S`` ago. Those that
        requests reach directly need not be known to it.
        """
        total, direct = len(names), self._ways()
        names = [name for name in names if not direct(name)]
        before = self._said()
        heard_s = {name: before.of(name).at_s or 0.0 for name in names}
        stale = [name for name in names if heard_s[name] <= max(before.now_s - STALE_S, 0.0)]
        asked = nsmallest(gateway_bodies.MOST_CHECKED, stale, key=heard_s.__getitem__)
        self._ask(asked)
        said = self._said() if asked else before
        found = Counter(said.of(name).registered for name in names)
        missing = [name for name in names if said.of(name).registered is False]
        unanswered = sum(said.of(name).at_s is None for name in names)
        return Registration(total, found[True], missing, unanswered)

    def _ask(self, names: Sequence[str]) -> None:
        """Have the controller asked for these gateways now, and wait for its answers, but not for long."""
        answered = Event()
        with suppress(Unavailable):  # what is known is shown all the same
            self._dispatcher.look(lambda engine: engine.ask_now(names, answered.set), LOOK_TIMEOUT_S)
            answered.wait(gateway_bodies.CHECK_TIMEOUT_S)

    def _ways(self) -> Callable[[str], bool]:
        """Which gateways are asked directly. None is, if the dispatcher does not answer."""
        try:
            return self._dispatcher.look(lambda engine: engine.presence.ways(), LOOK_TIMEOUT_S)
        except Unavailable:
            return lambda _: False

    def _said(self) -> Copy:
        """What the controller has said. Nothing, if the dispatcher does not answer."""
        try:
            return self._dispatcher.look(lambda engine: engine.registered.copy(), LOOK_TIMEOUT_S)
        except Unavailable:
            return Copy({}, {})

    def finder(self) -> Callable[[Target], tuple[str, ...]]:
        """Finds the names of the gateways that a job is for, in order; equal targets once."""

        @cache
        def find(target: Target) -> tuple[str, ...]:
            with self._store.reading() as reader:
                return target.without(reader.gateway_names(target.sought))

        return find

    def put(self, name: str, body: Any, by: str) -> dict[str, Any]:
        """PUT /gateways/:name: the gateway after that, which is on disk. Raises Invalid, Unavailable."""
        put = gateway_bodies.parse_put(name, body)
        self._dispatcher.call(lambda engine: engine.put_gateways([put], by), CHANGE_TIMEOUT_S)
        return self.gateway(name)

    def put_all(self, body: Any, by: str) -> dict[str, Any]:
        """POST /gateways: how many were put, and how many of them are new. All of it is on disk.

        Raises:
            Invalid: the body has faults; nothing was put.
            TooLarge: there are too many; nothing was put.
            Unavailable, StoreError: some were not put, or that is not known: the message says which.
        """
        puts = gateway_bodies.parse_puts(body)
        created = 0
        for at in range(0, len(puts), PART):
            try:
                created += self._put_part(puts[at : at + PART], by)
            except (Unavailable, StoreError) as error:
                said = (
                    f"{error.message} {at} of {len(puts)} gateways are put for certain: put them all again."
                )
                raise type(error)(said) from error
        return {"put": len(puts), "created": created}

    def _put_part(self, puts: Sequence[Put], by: str) -> int:
        return self._dispatcher.call(lambda engine: engine.put_gateways(puts, by), CHANGE_TIMEOUT_S)

    def forget(self, name: str, by: str) -> dict[str, Any]:
        """DELETE /gateways/:name: the gateway as it last was. Raises NotFound, Unavailable."""
        gateway = self._dispatcher.call(lambda engine: engine.forget_gateway(name, by), CHANGE_TIMEOUT_S)
        with self._store.reading() as reader:
            return self._views(reader, [gateway])[0]

    def _views(self, reader: Reader, gateways: Sequence[Gateway]) -> list[dict[str, Any]]:
        names = [one.name for one in gateways]
        last = reader.last_results(names)
        seen = self._seen(names)
        return [_view(one, seen[one.name], last.get(one.name)) for one in gateways]

    def _seen(self, names: Sequence[str]) -> dict[str, Known]:
        """What is known of their presence. Nothing is, if the dispatcher does not answer."""
        try:
            return self._dispatcher.look(lambda engine: engine.known(names), LOOK_TIMEOUT_S)
        except Unavailable:  # the gateways are shown all the same
            return dict.fromkeys(names, Known())


def _fits(wanted: Any) -> Callable[[bool | None], bool]:
    """Whether a gateway's ``registered`` is as a query wants it; any is, where it does not say."""
    if wanted is None:
        return lambda _: True
    return lambda registered: registered is gateway_bodies.REGISTERED[wanted]


def _view(gateway: Gateway, seen: Known, last: LastResult | None) -> dict[str, Any]:
    answered_at = last.at if last is not None and last.source in ANSWERED else None
    return {
        "name": gateway.name,
        "labels": dict(gateway.labels),
        "note": gateway.note,
        "discovered": gateway.discovered,
        "connected": seen.connected,
        "registered": seen.registered,
        "checkedAt": seen.checked_at,
        "lastSeenAt": max(filter(None, (seen.seen_at, answered_at)), default=None),
        "lastResult": None
        if last is None
        else {"request": last.request, "status": last.status, "code": last.code},
    }
