"""A bundle that can be made to stand still at the worst moment: a sending is on record, and not yet written.

``TRAP`` names a file: who finds it when it is about to send removes it, and stops itself. With ``UNFENCED``
each process has a client id of its own at the broker, and asks nobody for a permit: for the control run.
"""

import os
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import index
from puppetmaster.bus import client
from puppetmaster.bus.connection import Connection, Listener
from puppetmaster.bus.credentials import Credentials
from puppetmaster.model.message import Outgoing
from tests.torture import starts

#: So long a process needs at most to stand still after it was told to.
HELD_S = 0.02


class Alone(Connection):
    """A connection with a client id that no other process has, and that nobody can forbid."""

    def __init__(
        self,
        address: tuple[str, int],
        credentials: Credentials,
        client_id: str,
        topics: Sequence[tuple[str, int]],
        listener: Listener,
    ) -> None:
        alone = f"{client_id}-{uuid.uuid4().hex}"
        super().__init__(address, credentials, alone, topics, listener._replace(permit=lambda: True))


def main() -> None:
    """Run the bundle."""
    trap = Path(os.environ["TRAP"])
    send = client.BusClient.send

    def trapped(self: client.BusClient, commands: Sequence[Outgoing]) -> bool:
        if trap.exists():
            trap.unlink(missing_ok=True)
            begun_s = time.monotonic()
            os.kill(os.getpid(), signal.SIGSTOP)
            while time.monotonic() - begun_s < HELD_S:
                pass  # another thread may have been given the signal, and this one would go on for a moment
        return send(self, commands)

    client.BusClient.send = trapped  # type: ignore[method-assign]
    starts.install()
    if os.environ.get("UNFENCED"):
        client.Connection = Alone  # type: ignore[attr-defined]
    index.main()


if __name__ == "__main__":
    main()
