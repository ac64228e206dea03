"""An MQTT broker on 127.0.0.1: mosquitto when installed, else amqtt, with the configuration this work wants.

``python -m sandbox.broker [--kind mosquitto|amqtt|rabbitmq] [--port N]`` runs one in the foreground.
``SANDBOX_BROKER=rabbitmq`` takes RabbitMQ wherever no kind is named.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Literal, Self, cast, get_args

from sandbox import rabbitmq
from sandbox.process import Process, ProcessError, Started, free_port

Kind = Literal["mosquitto", "amqtt", "rabbitmq"]
HOST = "127.0.0.1"
CURES = {
    "mosquitto": "apt install mosquitto",
    "amqtt": "pip install -r sandbox/requirements.txt",
    "rabbitmq": "apt install rabbitmq-server",
}

START_S = 15.0

# Why: without the first each request that is alone on the bus waits 44 ms or more for a delayed
# acknowledgement; with the default limits mosquitto 2.0.11 drops what a receiver is more than about 1,000
# messages behind, and QoS 2 publishes beyond 20 unfinished handshakes, without a word to anybody.
TUNING = """\
set_tcp_nodelay true
max_inflight_messages 0
max_queued_messages 0
"""


class Broker(Started):
    """A broker as a child process, on a port that stays the same over restarts.

    Args:
        kind: "mosquitto", "amqtt" or "rabbitmq"; None takes mosquitto when it is installed, else amqtt.
        port: None takes a free one.
        tuned: False gives a mosquitto with nothing set but its listener, anonymous clients and no files: it
            behaves as an untouched installation does. So it is with rabbitmq. amqtt knows none of these.
        config: more lines for mosquitto.conf, such as a bridge, or for rabbitmq.conf.

    All kinds keep the session of a client that connected with clean_session=False, its subscriptions and the
    QoS 1 and 2 messages that arrive while it is away, in memory: for as long as the broker lives.

    Raises:
        ProcessError: the kind is not installed.
    """

    host = HOST

    def __init__(
        self, kind: Kind | None = None, port: int | None = None, *, tuned: bool = True, config: str = ""
    ) -> None:
        self.kind: Kind = kind or default()
        if not self.available(self.kind):
            raise ProcessError(f"expected {self.kind} to be installed, it is not; {CURES[self.kind]}")
        self.port = port or free_port()
        self.tuned = tuned
        self.config = config
        self._process: Process | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @staticmethod
    def available(kind: Kind) -> bool:
        """Return whether this kind of broker is installed."""
        if kind == "mosquitto":
            return _mosquitto() is not None
        if kind == "rabbitmq":
            return rabbitmq.program() is not None
        return importlib.util.find_spec("amqtt") is not None

    @property
    def process(self) -> Process:
        """The child process; ProcessError before the first start."""
        if self._process is None:
            raise ProcessError("the broker was never started; call start() first")
        return self._process

    def start(self, timeout_s: float | None = None) -> Self:
        """Start the broker and return once it accepts a TCP connection.

        Raises:
            ProcessError: the port is in use, the broker ended, or it did not accept a connection in time.
        """
        if self._process is not None and self._process.running:
            raise ProcessError(f"the broker runs already on port {self.port}; stop() it first")
        if self._accepts():
            raise ProcessError(f"expected port {self.port} to be free, it is in use; choose another one")
        limit_s = timeout_s or (rabbitmq.START_S if self.kind == "rabbitmq" else START_S)
        deadline = time.monotonic() + limit_s
        self._forget()
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-broker-", ignore_cleanup_errors=True)
        self._process = self._new_process(Path(self._folder.name))
        self._process.start(limit_s)
        while not self._accepts():
            if not self._process.running or time.monotonic() > deadline:
                self._process.kill()
                last = "\n  ".join(self._process.output()[-15:])
                raise ProcessError(
                    f"expected {self.kind} to listen on {self.host}:{self.port} within {limit_s:g} s, "
                    f"it does not; its last lines were:\n  {last}"
                )
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End the broker in good order; its sessions are forgotten. Stopping a stopped one is no error."""
        if self._process is not None:
            self._process.terminate()
        self._forget()

    def _forget(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def kill(self) -> None:
        """End the broker as a power cut would (SIGKILL)."""
        self.process.kill()

    def restart(self) -> None:
        """Stop the broker and start it again on the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let the broker hang: connections stay open, nothing moves."""
        self.process.pause()

    def resume(self) -> None:
        """Let a paused broker run on."""
        self.process.resume()

    def _accepts(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _new_process(self, folder: Path) -> Process:
        """Return the child to start; what it has on disk goes into `folder`."""
        if self.kind == "amqtt":
            options = ("--kind", "amqtt", "--port", self.port)
            return Process.module("amqtt", "sandbox.broker", *options, ready="broker ready")
        if self.kind == "rabbitmq":
            return rabbitmq.process(self.port, folder, tuned=self.tuned, config=self.config)
        lines = f"listener {self.port} {self.host}\nallow_anonymous true\npersistence false\n"
        if os.geteuid() == 0:
            # Changing to another user, as mosquitto does by default, makes Linux forget that it dies with us.
            lines += "user root\n"
        config = folder / "mosquitto.conf"
        config.write_text(lines + (TUNING if self.tuned else "") + self.config)
        return Process("mosquitto", [_mosquitto() or "mosquitto", "-c", str(config)])


def default() -> Kind:
    """The kind that is taken when none is named."""
    if os.environ.get("SANDBOX_BROKER") == "rabbitmq":
        return "rabbitmq"
    return "mosquitto" if Broker.available("mosquitto") else "amqtt"


def _mosquitto() -> str | None:
    """Return the path of the mosquitto program; Debian keeps it in /usr/sbin, which is not on every PATH.

    None with ``SANDBOX_BROKER=amqtt``: as where it is not installed.
    """
    if os.environ.get("SANDBOX_BROKER") == "amqtt":
        return None
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


async def _serve_amqtt(port: int) -> None:
    """Run amqtt in this process until SIGINT or SIGTERM."""
    from amqtt.broker import Broker as Amqtt

    # amqtt wants a plugin that lets clients in. Its AnonymousAuthPlugin would also drop what arrives for a
    # client with a persistent session while it is away; the base class lets everybody in and keeps it.
    plugins: dict[str, dict[str, object]] = {"amqtt.plugins.base.BaseAuthPlugin": {}}
    server = Amqtt({"listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}}, "plugins": plugins})
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await server.start()
    _say_ready("amqtt", port)
    await ended.wait()
    with contextlib.suppress(TimeoutError):  # on Python 3.12 it may wait for connections that stay open
        await asyncio.wait_for(server.shutdown(), 1)


def _serve_child(kind: Kind, port: int, *, tuned: bool) -> None:
    """Run a broker that is a program as a child until SIGINT, SIGTERM or its end."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        with Broker(kind, port, tuned=tuned) as broker:
            _say_ready(broker.kind, broker.port)
            broker.process.wait()
            raise SystemExit(
                "\n".join([f"{kind} ended by itself; its last lines were:", *broker.process.output()])
            )
    except KeyboardInterrupt:
        pass


def _say_ready(kind: Kind, port: int) -> None:
    print(f"broker ready on {HOST}:{port} ({kind})", flush=True)


def main() -> None:
    """Run a broker in the foreground."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.broker", description="An MQTT broker on 127.0.0.1."
    )
    parser.add_argument(
        "--kind", choices=get_args(Kind), help="default: mosquitto when installed, else amqtt"
    )
    parser.add_argument("--port", type=int, default=1883, help="default: 1883")
    parser.add_argument(
        "--default", action="store_true", help="leave the broker as an untouched installation has it"
    )
    options = parser.parse_args()
    kind = cast(Kind, options.kind or default())
    if not Broker.available(kind):
        parser.error(f"the broker {kind} is not installed")
    if kind == "amqtt":
        asyncio.run(_serve_amqtt(options.port))
    else:
        _serve_child(kind, options.port, tuned=not options.default)


if __name__ == "__main__":
    main()
