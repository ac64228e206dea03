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
# Bytes; what is longer is cut silently.
NAME_LIMIT, ROLE_LIMIT, TUNNEL_LIMIT, RESOURCE_LIMIT = 31, 15, 63, 1023
SIGN = ["controller"]
METHODS = {"GET", "POST", "PUT", "DELETE"}

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
        message = _decode(raw.partition(b"\0")[0].decode())  # a string of C ends there
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


def _pattern(resource: str) -> "re.Pattern[str] | None":
    """Return what a registered resource with ``+`` or ``#`` in it matches; None for one without.

    Both are wildcards inside a segment too. ``+`` takes the rest of the segment, at least a character; ``#``
    takes all the rest, at least a character, and what follows it in the pattern does not count.
    """
    before, rest, _ = resource.partition("#")
    if not rest and "+" not in before:
        return None
    expression = "[^/]++".join(map(re.escape, before.split("+")))
    return re.compile(expression + (".+" if rest else ""), re.DOTALL)


@dataclass(slots=True, eq=False)
class Resource:
    """A registered resource and who listens to it, in the order of registration."""

    name: str
    number: int  # grows with each new resource
    pattern: "re.Pattern[str] | None"
    components: list[Component]


class Registry:
    """The components by name, and by the resources that they listen to."""

    def __init__(self) -> None:
        self._components: dict[str, Component] = {}
        self._resources: dict[str, Resource] = {}
        self._patterns: dict[str, Resource] = {}  # those of them that have wildcards
        self._hooks: dict[str, list[Component]] = {}  # the components that hook the model of this name
        self._numbers = itertools.count()

    def __contains__(self, name: str) -> bool:
        return cut(name, NAME_LIMIT) in self._components

    def get(self, name: str) -> Component | None:
        """Return the component of this name; only 31 bytes of it count."""
        return self._components.get(cut(name, NAME_LIMIT))

    def add(self, component: Component) -> None:
        """Add a component with a name that is not taken."""
        self._components[component.name] = component
        for name in component.resources:
            resource = self._resources.get(name)
            if resource is None:
                resource = Resource(name, next(self._numbers), _pattern(name), [])
                self._resources[name] = resource
                if resource.pattern:
                    self._patterns[name] = resource
            resource.components.append(component)
        for name in dict.fromkeys(component.hook):
            self._hooks.setdefault(name, []).append(component)

    def remove(self, component: Component) -> None:
        """Remove a component that was added."""
        del self._components[component.name]
        for name in component.resources:
            if name in self._resources and _without(self._resources[name].components, component):
                del self._resources[name]
                self._patterns.pop(name, None)
        for name in component.hook:
            if name in self._hooks and _without(self._hooks[name], component):
                del self._hooks[name]

    def match(self, resource: str) -> list[Resource]:
        """Return the registered resources that match a requested one, the oldest first.

        What follows the last ``?`` does not count, and nothing past 1,023 bytes.
        """
        path = cut(resource, RESOURCE_LIMIT)
        if "?" in path:
            path = path.rpartition("?")[0]
        matched = [each for each in self._patterns.values() if each.pattern and each.pattern.fullmatch(path)]
        literal = self._resources.get(path)
        if literal is None or literal in matched:
            return matched
        matched.append(literal)
        if literal.pattern is None:
            matched.sort(key=lambda each: each.number)
        return matched

    def listeners(self, matched: list[Resource], role: str) -> list[Component]:
        """Return who listens in this role, once for each of these resources."""
        return [component for each in matched for component in each.components if component.role == role]

    def views(self, resource: str) -> list[Component]:
        """Return the views among those who listen to a resource."""
        return self.listeners(self.match(resource), "view")

    def owned(self, models: list[Component]) -> list[str]:
        """Return all resources of these models, those of one model oldest first, none twice."""
        names: dict[str, None] = {}
        for model in models:
            names |= dict.fromkeys(sorted(model.resources, key=lambda name: self._resources[name].number))
        return list(names)

    def levels(self, models: list[Component]) -> list[list[Component]]:
        """Return the models of a write and, level by level, those that hook the level before.

        A model that is reached twice ends the search: such a write can not be locked.
        """
        levels = [models]
        seen = {model.name for model in models}
        while hooked := [
            hooking
            for model in levels[-1]
            for hooking in self._hooks.get(model.name, ())
            if hooking.role == "model"
        ]:
            levels.append(hooked)
            known = len(seen)
            seen.update(model.name for model in hooked)
            if len(seen) < known + len(hooked):
                break
        return levels


