"""The body of a new job from the words of a command line. Raises ValueError with the sentence to show."""

import re
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from puppetmaster import names, wire

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


def destinations(words: Sequence[str], files: Files) -> list[str]:
    """The names that ``--to`` stands for: names, ranges, and ``@file`` with one of those per line."""
    patterns: list[str] = []
    for word in words:
        if not word.startswith("@"):
            patterns.append(word)
            continue
        lines = [line.strip() for line in files.read(word[1:]).splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise ValueError(f"expected a name on each line of {word[1:]}, got none")
        patterns += found
    return names.expand_all(patterns)


def data(word: str, files: Files) -> Any:
    """The JSON of ``@file``, of standard input (``-``), or of the word itself."""
    if word == "-" or word.startswith("@"):
        return decoded(files.read(word.removeprefix("@")), word)
    return decoded(word, "DATA")


def decoded(text: str, what: str) -> Any:
    """The JSON in ``text``."""
    try:
        return wire.decode(text.encode("utf-8", "surrogatepass"))
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


def with_options(body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the options of the command line, which win over what a file says.

    A job that has no key gets one: when its answer is lost it can be asked for again and is the same job.
    """
    plain = {
        "name": options.get("name"),
        "key": options.get("key"),
        "timeout": options.get("timeout"),
        "requestTimeout": options.get("request_timeout"),
        "concurrency": options.get("window"),
        "rate": options.get("rate"),
        "waves": options.get("waves"),
        "startAt": options.get("start_at"),
        "idempotent": options.get("idempotent") or None,
        "dryRun": options.get("dry_run") or None,
    }
    result = {**body, **{name: value for name, value in plain.items() if value is not None}}
    for name, part, value in (
        ("abort", "errors", options.get("max_errors")),
        ("retry", "attempts", options.get("attempts")),
        ("gate", "soak", options.get("soak")),
    ):
        if value is not None:
            given = result.get(name)
            result[name] = {**(given if isinstance(given, dict) else {}), part: value}
    own_form = "batch" in result or "rerun" in result  # the form of puppetmaster 0.0.9 knows no key
    if own_form and result.get("key") is None and not result.get("dryRun"):
        result["key"] = f"cli-{uuid.uuid4()}"
    return result
