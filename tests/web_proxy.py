"""A reverse proxy for HTTP in front of the bundle: below a path, without WebSockets, slow, or dead."""

import asyncio
import contextlib
import re
import threading
from typing import Self

from sandbox.process import free_port

HEAD = re.compile(rb"([A-Z]+) (\S+) ")
CHUNK = 65_536


class WebProxy:
    """Listens on 127.0.0.1 and passes what is below ``prefix`` to ``target``. A context manager.

    Each connection carries one request. The attributes may be changed while it runs, and hold from then on.
    """

    def __init__(self, target: int, prefix: str = "", *, websockets: bool = True) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{prefix}/"
        #: Whether WebSockets are passed on; else such a request is passed on as a plain one.
        self.websockets = websockets
        #: Method and path of each request that came and was passed on.
        self.passed: list[str] = []
        self._target = target
        self._prefix = prefix.encode()
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="web-proxy", daemon=True)
        self._ready = threading.Event()

    def hold(self) -> None:
        """Pass nothing on in either direction; connections stay open."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Pass on what was held, and what comes."""
        self._loop.call_soon_threadsafe(self._open.set)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    # -- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        self._open.set()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()
        while tasks := asyncio.all_tasks(self._loop):
            self._loop.run_until_complete(asyncio.wait(tasks))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await self._open.wait()
            if reader.at_eof():
                return  # who asked has given up
            answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(requests)
            self._writers.add(requests)
            requests.write(self._rewritten(head))
            ways = [self._pipe(reader, requests), self._pipe(answers, writer)]
            await asyncio.wait(
                [asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED
            )
        except (OSError, asyncio.IncompleteReadError):
            pass  # it has gone
        finally:
            for end in ends:
                end.close()
                self._writers.discard(end)

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()

    def _rewritten(self, head: bytes) -> bytes:
        match = HEAD.match(head)
        assert match
        method, path = match.groups()
        assert path.startswith(self._prefix + b"/"), f"{path!r} is not below {self._prefix!r}"
        short = path.removeprefix(self._prefix)
        self.passed.append(f"{method.decode()} {short.decode()}")
        head = head.replace(path, short, 1)
        if self.websockets and b"upgrade: websocket" in head.lower():
            return head
        lines = [
            line
            for line in head.removesuffix(b"\r\n\r\n").split(b"\r\n")
            if not line.lower().startswith((b"connection:", b"upgrade:", b"sec-websocket"))
        ]
        return b"\r\n".join([*lines, b"Connection: close", b"", b""])