def _without(components: list[Component], gone: Component) -> bool:
    """Take a component out of a list; return whether nobody is left."""
    components[:] = [other for other in components if other is not gone]
    return not components


# --- what is under way -------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Session:
    """A request that was passed on and has no final answer yet."""

    id: int
    request: Message
    levels: list[list[Component]]  # levels[0] is being waited for
    waiting: int  # answers that level still owes
    views: list[Component]  # they get the answer when the request names no tunnel
    locked: frozenset[str] = frozenset()  # names of models, and resources
    answers: list[Message] = field(default_factory=list)  # the data of all answers so far that are objects
    wait_number: int = 0  # of its newest entry among the router's deadlines; older ones are void


class Router:
    """Takes every message on the topic ``/controller`` and says what is to be published.

    A ttl is counted in whole seconds of a clock that never goes back, and only when `tick` looks at it: each
    second that has begun since the last look counts. So a ttl of n, looked at once a second, ends between n-1
    and n+1 seconds.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._sessions: dict[int, Session] = {}
        self._locked: set[str] = set()  # models and resources with a write in flight
        self._deadlines: list[tuple[int, int, int]] = []  # heap: counted second, wait number, session id
        self._wait_numbers = itertools.count(1)
        self._second: int | None = None  # when `tick` looked last
        self._counted = 0  # seconds so far

    def is_locked(self, component: Component) -> bool:
        """Return whether a write on this model, on its resources, or on one that it hooks is in flight."""
        return not self._locked.isdisjoint({_model(component.name), *map(_resource, component.resources)})

    def is_resource_locked(self, resource: str) -> bool:
        """Return whether a write has locked a registered resource of this very name."""
        return _resource(resource) in self._locked

    def handle(self, message: Message) -> Outgoing:
        """Route one parsed message: an event without id, an answer with a code, else a request."""
        number = uint32(message.get("id"))
        code = code_of(message)
        if number and code is not None:
            return self._answer(number, code, message)
        if not is_complete(message):
            return []
        if number:
            return self._request(number, message)
        return [(view.tunnel, message) for view in self.registry.views(message["resource"])]

    def tick(self, now_s: float) -> Outgoing:
        """End the sessions whose ttl is over: they are answered 408, and a later answer finds nobody."""
        passed = 0 if self._second is None else int(now_s) - self._second
        self._second = int(now_s)
        self._counted += passed
        outgoing: Outgoing = []
        while passed and self._deadlines and self._deadlines[0][0] <= self._counted:
            _, wait_number, number = heapq.heappop(self._deadlines)
            session = self._sessions.get(number)
            if session is not None and session.wait_number == wait_number:
                self._close(session)
                outgoing += self._refuse(session.request, 408, session.views)
        return outgoing

    def _request(self, number: int, message: Message) -> Outgoing:
        matched = self.registry.match(message["resource"])
        views = self.registry.listeners(matched, "view")
        if not matched:
            return self._refuse(message, 404, views)
        if number in self._sessions:
            return self._refuse(message, 403, views, ID_USED)
        if any(self.is_resource_locked(each.name) for each in matched):
            return self._refuse(message, 423, views)
        models = self.registry.listeners(matched, "model")
        writes = message["method"].lower() != "get"
        levels = self.registry.levels(models) if writes else [models]
        reached = [model for level in levels for model in level]
        names = [_model(model.name) for model in reached]
        if not self._locked.isdisjoint(names):
            return self._refuse(message, 423, views)
        if not models:
            return self._refuse(message, 403, views, NO_MODEL)
        locked: frozenset[str] = frozenset()
        if writes:
            locked = frozenset([*names, *map(_resource, self.registry.owned(reached))])
            if len(set(names)) < len(names) or not self._locked.isdisjoint(locked):
                self._locked -= locked  # a fault of the controller: also what somebody else has locked
                return self._refuse(message, 503, views)
        session = Session(number, message, levels, len(models), views, locked)
        self._sessions[number] = session
        self._locked |= locked
        self._wait(session)
        return [(model.tunnel, message) for model in models]

    def _answer(self, number: int, code: int, message: Message) -> Outgoing:
        """Take an answer from whomever; it is matched by its id alone."""
        session = self._sessions.get(number)
        if session is None:
            return []
        if isinstance(message.get("data"), dict):
            session.answers.append(message["data"])
        if code == 200:
            session.waiting -= 1
            if session.waiting:
                return []
            if isinstance(message.get("data"), dict):
                # Its own keys come first, and its own values last.
                message["data"] = dict(
                    itertools.chain.from_iterable(
                        data.items() for data in (message["data"], *session.answers)
                    )
                )
            if len(session.levels) > 1:
                return self._next_level(session, message)
        self._close(session)
        return _reply(session.request, message, session.views)

    def _next_level(self, session: Session, answer: Message) -> Outgoing:
        """Give the last answer, without its code, to the models that hook those which have answered."""
        session.levels.pop(0)
        session.waiting = len(session.levels[0])
        self._wait(session)
        told = {key: value for key, value in answer.items() if key != "code"}
        return [(model.tunnel, told) for model in session.levels[0]]

    def _wait(self, session: Session) -> None:
        session.wait_number = next(self._wait_numbers)
        ttl_s = min(model.ttl_s for model in session.levels[0])
        heapq.heappush(self._deadlines, (self._counted + ttl_s, session.wait_number, session.id))

    def _close(self, session: Session) -> None:
        del self._sessions[session.id]
        self._locked -= session.locked

    def _refuse(
        self, request: Message, code: int, views: list[Component], data: Message | None = None
    ) -> Outgoing:
        return _reply(request, answer_to(request, code, data or REFUSALS.get(code)), views)


def _model(name: str) -> str:
    return f"model {name}"


def _resource(name: str) -> str:
    return f"resource {name}"


def _reply(request: Message, answer: Message, views: list[Component]) -> Outgoing:
    """Send an answer to the request's tunnel; without one to the views of its resource."""
    tunnel = request.get("tunnel")
    if isinstance(tunnel, str) and tunnel:
        return [(cut(tunnel, TUNNEL_LIMIT), answer)]
    return [(view.tunnel, answer) for view in views]


def code_of(message: Message) -> int | None:
    """Return the code without its fraction, None when the message is no answer: no number, or -1."""
    code = message.get("code")
    if not isinstance(code, int | float) or isinstance(code, bool) or int(code) == -1:
        return None
    return int(code)


def is_complete(message: Message) -> bool:
    """Return whether a request or event has a method and a resource; without them it is dropped."""
    resource = message.get("resource")
    return isinstance(message.get("method"), str) and isinstance(resource, str) and resource != ""


def answer_to(request: Message, code: int, data: Message | None = None) -> Message:
    """Return the controller's own answer.

    The id is what the controller made of it, a known method is in upper case and another one is left out, the
    resource is cut, and without data there is no key ``data``.
    """
    method = request["method"].upper()
    answer: Message = {
        "id": uint32(request.get("id")),
        "code": code,
        **({"method": method} if method in METHODS else {}),
        "resource": cut(request["resource"], RESOURCE_LIMIT),
        "sign": SIGN,
    }
    if data is not None:
        answer["data"] = data
    return answer
