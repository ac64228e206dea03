"""The body of a new job, made from the arguments of a command line.

Every function raises ValueError, with the sentence to show, for a wrong argument.
"""

import json
import math
import re
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from puppetmaster import jsoncodec, ranges
from puppetmaster.cli.kinds import SHOWN
from puppetmaster.clock import iso

#: The beginning of the keys that the command line makes for jobs without a key.
OWN_KEY = "cli-"
_BETWEEN = re.compile(r"[\s,;]+")
_COUNT = re.compile(r"[0-9]{1,18}")
_PERCENT = re.compile(r"\d{1,3}(\.\d{1,6})?%")
#: The API takes names with these signs; a person who types one of them most likely does not mean a name.
_NOT_MEANT = re.compile(r"""[*{}()<>|"'`$\\]""")
_OR_A_FILE = ", or @file or - for where it is"
_NOT_MEANT_HINT = "a range is written cg-[001-200]; only a job in a file has such names"
#: Units of times, in seconds.
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_LASTING = re.compile(r"(?:[0-9]+(?:\.[0-9]+)? ?(?:ms|s|min|m|h|d) ?)+", re.ASCII)
_PART = re.compile(r"([0-9.]+) ?([a-z]+)")


class Files:
    """Reads the files that ``@file`` and ``-`` name. Standard input (``-``) can be read once."""

    def __init__(self, stdin: Callable[[], str] = lambda: _standard_input()) -> None:
        self._stdin: Callable[[], str] | None = stdin

    def read(self, name: str) -> str:
        """The text of the file, or of standard input for ``-``."""
        try:
            if name != "-":
                return Path(name).read_text(encoding="utf-8-sig")  # Windows writes a mark in front
            if self._stdin is None:
                raise ValueError("expected one use of standard input (-), got two; put one into a file")
            stdin, self._stdin = self._stdin, None
            return stdin()
        except OSError as error:
            raise ValueError(f"cannot read {name[:SHOWN]}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"expected UTF-8 in {name}, but {error.reason} at byte {error.start}") from None


def _standard_input() -> str:
    if sys.stdin is None:
        raise ValueError("expected something on standard input, and it is closed")
    return sys.stdin.read()


def destinations(words: Sequence[str], files: Files) -> tuple[list[str], list[str]]:
    """The names that the values of ``--to`` stand for, and those among them that came more than once.

    A value has names and ranges, with commas or white space between them, or is ``@file`` with such lines.
    What follows a ``#`` in a file is a comment.
    """
    every: list[str] = []
    for word in words:
        every += _listed(word[1:], files) if word.startswith("@") else _expanded(word, "--to")
    counts = Counter(every)
    return list(counts), [name for name, count in counts.items() if count > 1]


def _listed(file: str, files: Files) -> list[str]:
    """The names in a file."""
    found: list[str] = []
    place = "standard input" if file == "-" else file
    for number, line in enumerate(files.read(file).splitlines(), 1):
        if text := line.partition("#")[0].strip():
            found += _expanded(text, f"{place}:{number}")
    if not found:
        raise ValueError(f"expected a name on each line of {place}, got none")
    return found


def _expanded(text: str, where: str) -> Iterator[str]:
    """The names in a text, which has one at least; an error says where it stands."""
    patterns = [one for one in _BETWEEN.split(text) if one]
    if not patterns:
        raise ValueError(f"{where}: expected a name or a pattern such as cg-[001-200], got '{text[:SHOWN]}'")
    for pattern in patterns:
        if sign := _NOT_MEANT.search(pattern):
            got = f"'{pattern[:SHOWN]}' with {sign[0]} in it"
            raise ValueError(f"{where}: expected names such as cg-001, got {got}: {_NOT_MEANT_HINT}")
        try:
            yield from ranges.expand(pattern)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def data(word: str, files: Files) -> Any:
    """The JSON of ``@file``, of standard input (``-``), or of the word itself."""
    if word == "-" or word.startswith("@"):
        name = word.removeprefix("@")
        return decoded(files.read(name), "standard input" if name == "-" else name)
    return decoded(word, "DATA")


def decoded(text: str, what: str) -> Any:
    """The JSON in ``text``. ``what`` names the text in an error."""
    try:
        return jsoncodec.decode_body(text.encode("utf-8", "surrogatepass"))
    except json.JSONDecodeError as error:
        fault = f"{error.msg.lower()} in line {error.lineno}, column {error.colno}"
        file = _OR_A_FILE if what == "DATA" else ""
        raise ValueError(f"{what}: expected JSON{file}, but {fault}") from None
    except ValueError as error:
        raise ValueError(f"{what}: expected JSON, but {error}") from None


def number(text: str) -> float:
    """A number, whole or not. Its limits are the gateway's."""
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError
    return int(value) if value.is_integer() else value


def lasting(text: str) -> float | str:
    """Seconds, or a time with units: ``90``, ``10m``, ``1h30m``, ``500ms``; ``infinity`` as it is."""
    if text == "infinity":
        return text
    try:
        if _LASTING.fullmatch(text.strip()):
            return number(
                str(round(sum(float(many) * _UNITS[unit] for many, unit in _PART.findall(text)), 6))
            )
        return number(text)
    except ValueError:
        raise ValueError(
            f"expected seconds, or a time such as 90s, 10m, 1h30m or 2d, got '{text[:SHOWN]}'"
        ) from None


def moment(text: str, now_s: float) -> str:
    """A time as the API has it: ``+2h`` is that much after ``now_s``; another text is left to the API."""
    if not text.startswith("+"):
        return text
    after_s = float(lasting(text[1:]))
    try:
        return iso(now_s + after_s)
    except (OverflowError, ValueError):
        raise ValueError(f"expected a time before the year 10000, got '{text[:SHOWN]}'") from None


def share(text: str) -> int | str:
    """A number or a percentage: ``20`` as an integer, ``10%`` as text."""
    if _COUNT.fullmatch(text):
        return int(text)
    if _PERCENT.fullmatch(text):
        return text
    raise ValueError(f"expected a whole number or a percentage such as 10%, got '{text[:SHOWN]}'")


def shares(text: str) -> list[int | str]:
    """Numbers and percentages with commas between them (``1,10%,100%``), as a list."""
    return [share(one.strip()) for one in text.split(",")]


def names(text: str) -> list[str]:
    """Names with commas between them, as a list."""
    return [one.strip() for one in text.split(",")]


def whole(text: str, what: str) -> dict[str, Any]:
    """The body of a job in the text of a file. ``what`` names the file in an error."""
    body = decoded(text, what)
    if isinstance(body, dict):
        return body
    raise ValueError(f"{what}: expected a job, an object with a batch, got other JSON")


def batch(method: str, resource: str, content: Any, to: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The body of a job that sends one command to every destination; ``to`` names them, or says which."""
    item = {"method": method, "resource": resource, "data": content}
    destination = dict(to) if isinstance(to, Mapping) else list(to)
    return {"batch": [{**item, "__request": {"destination": destination}}]}


def target(options: Mapping[str, Any]) -> dict[str, Any]:
    """Which of the known gateways a job is for, as the options say it; empty: they say nothing."""
    given = {name: options[name] for name in ("selector", "match") if options[name] is not None}
    if options["everybody"]:
        given["all"] = True
    words = [one for word in options["besides"] for one in _BETWEEN.split(word) if one]
    expanded = (ranges.expand(word) if ranges.LIKE_A_RANGE.search(word) else [word] for word in words)
    besides = list(chain.from_iterable(expanded))
    if besides and not given:
        raise ValueError("--except: expected --selector, --match or --all beside it")
    return {**given, "except": besides} if besides else given


#: Option of a new job -> its place in the body.
PLACES = {
    "dry_run": "dryRun",
    "name": "name",
    "key": "key",
    "timeout": "timeout",
    "request_timeout": "requestTimeout",
    "delivery_timeout": "deliveryTimeout",
    "concurrency": "concurrency",
    "rate": "rate",
    "attempts": "retry.attempts",
    "retry_on": "retry.on",
    "retry_delay": "retry.delay",
    "on_fail": "onFail",
    "max_errors": "abort.errors",
    "max_errors_after": "abort.after",
    "waves": "waves",
    "gate_errors": "gate.errors",
    "gate_on_fail": "gate.onFail",
    "soak": "gate.soak",
    "maintenance": "maintenance.cron",
    "maintenance_for": "maintenance.duration",
    "maintenance_zone": "maintenance.timezone",
    "start_at": "startAt",
    "idempotent": "idempotent",
    "notify": "notify",
}
#: Options that had another name in earlier versions, which is still taken.
OLD_FLAGS = {"concurrency": "--window"}
#: The place in the body of where a job goes that was given as arguments.
WHERE = "batch[0].__request.destination"
#: Place in the body -> the argument of the command line that goes there.
WORDS = {
    "batch[0].__request.destination.selector": "--selector",
    "batch[0].__request.destination.match": "--match",
    "batch[0].__request.destination.except": "--except",
    "batch[0].method": "METHOD",
    "batch[0].resource": "RESOURCE",
    "batch[0].data": "DATA",
    WHERE: "--to",
}


def with_options(body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the options of the command line, which replace the options of a file.

    A job without a key gets one, so that it can be posted again when the answer is lost.
    """
    result = dict(body)
    for option in _given(options):
        name, _, part = PLACES[option].partition(".")
        if part:
            found = result.get(name)
            result[name] = {**(found if isinstance(found, dict) else {}), part: options[option]}
        else:
            result[name] = options[option]
    own_form = "batch" in result or "rerun" in result  # the form of puppetmaster 0.0.9 knows no key
    if own_form and result.get("key") is None and not result.get("dryRun"):
        result["key"] = f"{OWN_KEY}{uuid.uuid4()}"
    return result


def _given(options: Mapping[str, Any]) -> list[str]:
    """Names of the options that were given. A flag that is not set was not given."""
    return [one for one in PLACES if options.get(one) is not None and options[one] is not False]


def spoken(path: str, options: Mapping[str, Any], *, words: bool, to: str = "--to") -> str:
    """The name of a place in the body for the user: the option or argument that goes there, else the path.

    ``words``: the job was given as arguments, without a file; ``to``: what said where it goes.
    """
    known = {PLACES[option]: flag(option) for option in _given(options)}
    groups = {place.partition(".")[0] for place in known if "." in place}
    if words:  # without a file a missing part of a group (``retry``, ``gate``) can only be an option
        beside = {place: flag(option) for option, place in PLACES.items()}
        known |= (
            WORDS
            | {WHERE: to}
            | {place: name for place, name in beside.items() if place.partition(".")[0] in groups}
        )
    if path in groups:
        return next(name for place, name in known.items() if place.startswith(f"{path}."))
    for place, name in known.items():
        if path == place or path.startswith((f"{place}.", f"{place}[")):
            return name + ("" if place == WHERE else path.removeprefix(place))
    return path


def flag(option: str) -> str:
    """How an option is written: ``--dry-run``."""
    return f"--{option.replace('_', '-')}"
