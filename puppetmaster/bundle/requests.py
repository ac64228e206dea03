"""One request of the bus and its way through a bundle: found a route, handled, answered.

Whatever a handler does, exactly one answer leaves: the controller keeps every resource of the bundle
locked until a write is answered.
"""

import copy
import inspect
import logging
from collections.abc import Callable
from threading import Lock
from typing import Any

from puppetmaster.api.query import parameters
from puppetmaster.bundle import envelope, sdk
from puppetmaster.errors import (
    Fault,
    Invalid,
    MethodNotAllowed,
    NotFound,
    PuppetmasterError,
    TooLarge,
    Unavailable,
)
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity

_logger = logging.getLogger("sanji.puppetmaster.bundle.requests")

#: Of the message of an error whose answer would be too large.
MESSAGE_LETTERS = 500

Handler = Callable[..., Any]
Schema = Callable[[Any], Any]


class BusRequest(sdk.Message):  # type: ignore[misc] # the SDK has no types
    """A checked request as handlers see it: id, method, resource, data (None when absent), param, query."""

    def match(self, route: Any) -> "BusRequest | None":
        """Return this request with ``param`` and ``query`` set when ``route`` fits, else None.

        The copy shares ``data``; the SDK copies it deeply for each route that fits.
        """
        found = route.resource_regex.search(sdk.trim_resource(self.resource))
        if found is None:
            return None
        matched = copy.copy(self)
        matched.param = found.groupdict()
        matched.query = parameters(matched.param.pop("querystring"))
        return matched


class Response:
    """Answers one request, once. Handlers call it with ``code`` and ``data``; any thread may.

    It neither waits for the broker nor fails without one.
    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        message: dict[str, Any],
        signer: str,
        capacity: Capacity = DEFAULT_CAPACITY,
    ) -> None:
        self.sent = False
        self._capacity = capacity
        self._send = send
        self._message = message
        self._signer = signer
        self._lock = Lock()  # guards sent

    def __call__(self, code: int = 200, data: Any = None) -> None:
        """Answer. Raises TypeError or ValueError when ``data`` is not JSON, TooLarge when it does not fit."""
        payload = envelope.answer(self._message, self._signer, code, data, self._capacity)
        with self._lock:
            first, self.sent = not self.sent, True
        if first:
            self._send(payload)
        else:
            _logger.warning("a second answer to message %s was dropped", self._message["id"])

    def refuse(self, error: PuppetmasterError) -> None:
        """Answer with an error; where its list of faults does not fit, with its message alone."""
        try:
            self(error.status, error.body())
        except TooLarge:
            self(error.status, {"message": error.message[:MESSAGE_LETTERS]})


def handle(bundle: Any, request: BusRequest, response: Response) -> None:
    """Run the one handler of ``request`` and see to it that an answer leaves."""
    try:
        handler, schema, matched = find(bundle.router, request)
        if schema is not None:
            matched.data = schema(matched.data)
        handler(bundle, matched, response)
    except sdk.SchemaInvalid as error:
        response.refuse(_invalid(error))
    except PuppetmasterError as error:
        if isinstance(error, Unavailable):
            _logger.warning("%s %s is refused: %s", request.method, request.resource[:200], error)
        elif error.status >= 500:
            _logger.exception("%s %s failed", request.method, request.resource)
        response.refuse(error)
    except (Exception, SystemExit):
        _logger.exception("%s %s failed", request.method, request.resource)
        _fail(response)
    else:
        if not response.sent:
            _logger.error("%s %s: %s gave no answer", request.method, request.resource, handler.__name__)
            _fail(response)


def _fail(response: Response) -> None:
    """Answer 500, without a traceback; where the handler had answered before it failed, that one counts."""
    response(500, {"message": "internal error; the log of this gateway says more"})


def find(router: Any, request: BusRequest) -> tuple[Handler, Schema | None, BusRequest]:
    """Find a request's handler, its schema, and the request as that route sees it.

    Where several routes fit, the one with the fewest parameters counts: ``/jobs/ws`` before ``/jobs/:id``;
    the SDK would run them all. Raises NotFound or MethodNotAllowed.
    """
    fitting = [
        (matched, route) for route in router.routes.values() if (matched := request.match(route)) is not None
    ]
    for matched, route in sorted(fitting, key=lambda fit: len(fit[0].param)):
        for found in route.dispatch(matched):
            if len(inspect.signature(found["callback"]).parameters) >= 3:  # with two it is for events
                return found["callback"], found["schema"], matched
    if fitting:
        methods = sorted({method for _, route in fitting for method in route.get_methods()})
        raise MethodNotAllowed(f"expected {' or '.join(methods)} here, got {request.method[:20]}")
    raise NotFound(f"there is no resource {request.resource[:200]} here")


def _invalid(error: sdk.SchemaInvalid) -> Invalid:
    """What a route's schema found wrong, as an error of ours."""
    faults = getattr(error, "errors", [error])
    return Invalid([Fault(".".join(map(str, fault.path)), fault.msg) for fault in faults])
