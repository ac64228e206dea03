"""A whole gateway of the sandbox: broker, controller, a fleet of remote gateways, and the bundle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from sandbox.broker import Broker, Kind
from sandbox.controller import Options, controller_process
from sandbox.process import PROJECT, Parts, Process

FLEET_READY_S = 1000.0  # 10,000 models, each of which takes the real controller 44 to 90 ms


class Gateway(Parts):
    """Starts each part as a process of its own, and ends them all, the last one first.

    Args:
        directory: where the bundle's data and the fleet's log are kept.
        fleet: options of ``sandbox.fleet``, without the broker's; empty: no fleet.
        settings: ``PUPPETMASTER_*`` variables for the bundle.
        controller: options of the controller; ``registration_s`` is 0 unless it is among them. The variable
            ``SANDBOX_CONTROLLER`` names a real one in its place.
        broker: the kind; None: mosquitto when it is installed.
        tuned: False: mosquitto as an untouched installation has it, see `Broker`.
        broker_config: more lines for mosquitto.conf.
    """

    def __init__(
        self,
        directory: Path,
        *,
        fleet: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        controller: Options | None = None,
        broker: Kind | None = None,
        tuned: bool = True,
        broker_config: str = "",
        reconnect_s: float = 0.2,
    ) -> None:
        self.directory = directory
        self.fleet_log = directory / "fleet.log"
        self.broker = Broker(broker, tuned=tuned, config=broker_config)
        options: Options = {"reconnect_s": reconnect_s, "registration_s": 0, **(controller or {})}
        address = ["--host", self.broker.host, "--port", str(self.broker.port)]
        self.controller = controller_process(self.broker, **options)
        self.fleet = (
            Process.module(
                "fleet", "sandbox.fleet", *address, "--log", self.fleet_log, *fleet, ready="fleet ready"
            )
            if fleet
            else None
        )
        self.bundle = Process.module(
            "puppetmaster",
            "index",
            env={
                "BROKER_PORT_1883_TCP_ADDR": self.broker.host,
                "BROKER_PORT_1883_TCP_PORT": str(self.broker.port),
                "PUPPETMASTER_DATA_DIR": str(directory / "data"),
                "PUPPETMASTER_HTTP": "off",
                "PUPPETMASTER_BOOTING_S": "0",  # the fleet is there, however young the machine is
                **(settings or {}),
            },
            ready="registered with the controller",
        )
        super().__init__()

    def start(self, *, bundle: bool = True) -> Self:
        """Start every part and wait until it is ready; without the bundle when that is started later."""
        try:
            self._parts.enter_context(self.broker)
            self._parts.enter_context(self.controller)
            if self.fleet is not None:
                self.fleet.start(FLEET_READY_S)
                self._parts.enter_context(self.fleet)
            self._parts.push(self.bundle)
            if bundle:
                self.bundle.start()
        except BaseException:
            self._parts.close()
            raise
        return self


assert PROJECT.joinpath("index.py").exists(), "the sandbox runs from a checkout of the project"
