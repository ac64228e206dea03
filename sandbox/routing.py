"""How the Sanji controller routes messages: matching, sessions, locks and errors, without any I/O.

What it does was seen on sanji-controller 1.6.2. Bytes and the time go in, messages to publish come out.
"""

import heapq
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Outgoing = list[tuple[str, Message]]  # topic and message, in the order of publishing

MESSAGE_LIMIT = 1_048_576  # bytes; a message of this size is dropped
DEPTH_LIMIT = 2048  # levels of nested objects and arrays
NAME_LIMIT, RESOURCE_LIMIT, TUNNEL_LIMIT = 31, 1023, 63  # bytes; what is longer is cut silently
SIGN = ["controller"]

REFUSALS: dict[int, Message | None] = {
    404: None,
    408: {"message": "session failed due to ttl expired ."},
    423: {"message": "resource is locked"},
    503: {"message": "service unavailable", "log": "failed to lock resource"},
}
ID_USED: Message = {"message": "'id' was used, please use another 'id'"}
NO_MODEL: Message = {"message": "request forbidden", "log": "resource has no subscribed model"}


# --- what passes -------------------------------------------------------------------------------------------


def _integer(digits: str) -> int:
    value = int(digits)
    if not -(2**63) <= value < 2**63:
        raise ValueError("integer beyond 64 bits")
    return value


def _real(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("number beyond a double")
    return value


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_constant)
# json's C scanner gives up at 1,500 levels on some Pythons (3.12.1 does), whatever the recursion limit; its
# twin in Python is slow and does not. The type stubs do not know it.
_deep_decoder = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_constant)
_deep_decoder.scan_once = json.scanner.py_make_scanner(_deep_decoder)  # type: ignore[attr-defined]
_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")


