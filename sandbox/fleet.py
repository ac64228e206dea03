"""Simulated remote gateways on a Sanji bus, all in one process.

``python -m sandbox.fleet --to 'cg-[001-200]' --shape per-gateway --log fleet.jsonl`` registers models for
them with the controller, prints ``fleet ready``, and answers the commands that arrive, with the delays and
faults that were asked for; ``--help`` lists these. Each command that reaches a gateway is in the log before
it is answered, so a test can prove what ran, and that it ran once. When models were lost and all are
registered again it prints ``fleet ready again: 2``, then 3 and so on.

`devices.Gateways` and `registrar.Registrar` decide and know no socket and no clock; Fleet is the MQTT shell
around them: one thread, one connection, one heap of answers that are due. SIGTERM ends it and, as with other
bundles, its registrations stay behind; the next fleet of the same name replaces them.
"""

import heapq
import itertools
import json
import logging
import os
import random
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import BinaryIO, NoReturn

import paho.mqtt.client as mqtt

from sandbox import fleet_log
from sandbox.devices import Gateways, Message, Reaction
from sandbox.fleet_options import parse
from sandbox.registrar import Registrar, short_name

READY = "fleet ready"
CONTROLLER = "/controller"  # the topic on which the controller listens

_logger = logging.getLogger("sandbox.fleet")


