"""The order of a job's requests to each gateway, where one that fails ends those after it."""

from collections.abc import Iterable

from puppetmaster.model.request import Request


class Steps:
    """The open requests of each gateway, in the order of their ids. Used by one thread, the dispatcher's."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._left: dict[str, list[int]] = {}
        for request in sorted(requests, key=lambda one: -one.id):
            self._left.setdefault(request.destination, []).append(request.id)

    def __len__(self) -> int:
        """How many gateways have open requests."""
        return len(self._left)

    def before(self, request: Request) -> int | None:
        """The request that has to end before this one is sent; None: it is this one's turn."""
        first = self._left[request.destination][-1]
        return None if first == request.id else first

    def ended(self, request: Request) -> int | None:
        """A request has ended. The one whose turn it is now; None: it was not the first, or the last."""
        left = self._left.get(request.destination, [])
        was_first = bool(left) and left[-1] == request.id
        if request.id in left:
            left.remove(request.id)
        if not left:
            self._left.pop(request.destination, None)
            return None
        return left[-1] if was_first else None

    def drop(self, request: Request) -> list[int]:
        """The requests after this one will not be sent: they are forgotten here, and returned in order."""
        return self._left.pop(request.destination, [])[::-1]
