"""An HTTP server that answers what a test tells it to, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from puppetmaster import ranges
from puppetmaster.cli.client import Client


class Asked(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


class Reply(NamedTuple):
    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = {}


#: ``None``: the connection ends without an answer.
Answers = Callable[[Asked], Reply | None]


class FakeServer:
    """Answers with ``answer``, which a test may set; bytes go out as they are, the rest as JSON."""

    def __init__(self, answer: Answers | None = None) -> None:
        self.answer: Answers = answer or (lambda asked: Reply({"message": "nothing here"}, 404))
        self.asked: list[Asked] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # it writes head and body apart, and the latter would wait 40 ms

            def _any(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = Asked(self.command, self.path, dict(self.headers), json.loads(raw) if raw else None)
                server.asked.append(asked)
                reply = server.answer(asked)
                if reply is None:
                    self.close_connection = True
                    return
                raw_body = isinstance(reply.body, bytes)
                body = reply.body if raw_body else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
                for name, value in {**headers, **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.status != 304:
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - as http.server has them

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as http.server has it
                pass

        self._clients: list[Client] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._serve, name="fake-http", daemon=True)

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.005)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def client(self, path: str = "", **options: Any) -> Client:
        """A client of this server, closed with it."""
        client = Client(self.url + path, **options)
        self._clients.append(client)
        return client

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def always(reply: Reply) -> Answers:
    """The same answer to whatever is asked."""
    return lambda asked: reply


COUNTS = ("pending", "sent", "resolved", "error", "timeout", "unknown", "canceled", "skipped")


def job(status: str = "resolved", job_id: int = 7, **counts: int) -> dict[str, Any]:
    """A job object whose counts are those given."""
    all_counts = {**dict.fromkeys(COUNTS, 0), **counts}
    total = sum(all_counts.values())
    done = total - all_counts["pending"] - all_counts["sent"]
    open_job = status in ("pending", "dispatching", "paused")
    return {
        "id": job_id,
        "name": None,
        "summary": "post /system/reboot",
        "key": None,
        "parent": None,
        "createdAt": "2026-01-02T03:04:05.678Z",
        "startedAt": None if status == "pending" else "2026-01-02T03:04:05.678Z",
        "finishedAt": None if open_job else "2026-01-02T03:05:05.678Z",
        "status": status,
        "reason": None,
        "reasonCode": None,
        "ending": None,
        "progress": done * 100 // max(1, total),
        "totalCount": total,
        "doneCount": done,
        "finishCount": all_counts["resolved"],
        "errorCount": done - all_counts["resolved"],
        "counts": all_counts,
        "requests": [],
    }


def request(
    destination: str, status: str = "error", request_id: int = 2**31, **result: Any
) -> dict[str, Any]:
    """A request object with this result."""
    about = {"destination": destination, "status": status, "why": None, "attempts": 1, "result": result}
    return {
        "id": request_id,
        "job": 7,
        "method": "post",
        "resource": "/system/reboot",
        "data": {},
        "__request": about,
    }


def group(to: list[str], status: str = "resolved", step: str | None = None, **result: Any) -> dict[str, Any]:
    """A group of equal results of these destinations."""
    about = {"count": len(to), "status": status, "code": result.get("code"), "destinations": ranges.fold(to)}
    return {**about, "sample": {"request": 1, "result": result}, **({} if step is None else {"step": step})}
