"""The HTTP client of the command line. Each error is a sentence that says what is wrong and what to do."""

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from puppetmaster import __version__
from puppetmaster.cli.called import command
from puppetmaster.cli.kinds import SHOWN

DEFAULT_URL = "http://127.0.0.1:8700"
#: Timeout of a connection. The service itself gives up on a change after 15 s.
TIMEOUT_S = 30.0
#: How often a new job is posted when its answer is lost; its key makes it the same job each time.
CREATE_ATTEMPTS = 3
#: Rows of one question when all are wanted.
PAGE = 500

#: A property that each job, request, group of results, gateway, answer to a put, and event has.
_JOB, _REQUEST, _GROUP, _GATEWAY, _PUT = "counts", "__request", "sample", "lastResult", "put"
_EVENT, _TEMPLATE = "event", "nextStarts"
#: Words of the API's sentences -> the command that shows the same.
_SAID_HERE = {
    "GET /jobs lists": "list",
    "GET /requests lists": "requests JOB",
    "GET /gateways lists": "gateways list",
    "GET /templates lists": "templates list",
}


class ClientError(Exception):
    """An error that ends the command line, with its sentence and ``exit_code``."""

    exit_code = 7


class Unreachable(ClientError):
    """Puppetmaster cannot be reached, does not let us in, or cannot answer.

    ``passing``: a later try may succeed. ``lost``: the answer is lost, and the request may have been carried
    out.
    """

    def __init__(self, message: str, *, passing: bool = False, lost: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        self.lost = lost


class Refused(ClientError):
    """Puppetmaster refused the request. ``faults``: a ``{"path", "message"}`` for each fault in the body."""

    exit_code = 2

    def __init__(self, message: str, status: int, faults: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.faults = tuple(faults)

    def named(self, name: Callable[[str], str]) -> "Refused":
        """The same error with each fault's path replaced by ``name(path)``."""
        faults = [{**fault, "path": name(str(fault.get("path", "")))} for fault in self.faults]
        if len(faults) != 1 or not faults[0]["path"]:
            return Refused(str(self), self.status, faults)
        return Refused(f"{faults[0]['path']}: {faults[0].get('message')}", self.status, faults)


Rows = tuple[list[dict[str, Any]], int]
"""The rows of a page, and the number of all that fit."""


def all_rows(ask: Callable[..., Rows], *where: Any, **filters: Any) -> Iterator[dict[str, Any]]:
    """All rows that fit, a page after the other. ``ask``: a method of ``Client`` that lists them."""
    offset, total = 0, 1
    while offset < total:
        rows, total = ask(*where, **filters, limit=PAGE, offset=offset)
        yield from rows
        offset += PAGE


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    #: The decoded JSON; None for a 304.
    data: Any
    #: Empty: there is none.
    etag: str
    #: Number of rows before paging; None: the answer is no list.
    total: int | None


class Client:
    """Asks one puppetmaster, over a connection that is kept open. For one thread."""

    def __init__(
        self, url: str, token: str = "", *, timeout_s: float = TIMEOUT_S, named: str = "PUPPETMASTER_URL"
    ) -> None:
        """Make a client that is not connected yet. ``named``: the option or variable that ``url`` is from.

        Raises ValueError: ``url`` is not http or https, or no header can carry ``token``.
        """
        try:
            parts = urlsplit(url)
            port, name = parts.port, (parts.hostname or "").encode("idna")
        except ValueError:  # UnicodeError is one
            parts, port, name = urlsplit(""), None, b""
        if parts.scheme not in ("http", "https") or not name or parts.hostname is None:
            raise ValueError(f"{named}: expected a URL such as {DEFAULT_URL}, got '{url[:SHOWN]}'")
        if not token.isascii() or not token.isprintable():
            raise ValueError("PUPPETMASTER_TOKEN: expected printable ASCII, got other characters")
        self.url = url.rstrip("/")
        self._named = named
        self.host = parts.hostname
        self._secure = parts.scheme == "https"
        self._port = port or (443 if self._secure else 80)
        self._prefix = quote(parts.path.rstrip("/"), safe="/%", errors="surrogateescape")
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": f"puppetmaster/{__version__}", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None
        self._connected = False

    # -- the API ----------------------------------------------------------------------------------

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /jobs. A body with a ``key`` is posted again when the answer is lost. Returns the job."""
        return self._once_created("/jobs", body)

    def _once_created(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        attempts = CREATE_ATTEMPTS if body.get("key") else 1
        for left in reversed(range(attempts)):
            try:
                return self._object(self.ask("POST", path, body), _JOB)
            except Unreachable as error:
                if not left or not error.lost:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def jobs(self, **filters: Any) -> Rows:
        """GET /jobs. Returns the jobs of this page, and the number of all that fit."""
        return self._rows("/jobs", filters, _JOB)

    def job(self, job_id: int) -> dict[str, Any]:
        """GET /jobs/:id. Returns the job without its requests."""
        job, _ = self.look(job_id)
        assert job is not None
        return job

    def look(self, job_id: int, etag: str = "") -> tuple[dict[str, Any] | None, str]:
        """As ``job``, with the tag of what came; None: nothing has changed since ``etag`` came."""
        query = {"collection": "false", "limit": 0}
        answer = self.ask("GET", f"/jobs/{job_id}", query=query, etag=etag)
        return None if answer.data is None and etag else self._object(answer, _JOB), answer.etag

    def requests(self, job_id: int, **filters: Any) -> Rows:
        """GET /jobs/:id/requests. Returns the requests of this page, and the number of all that fit."""
        return self._rows(f"/jobs/{job_id}/requests", filters, _REQUEST)

    def request(self, request_id: int) -> dict[str, Any]:
        """GET /requests/:id. Returns the request."""
        return self._object(self.ask("GET", f"/requests/{request_id}"), _REQUEST)

    def results(self, job_id: int, *, diff: bool, full: bool, **page: int) -> Rows:
        """GET /jobs/:id/results. Returns groups of equal results, and the number of all groups."""
        query = {"diff": "true" if diff else None, "collection": "true" if full else None, **page}
        return self._rows(f"/jobs/{job_id}/results", query, _GROUP)

    def events(self, job_id: int) -> Rows:
        """GET /jobs/:id/events. Returns the events, and their number."""
        return self._rows(f"/jobs/{job_id}/events", {}, _EVENT)

    def control(self, job_id: int, status: str, *, force: bool = False) -> dict[str, Any]:
        """PUT /jobs/:id. Returns the job."""
        body = {"status": status, **({"force": True} if force else {})}
        return self._object(self.ask("PUT", f"/jobs/{job_id}", body), _JOB)

    def delete(self, job_id: int) -> dict[str, Any]:
        """DELETE /jobs/:id. Returns the job as it was before."""
        return self._object(self.ask("DELETE", f"/jobs/{job_id}"), _JOB)

    def gateways(self, **filters: Any) -> Rows:
        """GET /gateways. Returns the gateways of this page, and the number of all that fit."""
        return self._rows("/gateways", filters, _GATEWAY)

    def gateway(self, name: str) -> dict[str, Any]:
        """GET /gateways/:name. Returns the gateway."""
        return self._object(self.ask("GET", f"/gateways/{name}"), _GATEWAY)

    def put_gateway(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """PUT /gateways/:name. Returns the gateway."""
        return self._object(self.ask("PUT", f"/gateways/{name}", body), _GATEWAY)

    def put_gateways(
        self, puts: Sequence[Mapping[str, Any]], named: Callable[[str], str] = str
    ) -> dict[str, Any]:
        """POST /gateways. Returns how many were put, and how many of them are new.

        ``named`` names a place in the list for the reader of an error.
        """
        try:
            return self._object(self.ask("POST", "/gateways", puts), _PUT)
        except Refused as error:
            raise error.named(named) from error

    def forget_gateway(self, name: str) -> dict[str, Any]:
        """DELETE /gateways/:name. Returns the gateway as it was before."""
        return self._object(self.ask("DELETE", f"/gateways/{name}"), _GATEWAY)

    def templates(self, **filters: Any) -> Rows:
        """GET /templates. Returns the templates of this page, and the number of all that fit."""
        return self._rows("/templates", filters, _TEMPLATE)

    def template(self, name: str) -> dict[str, Any]:
        """The template of this name, or of this number. Raises Refused: there is none."""
        found, _ = self.templates(name=name)
        if found:
            return found[0]
        return self._object(self.ask("GET", f"/templates/{name}"), _TEMPLATE)

    def put_template(self, id_: int | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /templates (None), or PUT /templates/:id. Returns the template."""
        if id_ is None:
            return self._object(self.ask("POST", "/templates", body), _TEMPLATE)
        return self._object(self.ask("PUT", f"/templates/{id_}", body), _TEMPLATE)

    def start_template(self, id_: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST /templates/:id/jobs. Returns the job."""
        return self._once_created(f"/templates/{id_}/jobs", body)

    def delete_template(self, id_: int) -> dict[str, Any]:
        """DELETE /templates/:id. Returns the template as it was before."""
        return self._object(self.ask("DELETE", f"/templates/{id_}"), _TEMPLATE)

    def _object(self, answer: Answer, mark: str) -> dict[str, Any]:
        if not isinstance(answer.data, dict) or mark not in answer.data:
            raise self._stranger(f"{answer.status} without what was asked for")
        return answer.data

    def _rows(self, path: str, filters: Mapping[str, Any], mark: str) -> Rows:
        answer = self.ask("GET", path, query=filters)
        if not isinstance(answer.data, list) or not all(
            isinstance(one, dict) and mark in one for one in answer.data
        ):
            raise self._stranger(f"{answer.status} without a list of what was asked for")
        return answer.data, len(answer.data) if answer.total is None else answer.total

    # -- HTTP -------------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        etag: str = "",
        also: Sequence[int] = (),
    ) -> Answer:
        """Send one request.

        Args:
            method: GET, POST, PUT or DELETE.
            path: the path, without the prefix in the URL.
            body: is sent as JSON; None: no body.
            query: parameters; those that are None are left out.
            etag: is sent as If-None-Match, if not empty.
            also: error statuses whose answer is returned, not raised.

        Raises:
            Unreachable: there is no answer of puppetmaster, or it cannot answer now.
            Refused: it refused the request.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            target = self._prefix + quote(path) + (f"?{urlencode(given)}" if given else "")
        except UnicodeEncodeError as error:
            raise Refused(f"Expected words in UTF-8, got {error.object!a}.", 400) from None
        headers = dict(self._headers)
        sent = None
        if body is not None:
            sent = json.dumps(body).encode("ascii")
            headers["Content-Type"] = "application/json"
        if etag:
            headers["If-None-Match"] = etag
        try:
            response, raw = self._exchange(method, target, sent, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error, lost=self._connected) from error
        return self._read(response, raw, also)

    def close(self) -> None:
        """Close the connection. The next request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        kept = self._connection is not None
        if kept and method != "GET":  # a kept connection may be dead, and a change must not get lost in it
            self.close()
            kept = False
        try:
            return self._once(method, target, body, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            if not kept:
                raise
            return self._once(method, target, body, headers)

    def _once(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = kind(self.host, self._port, timeout=self._timeout_s)
            self._connected = False
            self._connection.connect()
            self._connected = True
        try:
            self._connection.request(method, target, body, dict(headers))
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise  # else a body too large was refused before it was read, and the answer says so
        response = self._connection.getresponse()
        return response, response.read()

    def _read(self, response: http.client.HTTPResponse, raw: bytes, also: Sequence[int]) -> Answer:
        status = response.status
        etag = response.getheader("ETag") or ""
        if status == HTTPStatus.NOT_MODIFIED:
            return Answer(status, None, etag, None)
        if 300 <= status < 400:
            where = response.getheader("Location") or "another place"
            raise Unreachable(f"{self.url} leads to {where}: set {self._named} to where it is.")
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError):
            kind = response.getheader("Content-Type") or "no content type"
            raise self._stranger(f"{status} and {kind}") from None
        if status >= 400 and status not in also:
            raise self._no(status, data)
        total = response.getheader("X-Total-Count") or ""
        return Answer(status, data, etag, int(total) if total.isdigit() else None)

    # -- sentences --------------------------------------------------------------------------------

    def _no(self, status: int, data: Any) -> ClientError:
        message = data.get("message") if isinstance(data, dict) else None
        if not isinstance(message, str):
            return self._stranger(f"{status} without a message")
        if status == HTTPStatus.UNAUTHORIZED:
            given = "this is another one" if "Authorization" in self._headers else "none was given"
            return Unreachable(
                f"{self.url} needs its token, and {given}: "
                "set PUPPETMASTER_TOKEN to yours, or as the bundle has it."
            )
        if status == HTTPStatus.FORBIDDEN:
            return Unreachable(f"{self.url} does not let this in: {message}")
        if status >= 500:
            cure = "Try again." if status == HTTPStatus.SERVICE_UNAVAILABLE else "See its log."
            text = message if message.endswith(cure) else f"{message} {cure}"
            passing = status != HTTPStatus.INTERNAL_SERVER_ERROR
            return Unreachable(
                f"{self.url} cannot answer now ({status}): {text}", passing=passing, lost=not passing
            )
        told = data.get("errors")
        faults = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
        for api, here in _SAID_HERE.items():
            message = message.replace(api, f"'{command(here)}' shows")
        return Refused(message, status, faults)

    def _stranger(self, came: str) -> Unreachable:
        return Unreachable(
            f"{self.url} answers, but not as puppetmaster does ({came}): set {self._named} to where it is."
        )

    def _unreachable(self, error: Exception, *, lost: bool) -> Unreachable:
        passing = True
        match error:
            case ssl.SSLCertVerificationError():
                why = f"its certificate is not trusted ({error.verify_message})"
                cure, passing = "Set SSL_CERT_FILE to a file with its certificate", False
            case ssl.SSLError():
                why, cure = "it does not speak TLS as expected", "Is it http:// instead?"
                passing = False
            case ConnectionRefusedError():
                why = "nothing listens there"
                cure = f"Start it with '{command('run')}', or set {self._named} to where it is"
            case socket.gaierror():
                why, cure = f"the name {self.host} is not known", f"Correct {self._named}"
            case TimeoutError():
                why, cure = (
                    f"no answer within {self._timeout_s:g} s",
                    f"Try again, or ask '{command('doctor')}'",
                )
            case http.client.RemoteDisconnected() | http.client.IncompleteRead() | ConnectionError():
                why = "it ended the connection without a whole answer"
                cure = "Try again; if it stays so, is it https:// instead?"
            case http.client.HTTPException():
                why, cure = "it does not speak HTTP", f"Set {self._named} to where it is"
                passing = False
            case _:
                why, cure = str(getattr(error, "strerror", None) or error), f"Ask '{command('doctor')}'"
        end = "" if cure.endswith("?") else "."
        return Unreachable(
            f"Cannot reach puppetmaster at {self.url}: {why}. {cure}{end}", passing=passing, lost=lost
        )