class Fleet:
    """Carries messages between the bus, the gateways and the registrar, in the thread that calls run().

    paho is driven without its network thread: its callbacks only take notes, and the loop acts on them
    after paho has returned. So nothing is published inside a callback or with one of paho's locks held.
    """

    RECONNECT_S = 0.2
    BURST = 200  # messages taken before answers that are due get their turn

    def __init__(
        self,
        host: str,
        port: int,
        *,
        gateways: Gateways,
        registrar: Registrar,
        tunnel: str,
        log: BinaryIO,
        registrations: BinaryIO,
        qos: int,
    ) -> None:
        self._gateways = gateways
        self._registrar = registrar
        self._tunnel = tunnel
        self._log = log
        self._registrations = registrations
        self._qos = qos
        self._arrived: deque[tuple[str, bytes]] = deque()
        self._answers: list[tuple[float, int, bytes]] = []  # a heap: when, order of arrival, payload
        self._order = itertools.count()
        self._next_attempt_s = -inf  # to connect
        self._new_connection = False
        self._connected = False
        self._unacknowledged: set[int] = set()  # subscriptions
        self._ready = False
        self._times_ready = 0
        self._client = mqtt.Client()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.connect_async(host, port)

    def run(self) -> NoReturn:
        """Serve until an exception, which a signal raises, ends it."""
        while True:
            self._read_and_write()
            now_s = time.monotonic()
            if self._new_connection:
                self._begin(now_s)
            while self._arrived:
                self._take(*self._arrived.popleft())
            now_s = time.monotonic()
            while self._answers and self._answers[0][0] <= now_s:
                self._publish(heapq.heappop(self._answers)[2])
            if self._connected and (message := self._registrar.poll(now_s)) is not None:
                self._publish(_encoded(message))
            self._tell_ready()

    def _read_and_write(self) -> None:
        """Wait for the socket or for the next thing that is due, and let paho do its part."""
        client = self._client
        sock = client.socket()
        if sock is None:
            self._reconnect()
            return
        due_s = min(self._answers[0][0] if self._answers else inf, self._registrar.due_s)
        wait_s = min(max(due_s - time.monotonic(), 0), 1)
        writers = [sock] if client.want_write() else []
        readable, writable, _ = select.select([sock], writers, [], wait_s if self._connected else 1)
        if readable:
            for _ in range(self.BURST):
                before = len(self._arrived)
                client.loop_read()
                if len(self._arrived) == before:
                    break
        if writable:
            client.loop_write()
        client.loop_misc()

    def _reconnect(self) -> None:
        # To sleep here delays nothing: without a connection no answer can leave.
        time.sleep(max(self._next_attempt_s - time.monotonic(), 0))
        self._next_attempt_s = time.monotonic() + self.RECONNECT_S
        try:
            self._client.reconnect()
        except OSError as error:
            _logger.info("the broker is not there: %s", error)
        else:
            self._client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _begin(self, now_s: float) -> None:
        self._new_connection = False
        self._subscribe([self._tunnel, *self._registrar.tunnels])
        self._registrar.connected(now_s)

    def _take(self, topic: str, payload: bytes) -> None:
        now_s = time.monotonic()
        try:
            message = json.loads(payload)
            if topic == self._tunnel:
                if (tunnel := self._registrar.answered(message, now_s)) is not None:
                    self._subscribe([tunnel])
                    if (model := self._registrar.model(tunnel)) is not None:
                        self._registrations.write(fleet_log.registered(now_s, model.resources))
            elif (model := self._registrar.model(topic)) is not None:
                self._react(self._gateways.receive(model.name, message, now_s), now_s)
        except (ValueError, RecursionError) as error:
            # The controller passes JSON that is nested deeper than Python's parser goes.
            _logger.warning("dropped a message of %d bytes: %s", len(payload), error)

    def _react(self, reaction: Reaction, now_s: float) -> None:
        if reaction.command is not None:
            self._log.write(reaction.command.line())  # unbuffered: with the kernel before the answer goes
        for answer in reaction.answers:
            due = (now_s + reaction.after_s, next(self._order), _encoded(answer))
            heapq.heappush(self._answers, due)

    def _subscribe(self, topics: Sequence[str]) -> None:
        _, mid = self._client.subscribe([(topic, self._qos) for topic in topics])
        if mid is not None:
            self._unacknowledged.add(mid)

    def _publish(self, payload: bytes) -> None:
        if self._connected:  # else it is lost, as a device's answer would be
            self._client.publish(CONTROLLER, payload, qos=self._qos)

    def _tell_ready(self) -> None:
        ready = self._connected and self._registrar.complete() and not self._unacknowledged
        if ready and not self._ready:
            self._times_ready += 1
            print(READY if self._times_ready == 1 else f"{READY} again: {self._times_ready}", flush=True)
        self._ready = ready

    # The callbacks of paho, called from loop_read, loop_write and loop_misc.

    def _on_connect(self, _client: mqtt.Client, _userdata: object, _flags: object, code: int) -> None:
        self._connected = self._new_connection = code == 0

    def _on_disconnect(self, _client: mqtt.Client, _userdata: object, _code: int) -> None:
        self._connected = self._new_connection = False
        self._unacknowledged.clear()
        _logger.warning("connection to the broker lost")  # paho's code says nothing about why

    def _on_subscribe(self, _client: mqtt.Client, _userdata: object, mid: int, _granted: object) -> None:
        self._unacknowledged.discard(mid)

    def _on_message(self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        self._arrived.append((message.topic, message.payload))


def _encoded(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def main() -> None:
    """Run a fleet until SIGTERM or SIGINT."""
    options = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    # Ids begin anywhere, clear of puppetmaster's from 2^31: answers to an earlier life match nothing.
    ids = itertools.count(random.randrange(2**20, 2**30))
    tunnel = f"{short_name(options.name)}-{random.randrange(2**64):016x}"
    registrar = Registrar(
        options.models, tunnel=tunnel, ttl_s=options.ttl, watch=not options.no_watch, ids=ids
    )
    gateways = Gateways(
        options.destinations,
        faults=options.faults,
        delay_s=options.delay,
        jitter_s=options.jitter,
        rng=random.Random(options.seed),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    log, registrations = (path or Path(os.devnull) for path in (options.log, options.registrations))
    with log.open("ab", buffering=0) as lines, registrations.open("ab", buffering=0) as registered:
        fleet = Fleet(
            options.host,
            options.port,
            gateways=gateways,
            registrar=registrar,
            tunnel=tunnel,
            log=lines,
            registrations=registered,
            qos=options.qos,
        )
        fleet.run()


if __name__ == "__main__":
    main()
