"""The body of a new job from the words of a command line. Raises ValueError with the sentence to show."""

import re
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from puppetmaster import jsoncodec, ranges

#: So begin the keys that are given to jobs without one.
OWN_KEY = "cli-"
_BETWEEN = re.compile(r"[\s,;]+")
_PERCENT = re.compile(r"\d{1,3}(\.\d{1,6})?%")


class Files:
    """Reads what ``@file`` and ``-`` name; standard input can be read once."""

    def __init__(self, stdin: Callable[[], str] = lambda: sys.stdin.read()) -> None:
        self._stdin: Callable[[], str] | None = stdin

    def read(self, name: str) -> str:
        """The text of the file, or of standard input for ``-``."""
        try:
            if name != "-":
                return Path(name).read_text(encoding="utf-8")
            if self._stdin is None:
                raise ValueError("expected one use of standard input (-), got two; put one into a file")
            stdin, self._stdin = self._stdin, None
            return stdin()
        except OSError as error:
            raise ValueError(f"cannot read {name}: {error.strerror or error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"expected UTF-8 in {name}, but {error.reason} at byte {error.start}") from None


def destinations(words: Sequence[str], files: Files) -> tuple[list[str], list[str]]:
    """The names that ``--to`` stands for, and those of them that came more than once.

    A word holds names and ranges, commas or white space between them, or is ``@file`` with such lines.
    """
    patterns: list[str] = []
    for word in words:
        if not word.startswith("@"):
            patterns += _split(word) or [word]
            continue
        lines = [line.strip() for line in files.read(word[1:]).splitlines()]
        found = [name for line in lines if not line.startswith("#") for name in _split(line)]
        if not found:
            raise ValueError(f"expected a name on each line of {word[1:]}, got none")
        patterns += found
    every = [name for pattern in patterns for name in ranges.expand(pattern)]
    counts = Counter(every)
    return list(counts), [name for name, count in counts.items() if count > 1]


def _split(text: str) -> list[str]:
    return [one for one in _BETWEEN.split(text) if one]


def data(word: str, files: Files) -> Any:
    """The JSON of ``@file``, of standard input (``-``), or of the word itself."""
    if word == "-" or word.startswith("@"):
        return decoded(files.read(word.removeprefix("@")), word)
    return decoded(word, "DATA")


def decoded(text: str, what: str) -> Any:
    """The JSON in ``text``."""
    try:
        return jsoncodec.decode_body(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise ValueError(f"{what}: expected JSON, or @file or - for where it is, but {error}") from None


def share(text: str) -> int | str:
    """``20`` as a number, ``10%`` as it is."""
    if text.isascii() and text.isdigit():
        return int(text)
    if _PERCENT.fullmatch(text):
        return text
    raise ValueError(f"expected a whole number or a percentage such as 10%, got '{text}'")


def shares(text: str) -> list[int | str]:
    """``1,10%,100%`` as a list."""
    return [share(one.strip()) for one in text.split(",")]


def whole(text: str, what: str) -> dict[str, Any]:
    """The body of a job as a file holds it."""
    body = decoded(text, what)
    if isinstance(body, dict):
        return body
    raise ValueError(f"{what}: expected a job, an object with a batch, got other JSON")


def batch(method: str, resource: str, content: Any, to: Sequence[str]) -> dict[str, Any]:
    """The body of a job that sends one command to every destination."""
    item = {"method": method, "resource": resource, "data": content}
    return {"batch": [{**item, "__request": {"destination": list(to)}}]}


#: Where each option of a new job goes in its body, in the order of the help.
PLACES = {
    "dry_run": "dryRun",
    "name": "name",
    "key": "key",
    "timeout": "timeout",
    "request_timeout": "requestTimeout",
    "window": "concurrency",
    "rate": "rate",
    "attempts": "retry.attempts",
    "retry_on": "retry.on",
    "retry_delay": "retry.delay",
    "max_errors": "abort.errors",
    "max_errors_after": "abort.after",
    "waves": "waves",
    "gate_errors": "gate.errors",
    "gate_on_fail": "gate.onFail",
    "soak": "gate.soak",
    "start_at": "startAt",
    "idempotent": "idempotent",
}
#: Where the words of a command go.
WORDS = {
    "batch[0].method": "METHOD",
    "batch[0].resource": "RESOURCE",
    "batch[0].data": "DATA",
    "batch[0].__request.destination": "--to",
}


def with_options(body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the options of the command line, which win over what a file says.

    A job that has no key gets one: when its answer is lost it can be asked for again and is the same job.
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
    """The options that somebody gave: a flag that is not set is none."""
    return [one for one in PLACES if options.get(one) is not None and options[one] is not False]


def spoken(path: str, options: Mapping[str, Any], *, words: bool) -> str:
    """What whoever gave these options calls this place in a body; ``words``: there was no file."""
    known = {PLACES[option]: flag(option) for option in _given(options)}
    groups = {place.partition(".")[0] for place in known if "." in place}
    if words:  # then what is missing beside an option is an option too
        beside = {place: flag(option) for option, place in PLACES.items()}
        known |= WORDS | {place: name for place, name in beside.items() if place.partition(".")[0] in groups}
    if path in groups:
        return next(name for place, name in known.items() if place.startswith(f"{path}."))
    for place, name in known.items():
        if path == place or path.startswith((f"{place}.", f"{place}[")):
            return name + ("" if name == "--to" else path.removeprefix(place))
    return path


def flag(option: str) -> str:
    """How an option is written: ``--dry-run``."""
    return f"--{option.replace('_', '-')}"
