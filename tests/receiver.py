"""A real HTTP server for webhooks that fails, hangs and comes back; foreign packages check what it gets."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from standardwebhooks import Webhook

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Got(NamedTuple):
    """A request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """Its ``webhook-id``."""
        return self.headers["webhook-id"]

    def checked(self, secret: str = SECRET) -> dict[str, Any]:
        """Its CloudEvent as a dict, once both packages have found it in order."""
        Webhook(secret).verify(self.body, dict(self.headers))
        message = HTTPMessage(dict(self.headers), self.body)
        event = from_structured(message, JSONFormat(), CloudEvent)
        assert event.get_id() == self.id
        found: dict[str, Any] = json.loads(self.body)
        assert event.get_data() == found["data"]
        return found


#: The status to answer with, and headers; None: the connection ends without an answer.
Answer = Callable[[Got], tuple[int, Mapping[str, str]] | None]


class Receiver:
    """Listens on a port that it keeps while it is ``down``, too. Answers 204, until told otherwise."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.answer: Answer = lambda _: (204, {})
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        #: The files of a certificate and its key, for TLS; None: without.
        self.certificate: tuple[Path, Path] | None = None
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?team=ops"

    def up(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    return  # whoever sent it was killed meanwhile
                got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                answer = receiver.answer(got)
                receiver._note(got)
                if answer is not None:
                    self.send_response(answer[0])
                    for name, value in answer[1].items():
                        self.send_header(name, value)
                    self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _note(self, got: Got) -> None:
        with self._changed:
            self.got.append(got)
            self._changed.notify_all()

    def wait(self, count: int, timeout_s: float = 30) -> list[Got]:
        """Wait until so many requests came. Returns all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, timeout_s), self.got
            return list(self.got)

    def file(self, directory: Path, *, name: str = "ops", all_jobs: bool = False) -> Path:
        """A file for PUPPETMASTER_WEBHOOKS that names this."""
        return hooks_file(directory, [{"name": name, "url": self.url, "secret": SECRET, "all": all_jobs}])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def hooks_file(directory: Path, hooks: Iterable[Mapping[str, Any]]) -> Path:
    """A file of webhooks."""
    file = directory / "webhooks.json"
    file.write_text(json.dumps(list(hooks)))
    file.chmod(0o600)
    return file
