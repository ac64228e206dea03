"""Which gateways are there, as their bridges say, and which way a request takes to each of them.

The bridge of a gateway's broker publishes on a status topic whether it is connected, and the broker does so
for it when it is gone. Nothing is sent to a gateway that is known to be away. Of most gateways nothing
may be known: then they are simply asked. Knows no socket, and no clock.
"""

from dataclasses import dataclass

#: More gateways than this are not kept in mind.
KNOWN_LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Bridge:
    """Whether a gateway's bridge is connected, and since when; ``at_least``: it was so before that too."""

    connected: bool
    since: str
    at_least: bool


class Presence:
    """What is known of all bridges, for a ``route`` of the settings. Used by the dispatcher's thread."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._bridges: dict[str, Bridge] = {}
        #: How many are away; how often something changed since the start, without what was so before.
        self.away_count = self.changes = 0
        #: The broker does not let us see what bridges say; it does not let us hear the gateways themselves.
        self.unseen = self.unheard = False

    @property
    def connected_count(self) -> int:
        """How many are known to be connected."""
        return len(self._bridges) - self.away_count

    @property
    def route(self) -> str:
        """The ``route`` that is in force: it takes hearing the gateways to ask them directly."""
        return "remote" if self.unheard else self._route

    def heard(self, gateway: str, connected: bool | None, at: str, *, retained: bool) -> None:
        """A bridge's status; None: there is none any more. ``retained``: it was so before we looked."""
        old = self._bridges.pop(gateway, None)
        self.away_count -= old is not None and not old.connected
        self.changes += not retained and (None if old is None else old.connected) is not connected
        if connected is None or len(self._bridges) >= KNOWN_LIMIT:
            return
        same = old is not None and old.connected is connected
        self._bridges[gateway] = old if same and old is not None else Bridge(connected, at, retained)
        self.away_count += not connected

    def forget_all(self) -> None:
        """The broker is gone: what the bridges said may not hold."""
        self._bridges.clear()
        self.away_count = 0

    def why_away(self, gateway: str) -> str | None:
        """Since when a gateway is known to be away, in words; None: it is there, or nothing is known."""
        bridge = self._bridges.get(gateway)
        if bridge is None or bridge.connected:
            return None
        return f"not connected since {'before ' if bridge.at_least else ''}{bridge.since}"

    def direct(self, gateway: str) -> bool:
        """Whether requests go to the gateway's own controller, and not through the remote bundle."""
        route = self.route
        if route != "auto":
            return route == "direct"
        bridge = self._bridges.get(gateway)
        return bridge is not None and bridge.connected