def parse(raw: bytes) -> Message | None:
    """Return the message in `raw`, or None for what the controller drops without a word.

    Dropped are: 1,048,576 bytes and more, invalid UTF-8 or JSON, NaN and Infinity, integers beyond 64 bits, a
    NUL character or a lone surrogate in any string or key, more than 2,048 levels, and what is no object.
    """
    if len(raw) >= MESSAGE_LIMIT:
        return None
    try:
        message = _decode(raw.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    # NUL and surrogates can only come from escapes, and depth only from brackets: most messages need no walk.
    if (b"\\u" in raw or raw.count(b"[") + raw.count(b"{") > DEPTH_LIMIT) and not _speakable(message):
        return None
    return message


def _decode(text: str) -> Any:
    try:
        return _decoder.decode(text)
    except RecursionError:
        return _deep_decoder.decode(text)


def _speakable(message: Message) -> bool:
    level: list[Any] = [message]
    depth = 0
    while level:
        containers = [value for value in level if isinstance(value, dict | list)]
        depth += bool(containers)
        inside = [item for value in containers for item in _items(value)]
        if depth > DEPTH_LIMIT or any(isinstance(item, str) and _UNSPEAKABLE.search(item) for item in inside):
            return False
        level = inside
    return True


def _items(container: dict[str, Any] | list[Any]) -> Iterator[Any]:
    if isinstance(container, dict):
        yield from container
        yield from container.values()
    else:
        yield from container


def is_number(value: object) -> bool:
    """Return whether this is a JSON number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def uint32(value: object) -> int:
    """Return an id as the controller sees it: a C conversion from double to unsigned; 0 means no id.

    The fraction is cut, the rest taken modulo 2^32; what is no number or beyond 64 bits is 0.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    number = float(value)
    return int(number) & 0xFFFFFFFF if -(2.0**63) <= number < 2.0**63 else 0


def cut(text: str, limit: int) -> str:
    """Return `text` with at most `limit` bytes of UTF-8, as the controller's fixed arrays keep it."""
    if len(text) <= limit and text.isascii():
        return text
    return text.encode()[:limit].decode(errors="ignore")


# --- who is there ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """What a bundle registered: a model answers requests, a view gets events and answers without a tunnel."""

    name: str
    role: str
    resources: tuple[str, ...]
    tunnel: str  # the topic on which it listens
    ttl_s: int
    hook: tuple[str, ...] = ()  # names of the models whose successful writes it is told of


def _wildcard(resource: str) -> "re.Pattern[str] | None":
    """Return the pattern for a resource with a segment ``+`` (any non-empty one) or ``#`` (all the rest)."""
    segments = resource.split("/")
    if "+" not in segments and "#" not in segments:
        return None
    expression = ""
    for number, segment in enumerate(segments):
        slash = "/" if number else ""
        if segment == "#":
            expression += f"(?:{slash}.*)?"
            break
        expression += slash + ("[^/]+" if segment == "+" else re.escape(segment))
    return re.compile(expression, re.DOTALL)


class Registry:
    """The components by name, and by the resources that they listen to."""

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}
        self._literal: dict[str, list[Component]] = {}
        self._patterns: list[tuple[re.Pattern[str], Component]] = []
        self._hooks: dict[str, list[Component]] = {}  # the models that hook the model of this name

    def __contains__(self, name: str) -> bool:
        return cut(name, NAME_LIMIT) in self._components

    def get(self, name: str) -> Component | None:
        """Return the component of this name; only 31 bytes of it count."""
        return self._components.get(cut(name, NAME_LIMIT))

    def add(self, component: Component) -> None:
        """Add a component with a name that is not taken."""
        self._components[component.name] = component
        for resource in component.resources:
            pattern = _wildcard(resource)
            if pattern is None:
                self._literal.setdefault(resource, []).append(component)
            else:
                self._patterns.append((pattern, component))
        for name in component.hook:
            self._hooks.setdefault(name, []).append(component)

    def remove(self, component: Component) -> None:
        """Remove a component that was added."""
        del self._components[component.name]
        for index, keys in ((self._literal, component.resources), (self._hooks, component.hook)):
            for key in index.keys() & set(keys):
                index[key] = [other for other in index[key] if other is not component]
                if not index[key]:
                    del index[key]
        if any(other is component for _, other in self._patterns):
            self._patterns = [entry for entry in self._patterns if entry[1] is not component]

    def match(self, resource: str) -> list[Component]:
        """Return who listens to a requested resource, once for each pattern of theirs that matches it.

        What follows the last ``?`` does not count, and nothing past 1,023 bytes.
        """
        path = cut(resource, RESOURCE_LIMIT)
        if "?" in path:
            path = path.rpartition("?")[0]
        matched = list(self._literal.get(path, ()))
        matched += [component for pattern, component in self._patterns if pattern.fullmatch(path)]
        return matched

    def models(self, resource: str) -> list[Component]:
        """Return the models among those who listen to a resource."""
        return [component for component in self.match(resource) if component.role == "model"]

    def views(self, resource: str) -> list[Component]:
        """Return the views among those who listen to a resource."""
        return [component for component in self.match(resource) if component.role == "view"]

    def levels(self, models: list[Component]) -> list[list[Component]]:
        """Return the models of a write and, level by level, those that hook the level before.

        A model that is reached twice ends the search: such a write can not be locked.
        """
        levels = [models]
        seen = {model.name for model in models}
        while hooked := [hooking for model in levels[-1] for hooking in self._hooks.get(model.name, ())]:
            levels.append(hooked)
            known = len(seen)
            seen.update(model.name for model in hooked)
            if len(seen) < known + len(hooked):
                break
        return levels


# --- what is under way -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Session:
    """A request that was passed on and has no final answer yet."""

    id: int
    request: Message
    levels: list[list[Component]]  # levels[0] is being waited for
    waiting: int  # answers that level still owes
    locked: frozenset[str] = frozenset()
    signed: list[str] = field(default_factory=list)  # the models of the levels that have answered
    answers: int = 0
    merged: Message = field(default_factory=dict)  # the object data of all answers so far
    wait_number: int = 0  # of its newest entry among the router's deadlines; older ones are void


