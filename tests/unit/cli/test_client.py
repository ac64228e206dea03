"""Each thing that stands in the way of the command line has its sentence."""

import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from puppetmaster.cli.client import CREATE_ATTEMPTS, Client, Refused, Unreachable
from tests.fake_http import Asked, FakeServer, Reply, job


def ask(server: FakeServer, **options: Any) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        server.client(**options).job(7)
    return caught.value


@contextmanager
def saying(words: bytes) -> Iterator[str]:
    """A server that says this to whoever connects, and hangs up; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(words)

        thread = threading.Thread(target=serve, name="saying", daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8700", "ftp://x", "http://", "http://a:x", "http://a:99999", "http://a..b"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL such as"):
        Client(url)


def test_a_token_that_no_header_can_carry() -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        Client("http://127.0.0.1", "a\nb")


def test_nothing_listens() -> None:
    with pytest.raises(Unreachable, match=r"nothing listens there\. Start it with") as caught:
        Client(nobody()).jobs()
    assert caught.value.passing
    assert not caught.value.lost


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(Unreachable, match=r"the name gateway is not known\. Correct PUPPETMASTER_URL"):
        Client("http://gateway:8700").jobs()


def test_no_answer_in_time() -> None:
    release = threading.Event()

    def wait(asked: Asked) -> Reply | None:
        release.wait(10)
        return None

    with FakeServer(wait) as server:
        error = ask(server, timeout_s=0.1)
        release.set()
    assert "no answer within 0.1 s" in str(error)
    assert (error.passing, error.lost) == (True, True)


@pytest.mark.parametrize(
    ("words", "scheme", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "http", "without a whole answer"),
        (b"220 mail.example ESMTP\r\n", "http", "does not speak HTTP"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "https", "Is it http:// instead"),
    ],
)
def test_half_an_answer_or_another_protocol(words: bytes, scheme: str, said: str) -> None:
    with saying(words) as url, pytest.raises(Unreachable, match=said):
        Client(url.replace("http:", f"{scheme}:")).job(7)


@pytest.mark.parametrize(
    ("reply", "said", "is_so"),
    [
        (None, "ended the connection without a whole answer", {"passing", "lost"}),
        (
            Reply(b"", 301, {"Location": "https://there/"}),
            "leads to https://there/: set PUPPETMASTER_URL",
            set(),
        ),
        (Reply({"message": "known name as Host"}, 403), "does not let this in: known name as Host", set()),
        (
            Reply({"message": "It is full."}, 503),
            "cannot answer now (503): It is full. Try again.",
            {"passing"},
        ),
        (Reply({"message": "A fault."}, 500), "(500): A fault. See its log.", {"lost"}),
    ],
)
def test_what_it_answers_instead(reply: Reply | None, said: str, is_so: Collection[str]) -> None:
    with FakeServer(lambda asked: reply) as server:
        error = ask(server)
    assert said in str(error)
    assert (error.passing, error.lost) == ("passing" in is_so, "lost" in is_so)


def test_a_certificate_that_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    def untrusted(*args: Any, **kwargs: Any) -> Any:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr(socket, "create_connection", untrusted)
    with pytest.raises(Unreachable, match=r"not trusted \(self-signed certificate\). Set SSL_CERT_FILE"):
        Client("https://127.0.0.1:1").job(7)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>", headers={"Content-Type": "text/html"}),
        Reply(b"<html>", 502, {"Content-Type": "text/html"}),
        Reply({"detail": "no"}, 404),
        Reply(["a list"]),
        Reply({}),
        Reply(None),
        Reply("text", 500),
    ],
)
def test_somebody_else_answers(reply: Reply) -> None:
    with FakeServer(lambda asked: reply) as server:
        assert "answers, but not as puppetmaster does" in str(ask(server))


@pytest.mark.parametrize("body", [{}, [1], [{}], "text"])
def test_a_list_is_expected_of_a_list(body: Any) -> None:
    with FakeServer(lambda asked: Reply(body)) as server:
        client = server.client()
        asks: list[Callable[[], object]] = [
            client.jobs,
            lambda: client.requests(7),
            lambda: client.results(7, diff=False, full=False),
        ]
        for ask_for in asks:
            with pytest.raises(Unreachable, match="without a list"):
                ask_for()


def test_faults_that_are_none() -> None:
    with FakeServer(lambda asked: Reply({"message": "no", "errors": [1, {"path": 3}]}, 400)) as server:
        with pytest.raises(Refused, match="no") as caught:
            server.client().job(7)
        assert caught.value.named(lambda path: path).faults == ({"path": "3"},)


def test_a_token_is_needed() -> None:
    with FakeServer(lambda asked: Reply({"message": "needs the token"}, 401)) as server:
        assert "none was given: set PUPPETMASTER_TOKEN" in str(ask(server))
        assert "this is another one: set PUPPETMASTER_TOKEN" in str(ask(server, token="a-wrong-token"))
        assert server.asked[-1].headers["Authorization"] == "Bearer a-wrong-token"


def test_it_says_no() -> None:
    faults = [{"path": "a", "message": "b"}]
    refusal = Reply({"message": "a: b", "errors": faults}, 400)
    with FakeServer(lambda asked: refusal) as server, pytest.raises(Refused, match="a: b") as caught:
        server.client().control(7, "paused")
    assert (caught.value.status, caught.value.faults) == (400, (faults[0],))
    assert server.asked[0].body == {"status": "paused"}


def test_a_new_job_is_asked_for_again_under_its_key() -> None:
    replies = iter([None, None, Reply(job())])
    with FakeServer(lambda asked: next(replies)) as server:
        assert server.client().create({"key": "k"})["id"] == 7
    assert [asked.body for asked in server.asked] == [{"key": "k"}] * 3


@pytest.mark.parametrize(("body", "times"), [({}, 1), ({"key": "k"}, CREATE_ATTEMPTS)])
def test_a_new_job_whose_answer_is_lost(body: dict[str, Any], times: int) -> None:
    with FakeServer(lambda asked: None) as server, pytest.raises(Unreachable) as caught:
        server.client().create(body)
    assert caught.value.lost
    assert len(server.asked) == times


def test_a_kept_connection_that_has_ended_is_made_anew_for_what_changes_nothing() -> None:
    replies = iter([Reply(job()), None, Reply(job()), None])
    with FakeServer(lambda asked: next(replies)) as server:
        client = server.client()
        assert client.job(7) == client.job(7)
        with pytest.raises(Unreachable):
            client.delete(7)
    assert [asked.method for asked in server.asked] == ["GET", "GET", "GET", "DELETE"]


def test_what_is_known_is_not_sent_again() -> None:
    with FakeServer(lambda asked: Reply(b"", 304, {"ETag": 'W/"1"'})) as server:
        answer = server.client().ask("GET", "/jobs/7", etag='W/"1"')
    assert (answer.status, answer.data) == (304, None)
    assert server.asked[0].headers["If-None-Match"] == 'W/"1"'


def test_paths_and_queries() -> None:
    with FakeServer(lambda asked: Reply([], headers={"X-Total-Count": "12"})) as server:
        client = server.client("/gateway/")
        assert client.jobs(status=None, name="a b", limit=0) == ([], 12)
        client.results(7, diff=True, full=False)
    paths = [asked.path for asked in server.asked]
    assert paths == ["/gateway/jobs?name=a+b&limit=0", "/gateway/jobs/7/results?diff=true"]


def test_a_path_in_the_url_may_have_any_letters() -> None:
    with FakeServer(lambda asked: Reply([])) as server:
        server.client("/g\u00e4te a/%20/\udcff").jobs()
    assert server.asked[0].path == "/g%C3%A4te%20a/%20/%FF/jobs"


def test_a_body_that_is_refused_before_it_is_read() -> None:
    refusal = (
        b'HTTP/1.1 413 Too Large\r\nContent-Length: 23\r\nConnection: close\r\n\r\n{"message":"too large"}'
    )
    with saying(refusal) as url, pytest.raises((Refused, Unreachable)) as caught:
        Client(url).create({"batch": ["x" * 5_000_000]})
    assert caught.value.exit_code in (2, 7)  # a reset may overtake the answer
