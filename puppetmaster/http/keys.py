"""Who comes: the token of a request, and the file that says whose it is."""

import hmac
import logging
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import Scope

from puppetmaster.errors import SettingsError
from puppetmaster.model.caller import ANYBODY, HOLDER, Caller, Tokens
from puppetmaster.settings import Settings

log = logging.getLogger("sanji.puppetmaster.http.keys")

#: A client that cannot set headers, such as a browser's WebSocket, offers this and the token as subprotocol.
TOKEN_PREFIX = "token."  # noqa: S105 - not a token
#: Where a request has its caller.
CALLER = "puppetmaster.caller"


class Keys:
    """Who comes with which token: the one of the settings, or one in the file of tokens.

    The file is read at the start, and again when it has changed: a look at its status before each request
    tells. While it cannot be read, or has faults, what it said before holds.

    Raises SettingsError: the file cannot be read, or has faults.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token.encode()
        self._file = Path(settings.tokens) if settings.tokens else None
        self._status = self._look()
        self._tokens = Tokens("", "") if self._file is None else read_tokens(self._file)

    def caller(self, scope: Scope) -> Caller | None:
        """Who sends this request; None: a token is wanted, and none that is known came."""
        if self._file is None and not self._token:
            return ANYBODY
        self._read_again()
        found = None
        for offered in _offered(scope):
            named = self._tokens.find(offered)
            if self._token and hmac.compare_digest(offered.encode("utf-8", "replace"), self._token):
                named = HOLDER
            found = named or found
        return found

    def _look(self) -> tuple[int, ...]:
        """What differs when the file has changed; empty: there is none."""
        if self._file is None:
            return ()
        try:
            status = self._file.stat()
        except OSError:
            return ()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read_again(self) -> None:
        if self._file is None or (status := self._look()) == self._status:
            return
        self._status = status
        try:
            self._tokens = read_tokens(self._file)
        except SettingsError as error:
            log.error("%s What it said before holds.", error, extra={"action": "tokens_fault"})  # noqa: TRY400
        else:
            log.info(
                "%s: %s tokens are known", self._file, len(self._tokens), extra={"action": "tokens_read"}
            )


def read_tokens(file: Path) -> Tokens:
    """The tokens in a file. Raises SettingsError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"PUPPETMASTER_TOKENS: {file} cannot be read: {error}.") from error
    return Tokens(text, f"PUPPETMASTER_TOKENS: {file}")


def _offered(scope: Scope) -> list[str]:
    """The tokens that came with a request."""
    scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
    offered = [given.strip()] if scheme.lower() == "bearer" else []
    protocols = scope.get("subprotocols", ())
    return offered + [one.removeprefix(TOKEN_PREFIX) for one in protocols if one.startswith(TOKEN_PREFIX)]


def caller(scope: Scope) -> Caller:
    """Who sends this request, which ``Security`` has let pass."""
    found = scope[CALLER]
    assert isinstance(found, Caller)
    return found
