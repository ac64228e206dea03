"""A world of bridged gateways: each has its own broker and controller, and each can be broken by itself."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from sandbox.bridged import BridgedFleet, BridgedGateway
from sandbox.gateway import Gateway
from sandbox.process import Process, ProcessError
from tests.proxy import Proxy
from tests.torture.world import EVERYTHING, NOBODY, PAUSE_S, Loss, World

#: One says nothing about its bridge, one fails; the other two are good.
GATEWAYS = QUIET, FAILED, *_ = ("cg-quiet", "cg-bad", "cg-1", "cg-2")
#: The remote bundle's own patience, and that of its model: 60 s in the field.
REMOTE_TIMEOUT_S, TTL_S = 2, 3
GATEWAY_DELAY_S = 0.1


class BridgedWorld(World):
    """A server with the published remote bundle, and gateways that are switched off, on, and cut off.

    Jobs are given more slowly: all that goes through the remote bundle goes one by one.
    """

    fleet: tuple[str, ...] = GATEWAYS
    hardly: tuple[str, ...] = (NOBODY,)
    pace_s = 0.15
    slowness = 6
    most_open = 12
    quick = GATEWAYS[2:]

    def _system(self, directory: Path, seed: int) -> Gateway:
        del seed
        self._bridges: dict[str, Proxy] = {}
        self._all = BridgedFleet(
            directory,
            GATEWAYS,
            ttl_s=TTL_S,
            timeout_s=REMOTE_TIMEOUT_S,
            delay_s=GATEWAY_DELAY_S,
            fail={FAILED: 409},
            quiet=[QUIET],
            tuned=self.conditions.tuned,
            controller={"refresh_ms": 100},
            bundle=False,
            via=self._through_a_proxy,
        )
        return self._all.server

    @property
    def gateways(self) -> dict[str, BridgedGateway]:
        """The gateways by their names."""
        return self._all.gateways

    def _through_a_proxy(self, gateway: str, port: int) -> int:
        proxy = self._bridges[gateway] = Proxy(port)
        return proxy.port

    def _start_parts(self) -> None:
        for proxy in self._bridges.values():
            proxy.start()
        self._all.start()

    def wreck(self, wait_s: float) -> None:
        """Break something: the bundle, a gateway, a bridge, or what else is on the server."""
        gateway = self.rng.choice(list(self.gateways.values()))
        choice = self.rng.random()
        if choice < 0.4:
            self.kill_bundle(wait_s)
        elif choice < 0.6:
            self.switch_off(gateway, wait_s)
        elif choice < 0.8:
            self.cut_off(gateway, wait_s)
        elif choice < 0.85:
            self.restart_controller()
        elif choice < 0.9:
            self.restart_broker()
        elif choice < 0.95:
            self.restart_everything()
        else:
            self.pause_bundle(PAUSE_S)

    def switch_off(self, gateway: BridgedGateway, wait_s: float) -> None:
        """Switch a gateway off, hard or in good order, and on again; the bundle may be killed meanwhile."""
        begun_s = time.monotonic()
        gateway.off(hard=self.rng.random() < 0.7)
        self._meanwhile(wait_s)
        self._mend(gateway.on)
        self._lost("gateway switched off", begun_s, gateway.name)

    def cut_off(self, gateway: BridgedGateway, wait_s: float) -> None:
        """Cut a bridge, for a moment or a while; the gateway itself goes on."""
        begun_s = time.monotonic()
        bridge = self._bridges[gateway.name]
        bridge.refuse(refusing=self.rng.random() < 0.7)
        bridge.cut()
        self._meanwhile(wait_s)
        bridge.refuse(refusing=False)
        self._mend(gateway.wait_until_reached)
        self._lost("bridge cut", begun_s, gateway.name)

    def _meanwhile(self, wait_s: float) -> None:
        choice = self.rng.random()
        if choice < 0.45:
            self.kill_bundle(wait_s)
        elif choice < 0.55:
            self.pause_bundle(PAUSE_S)
        else:
            time.sleep(wait_s)

    def _mend(self, repair: Callable[[], None]) -> None:
        """Repair something, which takes seconds; a bundle that dies meanwhile does not stay dead."""
        with ThreadPoolExecutor(1) as pool:
            repaired = pool.submit(repair)
            while not repaired.done():
                if not self.gateway.bundle.running:
                    self.kill_bundle(0)
                time.sleep(0.02)
            repaired.result()

    def _after_a_loss(self) -> None:
        """Restart the remote bundle, and wait for the bridges: what they said is gone with the broker."""
        self._restart_remote()
        self._wait_for_gateways()

    def _restart_remote(self) -> None:
        """Restart the remote bundle, which may be deaf after a loss (docs/sdk.md, F2 and F3).

        Where its registration is lost the SDK waits for a minute: then once more.
        """
        remote = self._all.remote
        for timeout_s in (5, 10, 20, 70):
            remote.kill()
            with suppress(ProcessError):
                remote.start(timeout_s)
                return
        raise ProcessError("the remote bundle cannot be registered")

    def _wait_for_gateways(self) -> None:
        for gateway in self.gateways.values():
            gateway.wait_until_reached(60)

    def _everything(self) -> list[Process]:
        return [self.gateway.controller]

    def restart_everything(self) -> None:
        """Kill all that runs on the server at the same moment, and start it again; gateways go on.

        The remote bundle comes last.
        """
        begun_s = time.monotonic()
        self._all.remote.kill()
        super().restart_everything()
        self._after_a_loss()
        self.losses.append(Loss(EVERYTHING, begun_s, time.monotonic()))

    def settle(self) -> None:
        """End the bundle whatever its fault, and start it without one: from here on nothing breaks."""
        self._wait_for_gateways()
        super().settle()

    def stop(self) -> None:
        """End everything."""
        self._all.stop()
        self._stop_others()
        for bridge in self._bridges.values():
            bridge.close()
