"""The body of a new job, made from the arguments of a command line.

Every function raises ValueError, with the sentence to show, for a wrong argument.
"""

import re
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from puppetmaster import jsoncodec, ranges

#: The beginning of the keys that the command line makes for jobs without a key.
OWN_KEY = "cli-"
_BETWEEN = re.compile(r"[\s,;]+")
_PERCENT = re.compile(r"\d{1,3}(\.\d{1,6})?%")


class Files:
    """Reads the files that ``@file`` and ``-`` name. Standard input (``-``) can be read once."""

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
    """The names that the values of ``--to`` stand for, and those among them that came more than once.

    A value has names and ranges, with commas or white space between them, or is ``@file`` with such lines.
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
    """The JSON in ``text``. ``what`` names the text in an error."""
    try:
        return jsoncodec.decode_body(text.encode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise ValueError(f"{what}: expected JSON, or @file or - for where it is, but {error}") from None


def share(text: str) -> int | str:
    """A number or a percentage: ``20`` as an integer, ``10%`` as text."""
    if text.isascii() and text.isdigit():
        return int(text)
    if _PERCENT.fullmatch(text):
        return text
    raise ValueError(f"expected a whole number or a percentage such as 10%, got '{text}'")


def shares(text: str) -> list[int | str]:
    """Numbers and percentages with commas between them (``1,10%,100%``), as a list."""
    return [share(one.strip()) for one in text.split(",")]


def whole(text: str, what: str) -> dict[str, Any]:
    """The body of a job in the text of a file. ``what`` names the file in an error."""
    body = decoded(text, what)
    if isinstance(body, dict):
        return body
    raise ValueError(f"{what}: expected a job, an object with a batch, got other JSON")


def batch(method: str, resource: str, content: Any, to: Sequence[str]) -> dict[str, Any]:
    """The body of a job that sends one command to every destination."""
    item = {"method": method, "resource": resource, "data": content}
    return {"batch": [{**item, "__request": {"destination": list(to)}}]}


#: Option of a new job -> its place in the body.
PLACES = {
    "dry_run": "dryRun",
    "name": "name",
    "key": "key",
    "timeout": "timeout",
    "request_timeout": "requestTimeout",
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
    "start_at": "startAt",
    "idempotent": "idempotent",
}
#: Options that had another name in earlier versions, which is still taken.
OLD_FLAGS = {"concurrency": "--window"}
#: Place in the body -> the argument of the command line that goes there.
WORDS = {
    "batch[0].method": "METHOD",
    "batch[0].resource": "RESOURCE",
    "batch[0].data": "DATA",
    "batch[0].__request.destination": "--to",
}


def with_options(body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the options of the command line, which replace those of a file.

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


def spoken(path: str, options: Mapping[str, Any], *, words: bool) -> str:
    """The name of a place in the body for the user: the option or argument that goes there, else the path.

    ``words``: the job was given as arguments, without a file.
    """
    known = {PLACES[option]: flag(option) for option in _given(options)}
    groups = {place.partition(".")[0] for place in known if "." in place}
    if words:  # without a file a missing part of a group (``retry``, ``gate``) can only be an option
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
