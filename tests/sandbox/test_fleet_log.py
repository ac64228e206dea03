import json
from pathlib import Path

from sandbox.fleet_log import Command, FleetLog, registered, registrations


def test_the_log_gives_back_what_was_written(tmp_path: Path) -> None:
    commands = [
        Command(1.5, 7, "cg-1", "get", "/é", {"a": "\n"}),
        Command(1.6, 8, "cg-2", "put", "/", None),
        Command(1.7, 7, "cg-1", "get", "/é", {"a": "\n"}),
    ]
    path = tmp_path / "fleet.jsonl"
    path.write_bytes(b"".join(command.line() for command in commands) + b'{"t": 1.8, "id"')
    log = FleetLog(path)
    assert log.commands() == commands
    assert log.counts() == {7: 2, 8: 1}
    assert log.duplicates() == {7: 2}


def test_a_line_of_the_log() -> None:
    line = Command(1.5, 7, "cg-1", "get", "/", {"a": 1}).line()
    assert line.endswith(b"\n")
    assert json.loads(line) == {
        "t": 1.5,
        "id": 7,
        "destination": "cg-1",
        "method": "get",
        "resource": "/",
        "data": {"a": 1},
    }


def test_when_each_resource_was_registered(tmp_path: Path) -> None:
    path = tmp_path / "registrations"
    path.write_bytes(registered(1.5, ["/a", "/b"]) + registered(2.5, ["/a"]) + b'{"t": 3')
    assert registrations(path) == {"/a": [1.5, 2.5], "/b": [1.5]}
