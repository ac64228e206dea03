"""The HTTP door: the operations of the API as resources that translate, and decide nothing."""

import asyncio
import hashlib
import itertools
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from puppetmaster import jsoncodec
from puppetmaster.api import query
from puppetmaster.api.operations import Backend, Operation
from puppetmaster.api.pages import Chunks, encoded, has_rows
from puppetmaster.errors import (
    Conflict,
    Fault,
    Invalid,
    MethodNotAllowed,
    PuppetmasterError,
    TooLarge,
    Unavailable,
)
from puppetmaster.http.keys import caller
from puppetmaster.http.protocols import SHOWN
from puppetmaster.http.security import READING, SMALL_BYTES, prefix

log = logging.getLogger("sanji.puppetmaster.http.resources")

JSON = "application/json"
#: An answer up to this size is sent whole, with its length and an ETag of its bytes.
WHOLE_BYTES = 512 * 1024
#: Size of the pieces in which a longer answer is sent.
PIECE_BYTES = 64 * 1024
#: Most longer answers that are sent at once.
MOST_LONG = 30


class Queues(NamedTuple):
    """Semaphores for long work, so that short requests need not wait for many busy threads."""

    #: One request with a large body is carried out at a time.
    bodies: asyncio.Semaphore
    #: One part of a long answer is made at a time.
    parts: asyncio.Semaphore
    #: ``MOST_LONG`` long answers at once: each has some parts in memory until its client has read them.
    long: asyncio.Semaphore

    @classmethod
    def new(cls) -> "Queues":
        """Semaphores that are all free."""
        return cls(asyncio.Semaphore(), asyncio.Semaphore(), asyncio.Semaphore(MOST_LONG))


class Resource:
    """One path: an ASGI application that runs its operations in Starlette's threads."""

    def __init__(self, backend: Backend, operations: Mapping[str, Operation], queues: Queues) -> None:
        self._backend = backend
        self._queues = queues
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
        except PuppetmasterError as error:  # a part of a long answer has been sent: the rest is left out
            log.warning("%s %s broke off: %s", scope["method"], scope["path"], error)

    async def _send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if not isinstance(response, StreamingResponse):
            await response(scope, receive, send)
        elif self._queues.long.locked():
            text = f"{MOST_LONG} long answers are being sent, which are the most: try again later."
            await failure(Unavailable(text))(scope, receive, send)
        else:
            async with self._queues.long:
                await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        operation = self._operations.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            raise MethodNotAllowed(f"Expected {self._allow} on this resource, got {request.method[:SHOWN]}.")
        operation.admit(caller(request.scope))
        raw = await _raw(request) if operation.method in ("POST", "PUT") else None
        if raw is None or len(raw) <= SMALL_BYTES:
            return await run_in_threadpool(self._try, operation, raw, request)
        async with self._queues.bodies:
            return await run_in_threadpool(self._try, operation, raw, request)

    def _try(self, operation: Operation, raw: bytearray | None, request: Request) -> Response:
        """Run an operation, and answer its errors: an exception that left the thread would keep the body."""
        try:
            return self._run(operation, raw, request)
        except PuppetmasterError as error:
            return failure(error)

    def _run(self, operation: Operation, raw: bytearray | None, request: Request) -> Response:
        given = query.parameters(request.scope["query_string"].decode("latin-1"))
        body = None if raw is None else _body(raw, self._backend.service.most_values)
        if operation.created is not None:
            body = _with_key(body, request)
        id_ = _id(request)
        data = operation.run(self._backend, id_, given, body, caller(request.scope))
        if operation.created is not None and data["id"] is not None:
            location, job_id = operation.created(data)
            begin = BackgroundTask(self._backend.service.begin, job_id)
            where = {"Location": f"{prefix(request.headers)}{location}"}
            return Response(jsoncodec.encode(data), 200, where, JSON, begin)
        return answer(data, request, self._queues)


def failure(error: PuppetmasterError, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error of the API."""
    return Response(jsoncodec.encode(error.body()), error.status, headers, JSON)


def answer(data: Any, request: Request, queues: Queues) -> Response:
    """The answer with ``data`` as JSON: whole, with an ETag, or in pieces; 304 if the client has it."""
    if request.method not in READING and not has_rows(data):  # done already: its answer waits for nobody
        return document(jsoncodec.encode(data), JSON, request)
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
    return StreamingResponse(_in_turn(rest, queues.parts), 200, headers, JSON)


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
    """The answer with ``body`` and an ETag (None: made from the body); 304 if the client has it already."""
    if request.method not in READING:
        return Response(body, 200, headers, media_type)
    etag = etag or f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    if _known(etag, request):
        return Response(None, 304, {"ETag": etag})
    return Response(body, 200, {**(headers or {}), "ETag": etag}, media_type)


def _etag_of_ended(data: Any, request: Request) -> str | None:
    """The ETag of a job that has ended; None: ``data`` is something else.

    It is made of the job without its requests: late answers to those change the job's counts too.
    """
    if request.method not in READING or not isinstance(data, dict) or data.get("finishedAt") is None:
        return None
    counted = {key: value for key, value in data.items() if key not in ("requests", "collection")}
    state = jsoncodec.encode(counted) + b"?" + request.scope["query_string"]
    return f'W/"{hashlib.sha256(state).hexdigest()[:32]}"'


def _known(etag: str, request: Request) -> bool:
    """Whether the client has this ETag in If-None-Match, compared weakly (RFC 9110, section 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    plain = etag.removeprefix("W/")
    return any(one.strip().removeprefix("W/") in (plain, "*") for one in given.split(","))


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of ``PIECE_BYTES``, so that little of a long answer is in memory."""
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


def _id(request: Request) -> str:
    """The id in the path; empty: there is none. Raises Invalid: it is no UTF-8, and would be another one."""
    id_ = str(request.path_params.get("id", ""))
    if "\ufffd" in id_:  # in place of bytes that are no UTF-8, or as it came
        try:
            unquote_to_bytes(request.scope["raw_path"]).decode()
        except UnicodeDecodeError:
            raise Invalid([Fault("", "expected UTF-8 in the path, with % before its bytes")]) from None
    return id_


async def _raw(request: Request) -> bytearray:
    """The body of a request, without a second copy in memory."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
    return raw


def _body(raw: bytearray, most_values: int) -> Any:
    """The JSON in the body. Empties ``raw``.

    Raises:
        Invalid: the body is not JSON.
        TooLarge: the body has more than ``most_values`` values, which would take too much memory.
    """
    values = jsoncodec.values(raw)
    if values > most_values:
        raise TooLarge(
            f"The body has {values} commas and opening brackets and {most_values} are the most: split it."
        )
    try:
        return jsoncodec.decode_body(raw)
    except jsoncodec.Uncarriable:  # NaN and the like: the check of the body names the place
        return jsoncodec.decode_loosely(raw)
    except ValueError as error:
        raise Invalid([Fault("", f"expected JSON as the body, but it cannot be read: {error}")]) from None
    finally:
        raw.clear()


def _with_key(body: Any, request: Request) -> Any:
    """The body of what creates a job, with the header ``Idempotency-Key`` as its ``key``.

    Raises:
        Invalid: the header is not printable ASCII.
        Conflict: body and header have different keys.
    """
    key = request.headers.get("idempotency-key")
    if key is None or not isinstance(body, dict):
        return body
    if not (key.isascii() and key.isprintable()):
        raise Invalid([Fault("key", "expected printable ASCII in the header Idempotency-Key")])
    if body.get("key") not in (None, key):
        raise Conflict("Expected the same key in the body and in the header Idempotency-Key, got two.")
    return {**body, "key": key}
