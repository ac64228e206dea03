"""Which gateways are connected, as their bridges say, and which route a request takes to each.

The bridge of a gateway's broker publishes on a status topic whether it is connected. When the bridge is gone,
our broker publishes that for it. Nothing is sent to a gateway that is known to be away. A gateway of which
nothing is known is sent to. This module knows no sockets and no clock.
"""

from collections.abc import Callable
from dataclasses import dataclass

#: The status of at most this many gateways is kept.
KNOWN_LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Bridge:
    """What is known of a gateway's bridge."""

    #: Whether it is connected to our broker.
    connected: bool
    #: Since when, as ISO 8601.
    since: str
    #: Whether it was so before ``since`` already.
    at_least: bool


class Presence:
    """What is known of all bridges. One thread uses it: the dispatcher's.

    ``route`` is the setting: ``"remote"``, ``"direct"`` or ``"auto"``.
    """

    def __init__(self, route: str) -> None:
        self._route = route
        self._bridges: dict[str, Bridge] = {}
        self._seen: dict[str, str] = {}
        #: Number of gateways that are away; how often a bridge came or went since the start.
        self.away_count = self.changes = 0
        #: Whether the broker refuses us what bridges say, and what gateways answer directly.
        self.unseen = self.unheard = False

    @property
    def connected_count(self) -> int:
        """Number of gateways that are known to be connected."""
        return len(self._bridges) - self.away_count

    @property
    def route(self) -> str:
        """The route in force: ``"remote"`` where we cannot hear what gateways answer directly."""
        return "remote" if self.unheard else self._route

    def heard(self, gateway: str, connected: bool | None, at: str, *, retained: bool) -> None:
        """Note the status of a bridge.

        Args:
            gateway: the name of its gateway.
            connected: whether it is connected; None: its status was removed from the broker.
            at: when we heard it, as ISO 8601.
            retained: whether the broker had kept the status from before our subscription.
        """
        old = self._bridges.pop(gateway, None)
        self.away_count -= old is not None and not old.connected
        self.changes += not retained and (None if old is None else old.connected) is not connected
        if connected is None or len(self._bridges) >= KNOWN_LIMIT:
            return
        same = old is not None and old.connected is connected
        self._bridges[gateway] = old if same and old is not None else Bridge(connected, at, retained)
        self.away_count += not connected
        if connected or not retained:  # a gateway that goes was there until now
            self.seen(gateway, at)

    def forget_all(self) -> None:
        """Forget what bridges said, because the connection to the broker is lost."""
        self._bridges.clear()
        self.away_count = 0

    def seen(self, gateway: str, at: str) -> None:
        """Note that a gateway gave a sign of itself ``at`` this time, as ISO 8601."""
        if gateway in self._seen or len(self._seen) < KNOWN_LIMIT:
            self._seen[gateway] = at

    def seen_at(self, gateway: str) -> str | None:
        """When a gateway last gave a sign of itself, as ISO 8601; None: it gave none since the start."""
        return self._seen.get(gateway)

    def connected(self, gateway: str) -> bool | None:
        """Whether the bridge of a gateway is connected to our broker; None: not known."""
        bridge = self._bridges.get(gateway)
        return None if bridge is None else bridge.connected

    def why_away(self, gateway: str) -> str | None:
        """Since when a gateway is away, as a sentence; None: it is connected, or nothing is known."""
        bridge = self._bridges.get(gateway)
        if bridge is None or bridge.connected:
            return None
        return f"not connected since {'before ' if bridge.at_least else ''}{bridge.since}"

    def ways(self) -> Callable[[str], bool]:
        """A copy of ``direct``, for another thread to keep: what bridges say later does not change it."""
        if self.route != "auto":
            always = self.route == "direct"
            return lambda _: always
        return frozenset(name for name, bridge in self._bridges.items() if bridge.connected).__contains__

    def direct(self, gateway: str) -> bool:
        """Whether requests go to the gateway's own controller, instead of through the remote bundle."""
        route = self.route
        if route != "auto":
            return route == "direct"
        bridge = self._bridges.get(gateway)
        return bridge is not None and bridge.connected
