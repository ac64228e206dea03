"""The use cases of ``/gateways``: which gateways are known, with labels, and what is known of each."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from puppetmaster.api import fleet
from puppetmaster.api.pages import PART, Chunks, Part
from puppetmaster.api.query import Query
from puppetmaster.dispatcher import Dispatcher
from puppetmaster.engine.presence import UNKNOWN, Known
from puppetmaster.errors import NotFound, StoreError, Unavailable
from puppetmaster.model.gateway import Gateway, Put, Target
from puppetmaster.store.base import LastResult, Reader, Store

#: How long a caller waits until a change is on disk. The bus gives us ``ttl`` seconds (bundle.json).
CHANGE_TIMEOUT_S = 15.0
#: How long a look waits for the dispatcher.
LOOK_TIMEOUT_S = 5.0


class Gateways:
    """The gateways behind all doors. Any thread may call it."""

    def __init__(self, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher

    def known(self, asked: Query) -> Chunks:
        """GET /gateways, by name."""

        def read(names: Sequence[str]) -> Part:
            with self._store.reading() as reader:
                return Part(self._views(reader, reader.gateways(names)), len(names))

        with self._store.reading() as reader:
            names = reader.gateway_names(fleet.sought(asked.where))
        end = None if asked.limit is None else asked.offset + asked.limit
        return Chunks(len(names), names[asked.offset : end], read)

    def gateway(self, name: str) -> dict[str, Any]:
        """GET /gateways/:name. Raises NotFound."""
        with self._store.reading() as reader:
            views = self._views(reader, reader.gateways([name]))
        if not views:
            raise NotFound(f"There is no gateway '{name[:80]}': GET /gateways lists those there are.")
        return views[0]

    def finder(self) -> Callable[[Target], tuple[str, ...]]:
        """Finds the names of the gateways that a job is for, in order; equal targets once."""

        @cache
        def find(target: Target) -> tuple[str, ...]:
            with self._store.reading() as reader:
                return target.without(reader.gateway_names(target.sought))

        return find

    def put(self, name: str, body: Any) -> dict[str, Any]:
        """PUT /gateways/:name: the gateway after that, which is on disk. Raises Invalid, Unavailable."""
        put = fleet.parse_put(name, body)
        self._dispatcher.call(lambda engine: engine.put_gateways([put]), CHANGE_TIMEOUT_S)
        return self.gateway(name)

    def put_all(self, body: Any) -> dict[str, Any]:
        """POST /gateways: how many were put, and how many of them are new. All of it is on disk.

        Raises:
            Invalid: the body has faults; nothing was put.
            TooLarge: there are too many; nothing was put.
            Unavailable, StoreError: some were not put, or that is not known: the message says which.
        """
        puts = fleet.parse_puts(body)
        created = 0
        for at in range(0, len(puts), PART):
            try:
                created += self._put_part(puts[at : at + PART])
            except (Unavailable, StoreError) as error:
                said = (
                    f"{error.message} {at} of {len(puts)} gateways are put for certain: put them all again."
                )
                raise type(error)(said) from error
        return {"put": len(puts), "created": created}

    def _put_part(self, puts: Sequence[Put]) -> int:
        return self._dispatcher.call(lambda engine: engine.put_gateways(puts), CHANGE_TIMEOUT_S)

    def forget(self, name: str) -> dict[str, Any]:
        """DELETE /gateways/:name: the gateway as it last was. Raises NotFound, Unavailable."""
        gateway = self._dispatcher.call(lambda engine: engine.forget_gateway(name), CHANGE_TIMEOUT_S)
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
            return self._dispatcher.look(
                lambda engine: {name: engine.presence.of(name) for name in names}, LOOK_TIMEOUT_S
            )
        except Unavailable:  # the gateways are shown all the same
            return dict.fromkeys(names, UNKNOWN)


def _view(gateway: Gateway, seen: Known, last: LastResult | None) -> dict[str, Any]:
    return {
        **gateway.document(),
        "connected": seen.connected,
        "registered": seen.registered,
        "lastResult": None if last is None else last._asdict(),
    }
