"""The caller of a request: its token, and the file that says whose token it is."""

import hmac

from starlette.datastructures import Headers
from starlette.types import Scope

from puppetmaster.http.reread import Reread
from puppetmaster.model.caller import ANYBODY, HOLDER, Caller, Tokens
from puppetmaster.settings import Settings

#: A client that cannot set headers, such as a browser's WebSocket, offers this and the token as subprotocol.
TOKEN_PREFIX = "token."  # noqa: S105 - not a token
#: Where a request has its caller.
CALLER = "puppetmaster.caller"


class Keys:
    """Tells callers by their tokens: the token of the settings, or a token in the file of tokens.

    Before each request a look at the file tells whether it has changed.

    Raises SettingsError: the file cannot be read, or has faults.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token.encode()
        #: The file of tokens.
        self.file = Reread("tokens", settings.tokens, Tokens, Tokens("", ""))

    def caller(self, scope: Scope) -> Caller | None:
        """The caller that sends this request; None: a token is wanted, and no known token came."""
        if not self.file and not self._token:
            return ANYBODY
        tokens, found = self.file.now(), None
        for offered in _offered(scope):
            named = tokens.find(offered)
            if self._token and hmac.compare_digest(offered.encode("utf-8", "replace"), self._token):
                named = HOLDER
            found = named or found
        return found


def _offered(scope: Scope) -> list[str]:
    """The tokens that came with a request."""
    scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
    offered = [given.strip()] if scheme.lower() == "bearer" else []
    protocols = scope.get("subprotocols", ())
    return offered + [one.removeprefix(TOKEN_PREFIX) for one in protocols if one.startswith(TOKEN_PREFIX)]


def caller(scope: Scope) -> Caller:
    """The caller that sends this request, which ``Security`` has let pass."""
    found = scope[CALLER]
    assert isinstance(found, Caller)
    return found
