"""The order of a job's requests to each gateway, in jobs where a failure ends the later requests."""

from collections.abc import Iterable

from puppetmaster.model.request import Request


class Steps:
    """The open requests of each gateway, in the order of their ids. For one thread."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._left: dict[str, list[int]] = {}
        for request in sorted(requests, key=lambda one: -one.id):
            self._left.setdefault(request.destination, []).append(request.id)

    def __len__(self) -> int:
        """Number of gateways that have open requests."""
        return len(self._left)

    def before(self, request: Request) -> int | None:
        """The id of the request that has to end before ``request`` is sent; None: it may be sent."""
        first = self._left[request.destination][-1]
        return None if first == request.id else first

    def ended(self, request: Request) -> int | None:
        """Note that a request has ended. Returns the id of the request that may be sent now; None: none."""
        left = self._left.get(request.destination, [])
        was_first = bool(left) and left[-1] == request.id
        if request.id in left:
            left.remove(request.id)
        if not left:
            self._left.pop(request.destination, None)
            return None
        return left[-1] if was_first else None

    def drop(self, request: Request) -> list[int]:
        """Forget all requests to the gateway of a request that failed. Returns their ids, in order."""
        return self._left.pop(request.destination, [])[::-1]
