"""A fleet as it stands in the field: each gateway has its own broker and controller, bridged to a server's.

On the server are a broker, a controller, the remote bundle and puppetmaster. What is published there under
``/<id>/controller`` reaches the gateway `<id>` over its bridge; its answer comes back to any tunnel of the
form ``/<name>/remote``. Whether a bridge is connected is retained under ``/cgs/<id>/connection_status``.

All brokers are mosquittos; `bundles` has the remote bundle and that of a gateway.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from sandbox import bundles
from sandbox.ask import ask
from sandbox.broker import Broker
from sandbox.controller import DEPENDENCY, Options, controller_process
from sandbox.gateway import Gateway
from sandbox.process import Parts, Process, ProcessError

RECONNECT_S = 1  # mosquitto counts in whole seconds

#: The bridge of the published remote bundle, but for `restart_timeout`, which mosquitto chooses otherwise.
BRIDGE = """\
connection sanji-remote-{id}
address {address}
clientid {id}
cleansession true
topic # in 2 / /{id}/
topic /+/controller out 2
topic /+/remote out 2
restart_timeout {reconnect_s}
"""
NOTIFICATIONS = """\
notifications true
notification_topic /cgs/{id}/connection_status
"""


def status_topic(gateway: str) -> str:
    """Where the server's broker keeps ``1`` while the bridge of this gateway is connected, else ``0``."""
    return f"/cgs/{gateway}/connection_status"


class BridgedGateway:
    """One gateway: a broker with a bridge to the server's, a controller, and a bundle that executes.

    Args:
        name: its id.
        server: the broker that it is bridged to.
        log: the file to which it appends each command that it executes (`fleet_log`).
        delay_s: from command to answer. Three commands are executed at a time.
        fail: the code with which it answers every command; None: as a good one does.
        notifies: False: its bridge says nothing about itself.
        tuned: as of `Broker`.
        controller: options of its controller.
        port: where its bridge finds the server's broker; None: at that one's own port.
    """

    def __init__(
        self,
        name: str,
        server: Broker,
        log: Path,
        *,
        delay_s: float = 0,
        fail: int | None = None,
        notifies: bool = True,
        tuned: bool = True,
        controller: Options | None = None,
        port: int | None = None,
    ) -> None:
        self.name = name
        self._server = server
        bridge = BRIDGE + (NOTIFICATIONS if notifies else "notifications false\n")
        address = f"{server.host}:{port or server.port}"
        config = bridge.format(id=name, address=address, reconnect_s=RECONNECT_S)
        self.broker = Broker("mosquitto", tuned=tuned, config=config)
        self.controller = controller_process(self.broker, **(controller or {}))
        options: list[object] = ["--delay", delay_s, "--log", log]
        if fail is not None:
            options += ["--fail", fail]
        self.bundle = bundle_process("device", name, self.broker, *options)
        self._parts = ExitStack()

    def on(self) -> None:
        """Start its parts, and wait until a request from the server would reach the bundle.

        Raises:
            ProcessError: it is on, a part did not start, or the bridge was not connected in time.
        """
        for part in (self.broker, self.controller, self.bundle):
            self._parts.enter_context(part)
        self.wait_until_reached()

    def off(self, *, hard: bool = True) -> None:
        """End its parts: the broker first and all at once, as a power cut does; or in good order.

        When the gateway is off already this is no error.
        """
        if hard:
            for part in (self.broker, self.bundle, self.controller):
                part.kill()
        self._parts.close()

    def wait_until_reached(self, timeout_s: float = 20) -> None:
        """Wait until a request from the server would reach the bundle.

        It asks the gateway's controller who owns a resource of the bundle; that takes no lock.

        Raises:
            ProcessError: that was not so in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            try:
                resource = f"{DEPENDENCY}?resource=/system/time"
                if ask(self._server.port, "get", resource, None, 0.5, self.name)["code"] == 200:
                    return
            except TimeoutError:
                continue
        raise ProcessError(f"expected {self.name} to be reached from the server within {timeout_s:g} s")


class BridgedFleet(Parts):
    """A server and its gateways: starts each part as a process of its own, and ends them all.

    Args:
        directory: where puppetmaster's data and the fleet's log are kept.
        gateways: their ids.
        settings: ``PUPPETMASTER_*`` variables for the bundle.
        name: of the server; the remote bundle listens at ``/<name>/remote``.
        ttl_s, timeout_s: of the remote bundle; both are 60 in the published one.
        delay_s: of each gateway, from command to answer.
        fail: codes with which some gateways answer every command.
        quiet: ids of gateways whose bridges say nothing about themselves.
        tuned: False: all brokers as untouched installations have them.
        controller: options of every controller.
        bundle: False: puppetmaster is started later, if at all, by ``server.bundle.start()``.
        via: called once for each gateway with its id and the port of the server's broker; returns the port
            at which the gateway's bridge finds it, such as a proxy's.

    Raises:
        ProcessError: mosquitto is not installed; no other broker has bridges.
    """

    def __init__(
        self,
        directory: Path,
        gateways: Sequence[str],
        *,
        settings: Mapping[str, str] | None = None,
        name: str = "server",
        ttl_s: float = 60,
        timeout_s: float = 60,
        delay_s: float = 0,
        fail: Mapping[str, int] | None = None,
        quiet: Collection[str] = (),
        tuned: bool = True,
        controller: Options | None = None,
        bundle: bool = True,
        via: Callable[[str, int], int] | None = None,
    ) -> None:
        options: Options = {"reconnect_s": 0.2, "registration_s": 0, **(controller or {})}
        self.server = Gateway(
            directory, settings=settings, controller=options, broker="mosquitto", tuned=tuned
        )
        waits = ("--ttl", ttl_s, "--timeout", timeout_s)
        self.remote = self.server.fleet = bundle_process("remote", name, self.server.broker, *waits)
        codes = fail or {}
        self.gateways = {
            each: BridgedGateway(
                each,
                self.server.broker,
                self.server.fleet_log,
                delay_s=delay_s,
                fail=codes.get(each),
                notifies=each not in quiet,
                tuned=tuned,
                controller=options,
                port=via and via(each, self.server.broker.port),
            )
            for each in gateways
        }
        self._with_bundle = bundle
        super().__init__()

    def start(self) -> Self:
        """Start the server, then all gateways at the same time, then puppetmaster."""
        try:
            self._parts.callback(self.server.stop)
            self.server.start(bundle=False)
            for gateway in self.gateways.values():
                self._parts.callback(gateway.off, hard=False)
            with ThreadPoolExecutor(len(self.gateways)) as pool:
                for _ in pool.map(BridgedGateway.on, self.gateways.values()):
                    pass
            if self._with_bundle:
                self.server.bundle.start()
        except BaseException:
            self._parts.close()
            raise
        return self


def bundle_process(kind: str, name: str, broker: Broker, *options: object) -> Process:
    """Return a bundle of `bundles` for this broker, not started yet."""
    address = ("--host", broker.host, "--port", broker.port)
    return Process.module(
        f"{kind} of {name}", "sandbox.bundles", kind, *address, "--name", name, *options, ready=bundles.READY
    )