class Router:
    """Takes every message on the topic ``/controller`` and says what is to be published.

    Times are seconds of one clock that never goes back. A ttl is counted in whole seconds and looked at only
    in `tick`, so a ttl of n ends between n-1 and n+1 seconds when ticked once a second.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._sessions: dict[int, Session] = {}
        self._locked: set[str] = set()  # names of the models with a write in flight
        self._deadlines: list[tuple[int, int, int]] = []  # heap: second, wait number, session id
        self._wait_numbers = itertools.count(1)

    def is_locked(self, component: Component) -> bool:
        """Return whether a write on this model, or on one that it hooks, is in flight."""
        return component.name in self._locked

    def handle(self, message: Message, now: float) -> Outgoing:
        """Route one parsed message: an event without id, an answer with a code, else a request."""
        number = uint32(message.get("id"))
        code = message.get("code")
        if number and is_number(code) and code != -1:
            return self._answer(number, message, now)
        if not isinstance(message.get("method"), str) or not isinstance(message.get("resource"), str):
            return []
        if number:
            return self._request(number, message, now)
        return [(view.tunnel, message) for view in self.registry.views(message["resource"])]

    def tick(self, now: float) -> Outgoing:
        """End the sessions whose ttl is over: they are answered 408, and a later answer finds nobody."""
        outgoing: Outgoing = []
        while self._deadlines and self._deadlines[0][0] <= int(now):
            _, wait_number, number = heapq.heappop(self._deadlines)
            session = self._sessions.get(number)
            if session is not None and session.wait_number == wait_number:
                self._close(session)
                outgoing += self._refuse(session.id, session.request, 408)
        return outgoing

    def _request(self, number: int, message: Message, now: float) -> Outgoing:
        matched = self.registry.match(message["resource"])
        if not matched:
            return self._refuse(number, message, 404)
        if number in self._sessions:
            return self._refuse(number, message, 403, ID_USED)
        models = [component for component in matched if component.role == "model"]
        writes = message["method"].lower() != "get"
        levels = self.registry.levels(models) if writes else [models]
        names = [model.name for level in levels for model in level]
        if not self._locked.isdisjoint(names):
            return self._refuse(number, message, 423)
        if not models:
            return self._refuse(number, message, 403, NO_MODEL)
        if writes and len(set(names)) < len(names):
            return self._refuse(number, message, 503)
        session = Session(number, message, levels, len(models), frozenset(names if writes else ()))
        self._sessions[number] = session
        self._locked |= session.locked
        self._wait(session, now)
        return [(model.tunnel, message) for model in models]

    def _answer(self, number: int, message: Message, now: float) -> Outgoing:
        """Take an answer from whomever; it is matched by its id alone."""
        session = self._sessions.get(number)
        if session is None:
            return []
        if message["code"] == 200:
            session.answers += 1
            session.waiting -= 1
            if isinstance(message.get("data"), dict):
                session.merged.update(message["data"])
            if session.waiting:
                return []
            if len(session.levels) > 1:
                return self._next_level(session, message, now)
            if session.answers > 1 and session.merged and isinstance(message.get("data", {}), dict):
                message["data"] = session.merged
        self._close(session)
        return self._reply(session.request, message)

    def _next_level(self, session: Session, answer: Message, now: float) -> Outgoing:
        """Tell the models that hook the ones which have just answered."""
        session.signed += [model.name for model in session.levels.pop(0)]
        session.waiting = len(session.levels[0])
        self._wait(session, now)
        told = {key: session.request[key] for key in ("id", "method", "resource")} | {
            "sign": list(session.signed)
        }
        if isinstance(answer.get("data", {}), dict):
            told["data"] = dict(session.merged)
        else:
            told["data"] = answer["data"]
        return [(model.tunnel, told) for model in session.levels[0]]

    def _wait(self, session: Session, now: float) -> None:
        session.wait_number = next(self._wait_numbers)
        ttl_s = max(model.ttl_s for model in session.levels[0])
        heapq.heappush(self._deadlines, (int(now) + ttl_s, session.wait_number, session.id))

    def _close(self, session: Session) -> None:
        del self._sessions[session.id]
        self._locked -= session.locked

    def _refuse(self, number: int, request: Message, code: int, data: Message | None = None) -> Outgoing:
        answer = answer_to(request, code, data or REFUSALS.get(code))
        answer["id"] = number
        return self._reply(request, answer)

    def _reply(self, request: Message, answer: Message) -> Outgoing:
        """Send an answer to the request's tunnel; without one to the views of its resource."""
        tunnel = request.get("tunnel")
        if isinstance(tunnel, str) and tunnel:
            return [(cut(tunnel, TUNNEL_LIMIT), answer)]
        return [(view.tunnel, answer) for view in self.registry.views(request["resource"])]


def answer_to(request: Message, code: int, data: Message | None = None) -> Message:
    """Return the controller's own answer: the method in upper case, no ``data`` key when there is none."""
    answer: Message = {
        "id": request.get("id"),
        "code": code,
        "method": request["method"].upper(),
        "resource": request["resource"],
        "sign": SIGN,
    }
    if data is not None:
        answer["data"] = data
    return answer
