"""The bundles of a bridged fleet, on the SDK as it is published: one process for each.

``python -m sandbox.bundles remote --port N --name server`` is the remote bundle of a server: it passes what
comes to ``/remote/<id>`` on to ``/<id>/controller``, where a bridge carries it to that gateway's own bus.
``python -m sandbox.bundles device --port N --name cg-1 --log fleet.log`` is the bundle of a gateway.
Each prints ``bundle ready`` once it is registered.

Both keep the SDK's ways on purpose, its faults too (docs/sdk.md): three threads run the handlers and wait in
them, an answer waits for its acknowledgements, timeouts stand still while acknowledgements arrive, and a
restart of the controller is not noticed.
"""

import argparse
import time
from pathlib import Path
from typing import Any, BinaryIO

from puppetmaster.bundle import sdk
from sandbox.devices import Fault, Gateways
from sandbox.fleet_log import Command

READY = "bundle ready"
#: The resources of each, as in bundle.json. Where a view is on everything, a resource that nobody has is
#: answered 403 by the controller, not 404.
RESOURCES: dict[str, list[dict[str, str]]] = {
    "remote": [{"role": "view", "resource": "/#"}, {"resource": "/remote/:to_id"}],
    "device": [{"resource": "/system/:what"}],
}


class Remote(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
    """The remote bundle: one model for all gateways, so one write lock for all of them."""

    def init(self, *, name: str, timeout_s: float, **_: Any) -> None:
        """Called by the SDK with the arguments of the constructor."""
        self.reg_delay = 0
        self._tunnel = f"/{name}/remote"
        self._timeout_s = timeout_s

    def run(self) -> None:
        """Listen for the answers of gateways; called by the SDK once we are registered."""
        self._conn.set_tunnel("remote_server", self._tunnel)
        print(READY, flush=True)

    @sdk.Route(resource="/remote/:to_id")
    def pass_on(self, message: Any, response: Any) -> None:
        """Send a gateway its command and wait for what it answers; its code is that of our answer."""
        command = message.data
        send = getattr(self.publish.direct, command["method"])
        topic = f"/{message.param['to_id']}/controller"
        try:
            answer = send(
                command["resource"],
                topic=topic,
                tunnel=self._tunnel,
                data=command["data"],
                timeout=self._timeout_s,
            )
        except sdk.SdkTimeout:
            response(code=500, data={"message": "Remote requests timeout"})
        else:
            response(code=answer.code, data=answer.to_dict())


class Device(sdk.Sanji):  # type: ignore[misc] # the SDK has no types
    """The bundle of a gateway: it logs each command, takes its time and answers as `devices` says."""

    def init(self, *, name: str, log: BinaryIO, fail: int | None, delay_s: float, **_: Any) -> None:
        """Called by the SDK with the arguments of the constructor."""
        self.reg_delay = 0
        self._name = name
        self._log = log
        self._delay_s = delay_s
        self._gateways = Gateways([name], faults={name: Fault(fail=fail)})

    def run(self) -> None:
        """Called by the SDK once we are registered."""
        print(READY, flush=True)

    @sdk.Route(resource="/system/:what")
    def execute(self, message: Any, response: Any) -> None:
        """Execute one command; it is in the log before it is answered."""
        data = getattr(message, "data", None)
        command = Command(time.monotonic(), message.id, self._name, message.method, message.resource, data)
        self._log.write(command.line())  # unbuffered, and appended: all gateways share the file
        time.sleep(self._delay_s)
        code, result = self._gateways.execute(command)
        response(code=code, data=result)


KINDS: dict[str, type[Any]] = {"remote": Remote, "device": Device}


def main() -> None:
    """Run one bundle until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.bundles", description=__doc__)
    add = parser.add_argument
    add("kind", choices=KINDS)
    add("--host", default="127.0.0.1", help="of the MQTT broker (%(default)s)")
    add("--port", type=int, default=1883, help="of the MQTT broker (%(default)s)")
    add("--name", required=True, help="of the server, or of the gateway")
    add("--ttl", type=float, default=60, metavar="S", help="of the bundle (%(default)s)")
    add("--timeout", type=float, default=60, metavar="S", help="remote: given to the SDK (%(default)s)")
    add("--delay", type=float, default=0, metavar="S", help="device: from command to answer (%(default)s)")
    add("--fail", type=int, metavar="CODE", help="device: answers with this code")
    add("--log", type=Path, default=Path("/dev/null"), help="device: append each command to this file")
    options = parser.parse_args()
    bundle = sdk.Bundle(load=False)
    bundle.profile = {
        "name": options.kind,
        "description": f"the {options.kind} bundle of {options.name}",
        "role": "model",
        "ttl": options.ttl,
        "resources": RESOURCES[options.kind],
    }
    with options.log.open("ab", buffering=0) as log:
        KINDS[options.kind](
            bundle=bundle,
            connection=sdk.connection(options.host, options.port),
            name=options.name,
            timeout_s=options.timeout,
            delay_s=options.delay,
            fail=options.fail,
            log=log,
        ).start()


if __name__ == "__main__":
    main()
