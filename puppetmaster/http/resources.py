"""The HTTP door: the operations of the API as resources that translate, and decide nothing."""

import asyncio
import hashlib
import itertools
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from puppetmaster import jsoncodec
from puppetmaster.api import query
from puppetmaster.api.operations import Backend, Operation
from puppetmaster.api.pages import Chunks, encoded
from puppetmaster.errors import (
    Conflict,
    Fault,
    Invalid,
    MethodNotAllowed,
    PuppetmasterError,
    TooLarge,
    Unavailable,
)
from puppetmaster.http.security import READING, SMALL_BYTES

log = logging.getLogger("sanji.puppetmaster.http.resources")

JSON = "application/json"
#: An answer up to this size is sent as a whole, with its length and an ETag of its bytes.
WHOLE_BYTES = 512 * 1024
#: Pieces of a longer one are joined to about this size.
PIECE_BYTES = 64 * 1024
#: So many longer ones are sent at once.
MOST_LONG = 30


class Turns(NamedTuple):
    """What takes long goes one at a time, large bodies and parts of long answers each among themselves.

    Many threads at work would share one processor, and whoever asks for little would wait for all of them.
    """

    bodies: asyncio.Semaphore
    parts: asyncio.Semaphore
    #: Of a long answer some parts are in memory until its reader has taken them, so there may be so many.
    long: asyncio.Semaphore

    @classmethod
    def new(cls) -> "Turns":
        """Nobody's."""
        return cls(asyncio.Semaphore(), asyncio.Semaphore(), asyncio.Semaphore(MOST_LONG))


class Resource:
    """One path: an ASGI application that runs its operations in Starlette's threads."""

    def __init__(self, backend: Backend, operations: Mapping[str, Operation], turns: Turns) -> None:
        self._backend = backend
        self._turns = turns
        self._operations = operations
        methods = {*operations, *(("HEAD",) if "GET" in operations else ())}
        self._allow = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._respond(Request(scope, receive))
        except ClientDisconnect:
            return
        except PuppetmasterError as error:
            response = failure(error, {"Allow": self._allow} if isinstance(error, MethodNotAllowed) else None)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"], extra={"action": "http_fault"})
            response = failure(PuppetmasterError())
        try:
            await self._send(response, scope, receive, send)
        except PuppetmasterError as error:  # of a long answer a part is out already: its end stays away
            log.warning("%s %s broke off: %s", scope["method"], scope["path"], error)

    async def _send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if not isinstance(response, StreamingResponse):
            await response(scope, receive, send)
        elif self._turns.long.locked():
            said = f"{MOST_LONG} long answers are being sent, which are the most: try again later."
            await failure(Unavailable(said))(scope, receive, send)
        else:
            async with self._turns.long:
                await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        operation = self._operations.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise MethodNotAllowed(f"Expected {self._allow} on this resource, got {request.method}.")
        raw = await _raw(request) if operation.method in ("POST", "PUT") else None
        if raw is None or len(raw) <= SMALL_BYTES:
            return await run_in_threadpool(self._try, operation, raw, request)
        async with self._turns.bodies:
            return await run_in_threadpool(self._try, operation, raw, request)

    def _try(self, operation: Operation, raw: bytearray | None, request: Request) -> Response:
        """Run it. An error is told here: raised in a thread it is kept in a cycle, with all it knows."""
        try:
            return self._run(operation, raw, request)
        except PuppetmasterError as error:
            return failure(error)

    def _run(self, operation: Operation, raw: bytearray | None, request: Request) -> Response:
        given = query.parameters(request.scope["query_string"].decode("latin-1"))
        body = None if raw is None else _body(raw, request, self._backend.service.most_values)
        data = operation.run(self._backend, request.path_params.get("id", ""), given, body)
        if operation.created is not None and data["id"] is not None:
            location, job_id = operation.created(data)
            begin = BackgroundTask(self._backend.service.begin, job_id)
            return Response(jsoncodec.encode(data), 200, {"Location": location}, JSON, begin)
        return answer(data, request, self._turns)


def failure(error: PuppetmasterError, headers: Mapping[str, str] | None = None) -> Response:
    """An error of the API as an answer."""
    return Response(jsoncodec.encode(error.body()), error.status, headers, JSON)


