"""What reached the simulated gateways, and when they were registered: files with lines of JSON."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Command:
    """A device's command that reached a gateway; `id` is that of the Sanji message that brought it."""

    t_s: float  # time.monotonic() at arrival, comparable between the processes of one machine
    id: int
    destination: str
    method: str
    resource: str
    data: Any

    def line(self) -> bytes:
        """Give the command as one line of the log."""
        entry = {
            "t": self.t_s,
            "id": self.id,
            "destination": self.destination,
            "method": self.method,
            "resource": self.resource,
            "data": self.data,
        }
        return json.dumps(entry, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def read(cls, line: str) -> "Command":
        """Make a command of a line of the log."""
        entry = json.loads(line)
        return cls(entry.pop("t"), **entry)


def registered(now_s: float, resources: Sequence[str]) -> bytes:
    """Give the line that says that a model has just been registered with these resources."""
    return json.dumps({"t": now_s, "resources": resources}, separators=(",", ":")).encode() + b"\n"


def registrations(path: Path) -> dict[str, list[float]]:
    """Read from such lines when, by time.monotonic(), each resource was registered, the first time first."""
    times: dict[str, list[float]] = {}
    for line in path.read_text("utf-8").split("\n")[:-1]:
        entry = json.loads(line)
        for resource in entry["resources"]:
            times.setdefault(resource, []).append(entry["t"])
    return times


class FleetLog:
    """Reads what `--log` wrote; each call reads the file anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def commands(self) -> list[Command]:
        """Give what reached a gateway, in order of arrival; a line without its end is left out."""
        lines = self.path.read_text("utf-8").split("\n")
        return [Command.read(line) for line in lines[:-1]]

    def counts(self) -> Counter[int]:
        """Count the arrivals by message id."""
        return Counter(command.id for command in self.commands())

    def duplicates(self) -> dict[int, int]:
        """Give the message ids that arrived more than once, with how often."""
        return {id_: count for id_, count in self.counts().items() if count > 1}
