"""Every error that a caller or an operator can meet.

All derive from one class. Each class has an HTTP status and a code, and its docstring is the sentence that is
shown when no other is given. ``body()`` is the answer over HTTP and over the bus.

    PuppetmasterError
    |- Invalid            400  the body or the query is wrong; ``faults`` name every place
    |- Unauthorized       401
    |- Forbidden          403
    |- NotFound           404
    |- MethodNotAllowed   405
    |- RequestTimeout     408
    |- Conflict           409
    |- TooLarge           413
    |- UpgradeRequired    426  the path is a WebSocket
    |- HeadersTooLarge    431
    |- Unavailable        503
    |  `- StoreError      503  the store cannot be read or written
    |     |- NotKnown          and after a crash what was written may be there all the same
    |     `- NotLeading        another process leads the bus
    |- SettingsError           the bundle cannot start as it is configured
    `- IllegalTransition  500  our own fault: a status was asked to change in a way no table allows
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

#: What to do when it is not known whether something was done.
LOOK_AGAIN = "look again later whether it was done, before you repeat it"
#: Most faults in an answer, so that it fits the bus; further ones are only counted.
FAULTS_SHOWN = 1000
#: Number of the first faults that may suggest what a misspelt name means, because finding that takes time.
HINTS = 100


class Fault(NamedTuple):
    """One wrong place in what a caller sent."""

    #: The place, such as ``batch[0].method``; empty: the whole body.
    path: str
    #: What was expected there.
    message: str


class Faults(list[Fault]):
    """Collects faults: the first ``FAULTS_SHOWN`` are kept, further ones only counted."""

    #: Number of faults that are not kept.
    more = 0

    @property
    def total(self) -> int:
        """Number of all faults."""
        return len(self) + self.more

    @property
    def hinting(self) -> bool:
        """Whether the next fault may suggest what a misspelt name means."""
        return len(self) < HINTS

    def add(self, path: str, message: str) -> None:
        """Add a fault."""
        self.take((Fault(path, message),))

    def take(self, found: Iterable[Fault]) -> None:
        """Add faults."""
        for fault in found:
            if len(self) < FAULTS_SHOWN:
                self.append(fault)
            else:
                self.more += 1

    def check(self) -> None:
        """Raises Invalid: there is a fault."""
        if self:
            rest = [Fault("", f"{self.more} more faults are not listed")] if self.more else []
            raise Invalid([*self, *rest])


class PuppetmasterError(Exception):
    """Something went wrong inside puppetmaster; its log says what."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    #: The exit code of a process that ends for this.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))

    @property
    def message(self) -> str:
        """The sentence that is shown to a person."""
        return str(self.args[0])

    def body(self) -> dict[str, Any]:
        """The error as it is answered over HTTP and the bus: ``{"message": ..}``."""
        return {"message": self.message}


class Invalid(PuppetmasterError):
    """The request is not valid."""

    status = 400
    code = "invalid"

    def __init__(self, faults: Sequence[Fault], message: str | None = None) -> None:
        self.faults = tuple(faults)
        super().__init__(message or self._summary())

    def _summary(self) -> str:
        path, text = self.faults[0]
        first = f"{path}: {text}" if path else text
        more = len(self.faults) - 1
        return first if not more else f"{first} (and {more} more, see errors)"

    def body(self) -> dict[str, Any]:
        """``{"message": .., "errors": [{"path": .., "message": ..}, ..]}``, every fault at once."""
        return {"message": self.message, "errors": [fault._asdict() for fault in self.faults]}


class Unauthorized(PuppetmasterError):
    """This needs the token: send it as 'Authorization: Bearer <token>'."""

    status = 401
    code = "unauthorized"


class Forbidden(PuppetmasterError):
    """This is not allowed from there."""

    status = 403
    code = "forbidden"


class RequestTimeout(PuppetmasterError):
    """The request did not arrive in time; nothing was changed."""

    status = 408
    code = "request_timeout"


class NotFound(PuppetmasterError):
    """There is no such thing here."""

    status = 404
    code = "not_found"


class MethodNotAllowed(PuppetmasterError):
    """This resource does not take this method."""

    status = 405
    code = "method_not_allowed"


class Conflict(PuppetmasterError):
    """This does not fit the present state."""

    status = 409
    code = "conflict"


class TooLarge(PuppetmasterError):
    """This is larger than the limit."""

    status = 413
    code = "too_large"


class UpgradeRequired(PuppetmasterError):
    """This is a WebSocket: ask with 'Connection: Upgrade' and 'Upgrade: websocket'."""

    status = 426
    code = "upgrade_required"


class HeadersTooLarge(PuppetmasterError):
    """The headers are larger than the limit."""

    status = 431
    code = "headers_too_large"


class Unavailable(PuppetmasterError):
    """Puppetmaster cannot do this now; nothing was changed. Try again."""

    status = 503
    code = "unavailable"


class StoreError(Unavailable):
    """The store cannot be read or written; nothing was changed."""

    code = "store"


class NotKnown(StoreError):
    """The store could not be written, and after a crash this may be in it all the same."""


class NotLeading(StoreError):
    """Another process leads this bus."""

    exit_code = 75  # EX_TEMPFAIL: its supervisor may try again


class SettingsError(PuppetmasterError):
    """A setting is not valid."""

    code = "settings"

    @classmethod
    def of(cls, where: str, faults: Sequence[Fault]) -> Self:
        """The error for faults in a file. It names the first ``HINTS`` of them, and counts the others."""
        named = [f"{path}: {said}" for path, said in faults[:HINTS]]
        more = [f"and {len(faults) - HINTS} more"] if len(faults) > HINTS else []
        return cls(f"{where}: {'; '.join([*named, *more])}.")


class IllegalTransition(PuppetmasterError):
    """A status was asked to change in a way that its table does not allow."""

    code = "illegal_transition"
