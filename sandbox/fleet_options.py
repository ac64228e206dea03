"""The command line of `python -m sandbox.fleet`: made from Python, and read."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

from puppetmaster.ranges import expand, expand_all, fold
from sandbox.devices import GOOD
from sandbox.registrar import models


def argv(host: str, port: int, *to: str, **options: object) -> list[str]:
    """Give arguments of `python -m sandbox.fleet` for a fleet of `to` (names and patterns).

    `options` are those of the command line with `_` for `-`: a value, a list or tuple for a repeated
    option, True for one without value; None and False leave it out. For example
    `argv(host, port, "cg-[01-20]", shape="per-gateway", log=path, slow=["cg-01:2", "cg-02:3"])`.
    """
    arguments = ["--host", host, "--port", str(port)]
    for pattern in to:
        arguments += ["--to", pattern]
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is True:
                arguments.append(flag)
            elif each is not None and each is not False:
                arguments.append(f"{flag}={each}")
    return arguments


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < inf:
        raise ValueError(f"expected seconds from 0, got {text!r}")
    return seconds


# Option: field of Fault, how to read the value (None: it takes none), help.
FAULT_OPTIONS: dict[str, tuple[str, Callable[[str], float] | None, str]] = {
    "slow": ("after_s", _seconds, "answer after so many seconds in place of --delay"),
    "late": ("after_s", _seconds, "the same, but more than --ttl + 1: when the controller has given up"),
    "fail": ("fail", int, "the device answers with this nested code"),
    "refuse": ("refuse", int, "the remote bundle answers with this outer code; not executed, not logged"),
    "silent": ("silent", None, "execute and log, never answer"),
    "dead": ("dead", None, "nothing is executed, logged or answered"),
    "twice": ("twice", None, "send each answer twice"),
    "garbage": ("garbage", None, "answer with what is no device's answer"),
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; adds `destinations`, `models` and `faults` made of the options."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.destinations = expand_all(options.to)
        options.models = models(options.shape, options.destinations, options.name)
        options.faults = {}
        for option in FAULT_OPTIONS:
            for text in getattr(options, option):
                _add_fault(options, option, text)
    except ValueError as error:
        parser.error(str(error))
    return options


def _add_fault(options: argparse.Namespace, option: str, text: str) -> None:
    """Put what `--option text` asks for into `options.faults`."""
    field, read, _ = FAULT_OPTIONS[option]
    pattern, value = text, True if read is None else 0.0
    if read is not None:
        pattern, _, number = text.rpartition(":")  # the last colon: MAC addresses have some too
        try:
            value = read(number)
        except ValueError:
            raise ValueError(f"--{option}: expected NAMES:NUMBER, got {text!r}") from None
    if option == "late" and value <= options.ttl + 1:
        raise ValueError(
            f"--late {text}: expected more than {options.ttl + 1} s, the ttl and 1 s, when the controller "
            "has given up for sure; lower --ttl or use --slow"
        )
    names = expand(pattern)
    unknown = set(names).difference(options.destinations)
    if unknown:
        raise ValueError(f"--{option}: expected names of --to, got {', '.join(fold(sorted(unknown)))}")
    for name in names:
        options.faults[name] = replace(options.faults.get(name, GOOD), **{field: value})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.fleet", description="Simulated remote gateways.", allow_abbrev=False
    )
    add = parser.add_argument
    names = "gateways: cg-[001-200], 00:0c:29:1c:e8:[01-ff]; may be given several times"
    add("--to", action="append", required=True, metavar="NAMES", help=names)
    add("--host", default="127.0.0.1", help="of the MQTT broker (%(default)s)")
    add("--port", type=int, default=1883, help="of the MQTT broker (%(default)s)")
    add("--qos", type=int, choices=(0, 1, 2), default=0, help="of subscriptions and answers (%(default)s)")
    add("--shape", default="one-model", help="one-model, per-gateway or grouped:N (%(default)s)")
    add("--name", default="fleet", help="of the model, or the beginning of the models' names (%(default)s)")
    add("--ttl", type=int, default=30, metavar="S", help="of the models (%(default)s)")
    add("--no-watch", action="store_true", help="do not register again when the controller forgot the models")
    add("--log", type=Path, help="append each command that reached a gateway to this file, as a line of JSON")
    add("--registrations", type=Path, help="append which resources were registered, and when, to this file")
    add("--delay", type=_seconds, default=0, metavar="S", help="from command to answer (%(default)s)")
    add("--jitter", type=_seconds, default=0, metavar="S", help="random addition to the delay (%(default)s)")
    add("--seed", type=int, help="of the random addition")
    faults = parser.add_argument_group("faults", "NAMES are some of --to; each may be given several times")
    for option, (_, read, sentence) in FAULT_OPTIONS.items():
        value = "NAMES" if read is None else "NAMES:CODE" if read is int else "NAMES:S"
        faults.add_argument(f"--{option}", action="append", default=[], metavar=value, help=sentence)
    return parser
