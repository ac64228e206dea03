"""One request of the bus on its way through the bundle: find its route, run its handler, send its answer.

Exactly one answer leaves whatever a handler does, because the controller keeps every resource of the bundle
locked until a write is answered.
"""

import copy
import inspect
import logging
from collections.abc import Callable
from contextlib import suppress
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

#: Letters that are kept of an error's message when the error with its faults does not fit into an answer.
MESSAGE_LETTERS = 500

Handler = Callable[..., Any]
Schema = Callable[[Any], Any]


class BusRequest(sdk.Message):  # type: ignore[misc] # the SDK has no types
    """A checked request as handlers see it: id, method, resource, data (None when absent), param, query.

    ``param`` and ``query`` are dicts of strings; ``match`` sets them.
    """

    def match(self, route: Any) -> "BusRequest | None":
        """A copy of this request with ``param`` and ``query`` set; None: ``route`` does not fit.

        The copy shares ``data``. The SDK would copy ``data`` deeply for each route that fits.
        """
        # The SDK would cut off a slash at the end of the query too.
        path, mark, query = self.resource.strip().partition("?")
        found = route.resource_regex.search(f"{sdk.trim_resource(path)}{mark}{query}")
        if found is None:
            return None
        matched = copy.copy(self)
        matched.param = found.groupdict()
        matched.query = parameters(matched.param.pop("querystring"))
        return matched


class Response:
    """Answers one request, once. A handler calls it with ``code`` and ``data``, on any thread.

    The call neither waits for the broker nor fails without one.
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
        """Answer. Raises TypeError, ValueError: ``data`` is not JSON; TooLarge: the bus does not carry it."""
        payload = envelope.answer(self._message, self._signer, code, data, self._capacity)
        with self._lock:
            first, self.sent = not self.sent, True
        if first:
            self._send(payload)
        else:
            _logger.warning("a second answer to message %s was dropped", self._message["id"])

    def refuse(self, error: PuppetmasterError) -> None:
        """Answer with an error. What does not fit is left out: its faults, then what the request was."""
        short = {"message": error.message[:MESSAGE_LETTERS]}
        asked, unknown = self._message, {"id": self._message["id"]}
        for self._message, data in ((asked, error.body()), (asked, short), (unknown, short)):
            with suppress(TooLarge):
                self(error.status, data)
                return


def handle(bundle: Any, request: BusRequest, response: Response) -> None:
    """Run the handler of ``request``, and answer with an error if the handler fails or does not answer."""
    asked = f"{request.method[:20]} {request.resource[:200]}"
    try:
        handler, schema, matched = find(bundle.router, request)
        if schema is not None:
            matched.data = schema(matched.data)
        handler(bundle, matched, response)
    except sdk.SchemaInvalid as error:
        response.refuse(_invalid(error))
    except PuppetmasterError as error:
        if isinstance(error, Unavailable):
            _logger.warning("%s is refused: %s", asked, error)
        elif error.status >= 500:
            _logger.exception("%s failed", asked)
        response.refuse(error)
    except (Exception, SystemExit):
        _logger.exception("%s failed", asked)
        _fail(response)
    else:
        if not response.sent:
            _logger.error("%s: %s gave no answer", asked, handler.__name__)
            _fail(response)


def _fail(response: Response) -> None:
    """Answer 500, without a traceback. An answer that the handler gave before it failed stays the answer."""
    response.refuse(PuppetmasterError("internal error; the log of this gateway says more"))


def find(router: Any, request: BusRequest) -> tuple[Handler, Schema | None, BusRequest]:
    """Find the handler of a request, the schema of its data (None: any), and the request with its parameters.

    When several routes fit, the route with the fewest parameters is taken: ``/jobs/ws`` before ``/jobs/:id``.
    The SDK would run them all.

    Raises:
        NotFound: no route fits the resource.
        MethodNotAllowed: a route fits, but has no handler for the method.
    """
    fitting = [
        (matched, route) for route in router.routes.values() if (matched := request.match(route)) is not None
    ]
    for matched, route in sorted(fitting, key=lambda fit: len(fit[0].param)):
        for found in route.dispatch(matched):
            if len(inspect.signature(found["callback"]).parameters) >= 3:  # a handler of events has two
                return found["callback"], found["schema"], matched
    if fitting:
        methods = sorted({method for _, route in fitting for method in route.get_methods()})
        raise MethodNotAllowed(f"expected {' or '.join(methods)} here, got {request.method[:20]}")
    raise NotFound(f"there is no resource {request.resource[:200]} here")


def _invalid(error: sdk.SchemaInvalid) -> Invalid:
    """The faults that a route's schema found, as an ``Invalid``."""
    faults = getattr(error, "errors", [error])
    return Invalid([Fault(".".join(map(str, fault.path)), fault.msg) for fault in faults])
