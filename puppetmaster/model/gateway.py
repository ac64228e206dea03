"""Gateways that are known by name, with labels and a note, and how some of them are asked for."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, NamedTuple

from puppetmaster.model.selector import Selector, parse

_NAME = re.compile(r"[^/?#+\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def is_name(text: str) -> bool:
    """Whether a gateway can have this name, apart from its length."""
    return _NAME.fullmatch(text) is not None


def bare(name: str) -> dict[str, Any]:
    """The document of a gateway of which only its name is known. A destination of a job becomes that."""
    return {"name": name, "labels": {}, "note": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A gateway that somebody put here, that was a destination, or that registered. An immutable value."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    #: A sentence of its keeper; None: it has none.
    note: str | None = None
    #: Whether it was seen to register, and nobody has named it since.
    discovered: bool = False

    def document(self) -> dict[str, Any]:
        """The gateway as it is stored."""
        found = {**bare(self.name), "labels": dict(self.labels), "note": self.note}
        return {**found, "discovered": True} if self.discovered else found

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Gateway":
        """The gateway that ``document()`` was made of."""
        return cls(
            name=document["name"],
            labels=document["labels"],
            note=document["note"],
            discovered=document.get("discovered", False),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What a caller puts: a gateway, or its new labels or note."""

    name: str
    #: All its labels; None: they stay.
    labels: Mapping[str, str] | None = None
    #: Its note, empty for none; None: it stays.
    note: str | None = None

    def onto(self, known: Gateway | None) -> Gateway:
        """The gateway after that; ``known`` is as it was (None: it was not known)."""
        old = known or Gateway(name=self.name)
        labels = old.labels if self.labels is None else self.labels
        return Gateway(
            name=self.name, labels=labels, note=old.note if self.note is None else self.note or None
        )


class Relabelled(NamedTuple):
    """That somebody has changed the labels or the note of a gateway."""

    name: str
    at: str
    #: The name of the caller.
    by: str
    #: As it was; None: it was not known.
    before: Gateway | None
    #: As it is now; None: it was forgotten.
    after: Gateway | None

    def view(self) -> dict[str, Any]:
        """What is told of it: what it has now, and what it had."""
        event = "forgotten" if self.after is None else "labeled"
        told = {"gateway": self.name, "at": self.at, "event": event, "by": self.by}
        return {**told, **_told(self.after or Gateway(name="")), "before": self.before and _told(self.before)}


def _told(gateway: Gateway) -> dict[str, Any]:
    return {"labels": dict(gateway.labels), "note": gateway.note}


def glob(pattern: str) -> Callable[[str], bool]:
    """Whether a name fits a pattern of ``*``, ``?`` and ``[..]``; letters count as they are."""
    fits = re.compile(translate(pattern)).match
    return lambda name: fits(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which gateways are meant: those that fit all of this."""

    #: None: any labels.
    selector: Selector | None = None
    #: A pattern for the name; None: any name.
    match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The destinations of an item, as a caller described them instead of naming them."""

    #: As in ``Sought``, as text.
    selector: str | None = None
    match: str | None = None
    #: Patterns of the names that are left out.
    besides: tuple[str, ...] = ()

    @property
    def sought(self) -> Sought:
        """What to look for. Neither a selector nor a pattern means all gateways."""
        return Sought(selector=None if self.selector is None else parse(self.selector), match=self.match)

    def without(self, names: list[str]) -> tuple[str, ...]:
        """These names without the names that are left out."""
        out = [glob(pattern) for pattern in self.besides]
        return tuple(name for name in names if not any(fits(name) for fits in out))

    @property
    def asked(self) -> dict[str, Any]:
        """The target as a job shows it: as it was asked for."""
        found: dict[str, Any] = {"selector": self.selector, "match": self.match}
        found = {name: value for name, value in found.items() if value is not None} or {"all": True}
        return {**found, **({"except": list(self.besides)} if self.besides else {})}
