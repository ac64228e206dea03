"""The gateways that are known: put by callers, or destinations of a job."""

from collections.abc import Sequence

from puppetmaster.engine.state import State
from puppetmaster.errors import NotFound
from puppetmaster.model.gateway import Gateway, Put, Relabelled
from puppetmaster.store.base import Reader


class Registry:
    """Changes gateways. One thread uses it: the dispatcher's. ``reader`` reads what is on disk."""

    def __init__(self, state: State, reader: Reader) -> None:
        self._state = state
        self._reader = reader

    def put(self, puts: Sequence[Put], by: str, at: str) -> int:
        """Put gateways, each named once, as ``by`` asks. Returns how many were not known before."""
        known = self._known([one.name for one in puts])
        for one in puts:
            before = known.get(one.name)
            after = self._state.changes.gateways[one.name] = one.onto(before)
            self._note(Relabelled(one.name, at, by, before, after))
        return len(puts) - len(known)

    def discover(self, name: str) -> None:
        """Know a gateway that was seen to register and that nobody has named, unless there are too many."""
        if not self._known([name]):
            self._state.changes.gateways[name] = Gateway(name=name, discovered=True)

    def forget(self, name: str, by: str, at: str) -> Gateway:
        """Forget a gateway, as ``by`` asks, until it is put, or a destination, again. Raises NotFound.

        Returns it as it last was.
        """
        gateway = self._known([name]).get(name)
        if gateway is None:
            raise NotFound(f"There is no gateway '{name[:80]}': GET /gateways lists those there are.")
        changes = self._state.changes
        changes.gateways.pop(name, None)
        changes.destinations.discard(name)
        changes.learned.clear()  # there is room for a destination that the store has not learned
        changes.forgotten.add(name)
        self._note(Relabelled(name, at, by, gateway, None))
        return gateway

    def _note(self, done: Relabelled) -> None:
        """Note a change, to be told once it is on disk, unless labels and note are the same as before."""
        before, after = ((one.labels, one.note) if one else ({}, None) for one in (done.before, done.after))
        if before != after:
            self._state.relabelled.append(done)

    def _known(self, names: Sequence[str]) -> dict[str, Gateway]:
        """The known gateways of these names; what is not on disk yet comes before what is."""
        changes = self._state.changes
        stored = {one.name: one for one in self._reader.gateways(names) if one.name not in changes.forgotten}
        new = {name: Gateway(name=name) for name in names if name in changes.destinations}
        put = {name: changes.gateways[name] for name in names if name in changes.gateways}
        return {**new, **stored, **put}
