"""Who may come in, tried from outside: token, Origin, Host, limits, slow clients, TLS, addresses."""

import asyncio
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from puppetmaster.app import App
from puppetmaster.errors import SettingsError, Unavailable
from puppetmaster.http.keys import Keys
from puppetmaster.http.protocols import HEADER_LIMIT_BYTES
from puppetmaster.http.security import SMALL_BYTES, Room, Security, _Body
from puppetmaster.http.server import SURPLUS, Address, address
from puppetmaster.settings import Settings
from tests.web_client import Bundle, Door, Told, batch, heavy, many, received, running

TOKEN = "correct-horse-battery-staple"
JOB = json.dumps(batch("a")).encode()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("locked"), token=TOKEN) as started:
        yield started


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Waits 0.3 s for slow clients, and takes small bodies only. No test makes it keep anything."""
    with running(tmp_path_factory.mktemp("hasty"), http_timeout_s=0.3, body_limit_bytes=2048) as started:
        yield started


def refused_socket(door: Door, path: str, **options: Any) -> tuple[int, Any]:
    with pytest.raises(InvalidStatus) as refused, door.watch(path, **options):
        pass
    body = refused.value.response.body
    return refused.value.response.status_code, json.loads(body) if body else None


# -- the token ------------------------------------------------------------------------------------


def test_nothing_but_the_page_is_shown_without_the_token(locked: Door) -> None:
    for method, path in (
        ("GET", "/jobs"),
        ("GET", "/jobs/1"),
        ("POST", "/jobs"),
        ("PUT", "/jobs/1"),
        ("DELETE", "/jobs/1"),
        ("GET", "/requests"),
        ("GET", "/system/puppetmaster"),
        ("GET", "/metrics"),
        ("GET", "/health"),
        ("GET", "/openapi.json"),
        ("GET", "/nothing"),
        ("GET", "/static"),
        ("GET", "/jobs/static/"),
        ("POST", "/"),
    ):
        answer = locked.ask(method, path, JOB)
        assert (answer.status, list(answer.json)) == (401, ["message"]), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert locked.ask("GET", "/").status == 200
    assert locked.ask("GET", "/static/index.html").status == 200
    assert locked.ask("HEAD", "/static/app.js").status == 200


@pytest.mark.parametrize("name", ["token", "access_token", "authorization"])
def test_a_token_in_the_url_opens_nothing(locked: Door, name: str) -> None:
    assert locked.ask("GET", f"/jobs?{name}={TOKEN}").status == 401
    assert refused_socket(locked, f"/jobs/ws?{name}={TOKEN}")[0] == 401


def test_a_websocket_needs_the_token_in_a_header_or_as_a_subprotocol(locked: Door) -> None:
    status, body = refused_socket(locked, "/jobs/ws")
    assert (status, list(body)) == (401, ["message"])
    wrong = [Subprotocol("puppetmaster"), Subprotocol("token.wrong")]
    assert refused_socket(locked, "/jobs/ws", subprotocols=wrong)[0] == 401
    right = [Subprotocol("puppetmaster"), Subprotocol(f"token.{TOKEN}")]
    with locked.watch("/jobs/ws", subprotocols=right) as watching:
        assert watching.subprotocol == "puppetmaster"
    with locked.watch("/jobs/ws", additional_headers={"Authorization": f"Bearer {TOKEN}"}) as watching:
        assert watching.subprotocol is None


# -- other origins, other names -------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost"])
def test_a_page_of_another_origin_may_not_write_nor_watch(shared: Door, origin: str) -> None:
    for method, path in (("POST", "/jobs"), ("PUT", "/jobs/1"), ("DELETE", "/jobs/1"), ("POST", "/requests")):
        assert shared.ask(method, path, JOB, Origin=origin).status == 403
    assert refused_socket(shared, "/jobs/ws", origin=origin)[0] == 403
    assert shared.ask("GET", "/jobs").json == []


def test_our_own_page_may(door: Door) -> None:
    assert door.ask("POST", "/jobs", JOB, Origin=door.url).status == 200
    with door.watch("/jobs/1/ws", origin=door.url) as watching:
        assert json.loads(watching.recv(timeout=10))["id"] == 1


def test_what_a_browser_says_of_the_asker_counts(door: Door) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        assert door.ask("POST", "/jobs", JOB, Sec_Fetch_Site=site).status == status


# -- the guard alone ------------------------------------------------------------------------------


def passed(scope: Mapping[str, Any], **settings: Any) -> Told:
    """What is answered to a request that has no body; 200 by what is behind the guard."""

    async def behind(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    told, wanted = Told(), Settings(**settings)
    told.by(Security(behind, wanted, Keys(wanted)), **scope)
    return told


LOCAL = (b"host", b"localhost")
NAMED = {"http": "Gateway.Example:8700"}
OURS = {"http_names": "gateway.example, other.example"}


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        *[({}, ours, 200) for ours in ("localhost", "LOCALHOST:8700", "127.0.0.1:8700", "192.168.1.5")],
        *[({}, ours, 200) for ours in ("[::1]", "[::1]:8700")],
        *[({}, f"{evil}evil.example", 403) for evil in ("", "localhost.", "127.0.0.1.")],
        ({}, "evil.example:8700", 403),
        ({}, "", 403),
        *[(NAMED, f"gateway.example{port}", 200) for port in ("", ":8700")],
        (NAMED, "GATEWAY.example:80", 200),
        (NAMED, "Gateway.Example:8700.evil", 200),  # what is no port is none of a name
        *[(NAMED, evil, 403) for evil in ("8700", "gateway.example.evil:8700", "gateway", ":8700")],
        (NAMED, "[fe80::1]", 200),
        (NAMED, "[fe80::1", 403),
        *[(OURS, f"{ours}.example:80", 200) for ours in ("gateway", "other")],
        (OURS, "third.example", 403),
    ],
)
def test_a_name_that_is_not_ours_is_refused(settings: dict[str, str], host: str, status: int) -> None:
    """Ours are those of this machine, that on which HTTP is answered, and what the settings add."""
    told = passed({"headers": [(b"host", host.encode())]}, **settings)
    assert told.status == status
    assert status == 200 or b"Host" in told.pieces[0]


@pytest.mark.parametrize(
    ("method", "lines", "headers"),
    [
        ("GET", [LOCAL], {"cache-control": "no-cache", "connection": None}),
        ("HEAD", [LOCAL], {"cache-control": "no-cache", "connection": None}),
        ("GET", [(b"host", b"evil")], {"connection": "close"}),
        ("DELETE", [LOCAL], {"cache-control": "no-store", "connection": None}),
        ("POST", [LOCAL, (b"content-length", b"2")], {"cache-control": "no-store", "connection": "close"}),
        ("POST", [LOCAL, (b"transfer-encoding", b"chunked")], {"connection": "close"}),
    ],
)
def test_headers_of_every_answer(method: str, lines: list[Any], headers: dict[str, str | None]) -> None:
    """A body that nobody has read would be taken for the next request. Who is refused is not asked again."""
    found = passed({"method": method, "headers": lines}).headers
    assert {name: found.get(name) for name in headers} == headers
    assert found["x-frame-options"] == "DENY"


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
def test_the_size_of_all_headers_is_limited(more: int, status: int) -> None:
    """Path, query and each line with what is between its parts and at its end."""
    lines = [LOCAL, (b"x", b"")]
    size = len(b"/jobs") + len(b"q=1") + len(b"host: localhost\r\n") + len(b"x: \r\n")
    lines[1] = (b"x", b"y" * (HEADER_LIMIT_BYTES - size + more))
    assert passed({"headers": lines, "query_string": b"q=1"}).status == status


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 401),
        ([(b"authorization", b"Bearer " + TOKEN.encode())], 200),
        ([(b"authorization", b"bearer  " + TOKEN.encode() + b" ")], 200),
        ([(b"authorization", b"Basic " + TOKEN.encode())], 401),
        ([(b"authorization", TOKEN.encode())], 401),
        ([(b"authorization", b"Bearer " + TOKEN.encode() + b"x")], 401),
        ([(b"authorization", b"Bearer " + TOKEN[:-1].encode())], 401),
        ([(b"authorization", b"Bearer " + TOKEN.upper().encode())], 401),
        *[([(b"authorization", odd)], 401) for odd in (b"", b"Bearer", b"Bearer ", b"Bearer \xe9")],
    ],
)
def test_who_shows_the_token_is_let_in(lines: list[Any], status: int) -> None:
    told = passed({"headers": [LOCAL, *lines]}, token=TOKEN)
    assert told.status == status
    assert ("www-authenticate" in told.headers) == (status == 401)


# -- limits ---------------------------------------------------------------------------------------


def head(door: Door, method: str = "POST", path: str = "/jobs", *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: localhost:{door.port}", *lines, "", ""]).encode()


def test_one_large_body_is_read_at_a_time_and_small_ones_pass(tmp_path: Path) -> None:
    large = json.dumps(batch("b", name="n" * 200_000)).encode()
    with running(tmp_path, body_limit_bytes=250_000) as door:
        length = f"Content-Length: {len(large)}"
        lines = head(door, "POST", "/jobs", length)
        with door.raw(lines, large[:150_000]) as first, door.raw(lines, large) as second:
            assert door.ask("POST", "/jobs", batch("a")).status == 200
            second.setblocking(False)
            with pytest.raises(BlockingIOError):
                second.recv(1)
            second.setblocking(True)
            first.close()
            assert second.recv(12) == b"HTTP/1.1 400"


def test_a_body_of_unknown_length_waits_for_room_once_it_is_large(tmp_path: Path) -> None:
    piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with running(tmp_path, body_limit_bytes=250_000) as door:
        lines = head(door, "POST", "/jobs", "Transfer-Encoding: chunked")
        with door.raw(lines, piece, piece) as first, door.raw(lines, b"2\r\n{}\r\n0\r\n\r\n") as small:
            assert small.recv(12) == b"HTTP/1.1 400"
            with door.raw(lines, piece, piece, b"0\r\n\r\n") as second:
                assert door.ask("GET", "/jobs").status == 200
                first.close()
                assert second.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize(("size", "waits"), [(SMALL_BYTES, False), (SMALL_BYTES + 1, True)])
def test_of_a_large_body_nothing_is_read_before_there_is_room(size: int, waits: bool) -> None:
    async def story() -> None:
        room, read = Room(size), list[int]()
        await room.take(size, 60)

        async def receive() -> Message:
            read.append(size)
            return {"type": "http.request", "body": b" " * size}

        body = _Body(receive, Headers({"content-length": str(size)}), size, 60, room)
        reading = asyncio.create_task(body.receive())
        for _ in range(5):
            await asyncio.sleep(0)
        assert (not read) == waits
        room.give(size)
        assert (await reading)["body"] == b" " * size
        assert body.complete
        for _ in range(2):
            body.end()
        assert await room.take(size, 0.001) == size
        with pytest.raises(Unavailable):
            await room.take(1, 0)

    asyncio.run(story())


def test_room_is_given_in_turn_and_refused_in_time() -> None:
    async def story() -> None:
        room, order = Room(10), list[str]()

        async def comes(name: str, size: int) -> int:
            taken = await room.take(size, 60)
            order.append(name)
            return taken

        assert await room.take(8, 60) == 8
        waiting = [asyncio.create_task(comes(name, size)) for name, size in (("a", 99), ("b", 1), ("c", 2))]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="try again later"):
            await room.take(1, 0)
        assert order == []
        waiting[2].cancel()
        room.give(8)
        assert await waiting[0] == 10
        assert order == ["a"]
        room.give(10)
        assert await waiting[1] == 1
        assert await room.take(9, 0.001) == 9

    asyncio.run(story())


PIECE = b"400\r\n" + b" " * 1024 + b"\r\n"


@pytest.mark.parametrize(
    ("asked", "line", "parts", "status"),
    [
        ("POST /jobs", "Content-Length: 4096", [], b"413"),  # before it comes
        ("POST /jobs", "Transfer-Encoding: chunked", [PIECE] * 3, b"413"),  # once it is too long
        ("POST /jobs", "Content-Length: 100", [b'{"batch"'], b"408"),  # the rest does not come
        ("GET /jobs/1", "Content-Length: 1000", [], b"404"),  # nobody reads it
        ("DELETE /jobs/1", "Content-Length: 1000", [], b"404"),
    ],
)
def test_a_body_that_is_not_read_ends_the_connection(
    hasty: Door, asked: str, line: str, parts: list[bytes], status: bytes
) -> None:
    answer = hasty.answered(head(hasty, *asked.split(), line), *parts)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer.lower()
    assert b'{"message":' in answer
    assert hasty.ask("GET", "/jobs").json == []


@pytest.mark.parametrize(
    ("target", "lines", "most"),
    [
        ("/jobs", [f"X-Long: {'x' * (HEADER_LIMIT_BYTES * 2)}"], HEADER_LIMIT_BYTES + 1000),
        ("/jobs", ["X: y" * 3] * 8000, HEADER_LIMIT_BYTES + 1000),
        ("/jobs", [f"X-Long: {'x' * HEADER_LIMIT_BYTES}"], None),
        ("/jobs", ["X: yyyyyyy"] * 2000, None),
        (f"/jobs?name={'x' * HEADER_LIMIT_BYTES}", [], None),
        (f"/{'x' * HEADER_LIMIT_BYTES}", [], None),
    ],
)
def test_headers_beyond_the_limit_are_refused_complete_or_not(
    shared: Door, target: str, lines: list[str], most: int | None
) -> None:
    answer = shared.answered(head(shared, "GET", target, *lines)[:most])
    assert answer.startswith(b"HTTP/1.1 431")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["message"].startswith("The headers are too large")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"nonsense\r\n\r\n", "illegal request line."),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "illegal request line."),
        (b"GET /jobs HTTP/1.1\r\n\r\n", "Missing mandatory Host: header."),
        (b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + b"\0" * 9999 + b"\r\n\r\n", ""),
    ],
)
def test_what_is_not_http_is_answered_in_json(hasty: Door, sent: bytes, said: str) -> None:
    answer = hasty.answered(sent)
    assert answer.startswith(b"HTTP/1.1 400")
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["message"]
    assert message.startswith(f"Expected HTTP/1.1, but it cannot be read: {said}")
    assert len(message) < 200


def test_a_body_that_breaks_off_while_it_is_refused_is_answered_once(
    shared: Door, caplog: pytest.LogCaptureFixture
) -> None:
    broken = b"POST /jobs HTTP/1.1\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n"
    assert shared.answered(broken).count(b"HTTP/1.1 4") == 1
    assert shared.ask("GET", "/jobs").status == 200  # what was left to do for the first is done
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", ["/jobs", "/health"])
def test_a_method_that_is_very_long_is_shown_by_its_beginning(shared: Door, path: str) -> None:
    answer = shared.ask("A" * 5000, path)
    assert (answer.status, len(answer.json["message"]) < 200) == (405, True)


def test_a_websocket_that_talks_too_much_is_closed(shared: Door) -> None:
    with shared.watch("/jobs/ws") as watching:
        watching.send("x" * 5000)
        assert watching.recv_bufsize is not None
        watching.close_timeout = 10
        with pytest.raises(Exception, match="1009"):
            watching.recv(timeout=10)


def test_connections_beyond_the_limit_are_turned_away(tmp_path: Path) -> None:
    with running(tmp_path, http_connections=2) as door:
        with door.watch("/jobs/ws") as first, door.watch("/jobs/ws") as second:
            for one in (first, second):
                assert one.ping().wait(10)
            answer = door.ask("GET", "/jobs")
            assert (answer.status, list(answer.json)) == (503, ["message"])
        while (status := door.ask("GET", "/jobs").status) == 503:
            pass
        assert status == 200


def test_connections_far_beyond_the_limit_are_closed_at_once(tmp_path: Path) -> None:
    with running(tmp_path, http_connections=2) as door, ExitStack() as stack:
        crowd = [stack.enter_context(door.raw()) for _ in range(2 + SURPLUS)]
        late = stack.enter_context(door.raw())
        with suppress(ConnectionResetError):
            assert received(late) == b""
        for one in crowd:
            one.close()
        while True:
            with suppress(OSError, HTTPException):
                if door.ask("GET", "/jobs").status == 200:
                    break


# -- slow clients ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"GET /jobs HT", b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n"])
def test_headers_that_do_not_come_end_the_connection(hasty: Door, sent: bytes) -> None:
    assert hasty.answered(sent) == b""


def test_headers_that_trickle_end_the_connection_too(hasty: Door) -> None:
    with hasty.raw(b"GET /jobs HTTP/1.1\r\n") as connection:
        connection.settimeout(0.05)
        ended = False
        for number in range(200):
            try:
                connection.sendall(f"X-{number}: y\r\n".encode())
                ended = connection.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
        assert ended


def test_an_answer_that_is_not_read_ends_the_connection(tmp_path: Path) -> None:
    with running(tmp_path, http_timeout_s=0.3) as door:
        door.ask("POST", "/jobs", heavy(*many(80)))
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with connection:
            connection.settimeout(20)
            connection.connect(("127.0.0.1", door.port))
            connection.sendall(head(door, "GET", "/jobs/1"))
            assert connection.recv(10).startswith(b"HTTP/1.1")  # before this it may not be counted yet
            assert door.app.door is not None
            while door.app.door.server.connections():
                assert door.ask("GET", "/jobs?limit=0").status == 200
            # The kernel still holds some of the answer.
            with pytest.raises((ConnectionResetError, EOFError)):
                whole(connection)


def test_who_is_still_sending_or_reads_nothing_does_not_keep_it_from_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as kept:
        with running(tmp_path) as door:
            door.ask("POST", "/jobs", heavy(*many(80)))
            sending = kept.enter_context(
                door.raw(head(door, "POST", "/jobs", "Content-Length: 100"), b'{"batch"')
            )
            reading = kept.enter_context(door.raw(head(door, "GET", "/jobs/1")))
            assert reading.recv(10).startswith(b"HTTP/1.1")
            waiting = kept.enter_context(door.raw(b"GET /jobs HTTP/1.1\r\n"))
            while not door.app.door or door.app.door.server.connections() < 3:
                assert door.ask("GET", "/jobs?limit=0").status == 200
        answer = received(sending)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Puppetmaster is stopping: try again later." in answer
        with suppress(ConnectionResetError):  # the kernel still holds some of the answer
            assert not received(reading).endswith(b"0\r\n\r\n")
        with suppress(ConnectionResetError):
            assert received(waiting) == b""
    assert [line for line in caplog.text.splitlines() if "ERROR" in line or "Traceback" in line] == []


def whole(connection: socket.socket) -> None:
    if not received(connection).endswith(b"0\r\n\r\n"):
        raise EOFError


# -- headers, addresses, TLS ----------------------------------------------------------------------


def test_every_answer_keeps_a_browser_from_harm(shared: Door) -> None:
    for path, status in (("/", 200), ("/jobs", 200), ("/jobs/9", 404), ("/nothing", 404)):
        answer = shared.ask("GET", path)
        assert answer.status == status
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("127.0.0.1:8700", ("127.0.0.1", 8700)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8700", ("::1", 8700)),
        ("127.9.9.9:1", ("127.9.9.9", 1)),
        ("off", None),
    ],
)
def test_a_loopback_address_needs_no_token(given: str, found: tuple[str, int] | None) -> None:
    assert address(Settings(http=given)) == (Address(*found) if found else None)


@pytest.mark.parametrize("given", ["0.0.0.0:8700", "[::]:8700", "192.168.1.5:8700", "gateway.example:8700"])
def test_any_other_address_needs_a_token(given: str) -> None:
    with pytest.raises(SettingsError, match="set PUPPETMASTER_TOKEN"):
        address(Settings(http=given))
    assert address(Settings(http=given, token=TOKEN)) is not None


@pytest.mark.parametrize(
    "given", ["", "8700", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "::1:8700", "a b:1"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="PUPPETMASTER_HTTP: expected address:port"):
        address(Settings(http=given))


@pytest.mark.parametrize("token", ["short", "x" * 15, "with space in the middle", "l\xe4nger als sechzehn"])
def test_a_token_that_is_too_easy_or_cannot_travel_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError, match="PUPPETMASTER_TOKEN") as refused:
        address(Settings(token=token))
    assert token not in refused.value.message


def test_a_port_that_is_taken_is_said_at_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        for _ in range(2):  # the second: the first let go of the store
            with pytest.raises(SettingsError, match=f"{where} cannot be listened on") as refused:
                App(Settings(data_dir=tmp_path, http=where), Bundle())
            assert "PUPPETMASTER_HTTP" in refused.value.message


@pytest.mark.parametrize("host", ["gateway..example", "a" * 300])
def test_no_address_has_such_a_name(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected an address and a free port") as refused:
        App(Settings(data_dir=tmp_path, http=f"{host}:0", token=TOKEN), Bundle())
    assert len(refused.value.message) < 300


def test_https_by_certificate(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with running(tmp_path, tls_cert=str(cert), tls_key=str(key)) as door:
        trusting = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("127.0.0.1", door.port, context=trusting, timeout=10)
        connection.request("GET", "/jobs")
        assert connection.getresponse().status == 200
        connection.close()
        here = f"127.0.0.1:{door.port}"
        # Two threads of this client share a connection: with TLS 1.3 it may lose what comes right at first.
        trusting.maximum_version = ssl.TLSVersion.TLSv1_2
        with connect(f"wss://{here}/jobs/ws", ssl=trusting, origin=Origin(f"https://{here}")) as watching:
            assert watching.ping().wait(10)
        plain = door.answered(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.startswith(b"HTTP/1.1 200")


def test_a_tls_handshake_that_does_not_come_ends_the_connection(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    with (
        running(tmp_path, tls_cert=str(cert), tls_key=str(key), http_timeout_s=1) as door,
        door.raw() as silent,
        door.raw(b"\x16\x03\x01") as half,
    ):
        for connection in (silent, half):
            with suppress(ConnectionResetError):
                assert received(connection) == b""


def test_half_a_certificate_is_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    with pytest.raises(SettingsError, match="expected both or none"):
        address(Settings(tls_cert=str(cert)))
    for wrong in ((cert, cert), (tmp_path / "none.pem", key)):
        with (
            pytest.raises(SettingsError, match="PUPPETMASTER_TLS_CERT: expected a certificate"),
            running(tmp_path, tls_cert=str(wrong[0]), tls_key=str(wrong[1])),
        ):
            pass