def answer(data: Any, request: Request, turns: Turns) -> Response:
    """``data`` as JSON: as a whole with an ETag, or in pieces when it is long; 304 when it is known."""
    headers = {"X-Total-Count": str(data.total)} if isinstance(data, Chunks) else {}
    etag = _etag_of_ended(data, request)
    if etag is not None and _known(etag, request):
        return Response(None, 304, {"ETag": etag})
    pieces = _joined(encoded(data))
    head: list[bytes] = []
    while sum(map(len, head)) <= WHOLE_BYTES:
        piece = next(pieces, None)
        if piece is None:
            return document(b"".join(head), JSON, request, headers, etag)
        head.append(piece)
    if etag is not None:
        headers["ETag"] = etag
    rest = iter(()) if request.method == "HEAD" else itertools.chain(head, pieces)
    return StreamingResponse(_in_turn(rest, turns.parts), 200, headers, JSON)


async def _in_turn(pieces: Iterator[bytes], turn: asyncio.Semaphore) -> AsyncIterator[bytes]:
    while True:
        async with turn:
            piece = await run_in_threadpool(next, pieces, None)
        if piece is None:
            return
        yield piece


def document(
    body: bytes,
    media_type: str,
    request: Request,
    headers: Mapping[str, str] | None = None,
    etag: str | None = None,
) -> Response:
    """``body`` with an ETag; 304 when the client has it already."""
    if request.method not in READING:
        return Response(body, 200, headers, media_type)
    etag = etag or f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    if _known(etag, request):
        return Response(None, 304, {"ETag": etag})
    return Response(body, 200, {**(headers or {}), "ETag": etag}, media_type)


def _etag_of_ended(data: Any, request: Request) -> str | None:
    """Of a job that has ended: its counts follow whatever still happens to its requests (late answers)."""
    if request.method not in READING or not isinstance(data, dict) or data.get("finishedAt") is None:
        return None
    said = {key: value for key, value in data.items() if key not in ("requests", "collection")}
    state = jsoncodec.encode(said) + b"?" + request.scope["query_string"]
    return f'W/"{hashlib.sha256(state).hexdigest()[:32]}"'


def _known(etag: str, request: Request) -> bool:
    """Whether the client has this; compared weakly, as RFC 9110 has it for If-None-Match."""
    given = request.headers.get("if-none-match", "")
    plain = etag.removeprefix("W/")
    return any(one.strip().removeprefix("W/") in (plain, "*") for one in given.split(","))


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PIECE_BYTES: no more than that of a long answer is on its way."""
    kept = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while len(kept) + len(rest) >= PIECE_BYTES:
            room = PIECE_BYTES - len(kept)
            yield bytes(kept) + rest[:room]
            kept.clear()
            rest = rest[room:]
        kept += rest
    yield bytes(kept)


async def _raw(request: Request) -> bytearray:
    """The body, in memory once."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
    return raw


def _body(raw: bytearray, request: Request, most_values: int) -> Any:
    """The JSON in the body, with the header ``Idempotency-Key`` as its ``key``; ``raw`` is empty after that.

    Raises Invalid, Conflict; TooLarge: as objects in memory it would be many times its size.
    """
    values = jsoncodec.values(raw)
    if values > most_values:
        raise TooLarge(
            f"The body has {values} commas and opening brackets and {most_values} are the most: split it."
        )
    try:
        body = jsoncodec.decode_body(raw)
    except jsoncodec.Uncarriable:  # NaN and the like: what checks the body says where
        body = jsoncodec.decode_loosely(raw)
    except ValueError as error:
        raise Invalid([Fault("", f"expected JSON as the body, but it cannot be read: {error}")]) from None
    finally:
        raw.clear()
    key = request.headers.get("idempotency-key")
    if key is None or request.method != "POST" or not isinstance(body, dict):
        return body
    if not (key.isascii() and key.isprintable()):
        raise Invalid([Fault("key", "expected printable ASCII in the header Idempotency-Key")])
    if body.get("key") not in (None, key):
        raise Conflict("Expected the same key in the body and in the header Idempotency-Key, got two.")
    return {**body, "key": key}
