"""What a word of the command line may be. A wrong one is told as the API does: expected .., got .."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

#: Most characters of a wrong word in an error.
SHOWN = 80


class Read(click.ParamType[Any]):
    """A value that ``read`` makes of a word.

    ``read`` raises ValueError with a sentence; with ``expected`` the sentence says that.
    """

    def __init__(self, name: str, read: Callable[[str], Any], expected: str = "") -> None:
        self.name = name
        self._read = read
        self._expected = expected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or a mistake in the use."""
        if not isinstance(value, str):  # a default
            return value
        try:
            return self._read(value)
        except ValueError as error:
            said = f"expected {self._expected}, got '{value[:SHOWN]}'" if self._expected else str(error)
            self.fail(said, param, ctx)


def digits(text: str) -> int:
    """The number that these digits write. Raises ValueError: they are others than 0 to 9, or very many."""
    if not (text.isascii() and text.isdigit()):  # int() would take 1_0 too
        raise ValueError
    return int(text)


def whole(low: int, expected: str) -> Read:
    """A whole number from ``low``."""

    def read(text: str) -> int:
        number = digits(text)
        if number < low:
            raise ValueError
        return number

    return Read("N", read, expected)


class OneOf(click.ParamType[str]):
    """One of these words, in any letter case."""

    def __init__(self, known: Sequence[str]) -> None:
        self.name = "|".join(known)
        self._known = list(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word as we write it, or a mistake in the use."""
        if str(value).lower() not in self._known:
            *most, last = self._known
            self.fail(f"expected {', '.join(most)} or {last}, got '{value[:SHOWN]}'", param, ctx)
        return str(value).lower()

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How it stands in the help."""
        del param, ctx
        return f"[{self.name}]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the word can become."""
        del ctx, param
        return [CompletionItem(one) for one in self._known if one.startswith(incomplete.lower())]


class SomeOf(click.ParamType[str]):
    """Some of these words, with commas between them."""

    name = "status,.."

    def __init__(self, known: Sequence[str]) -> None:
        self._known = list(known)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same text, or a mistake in the use."""
        for one in value.split(","):
            if one not in self._known:
                self.fail(f"expected some of {', '.join(self._known)}, got '{one[:SHOWN]}'", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the last word can become."""
        del ctx, param
        done, comma, last = incomplete.rpartition(",")
        return [CompletionItem(done + comma + one) for one in self._known if one.startswith(last)]
