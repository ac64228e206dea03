"""Bodies and queries about gateways: names, labels, selectors and targets, checked as a whole."""

from collections.abc import Callable, Mapping
from typing import Any

from puppetmaster.api import fields, kinds
from puppetmaster.api.kinds import kind, quoted
from puppetmaster.errors import Fault, Faults, Invalid, TooLarge
from puppetmaster.model.gateway import Put, Sought, Target, is_name
from puppetmaster.model.selector import key_fault, parse, value_fault
from puppetmaster.ranges import LIKE_A_RANGE

#: The value of ``registered`` that stands for null.
UNKNOWN = "unknown"
#: Value of ``registered`` in a query -> its value in a gateway.
REGISTERED: Mapping[str, bool | None] = {"true": True, "false": False, UNKNOWN: None}
#: The controller is asked for at most this many gateways for a caller, and is waited for at most this long.
MOST_CHECKED, CHECK_TIMEOUT_S = 1000, 2.0
#: Most names of gateways that are not registered in a plan.
MOST_NAMED = 100


def name_fault(name: Any) -> str | None:
    """What is wrong with the name of a gateway, as a sentence; None: nothing is."""
    if not isinstance(name, str) or not is_name(name):
        got = quoted(name) if isinstance(name, str) else kind(name)
        return f"expected a name without / ? # + and white space, got {got}"
    if len(f"/remote/{name}".encode()) > kinds.RESOURCE_LIMIT_BYTES:
        return f"expected /remote/<name> within {kinds.RESOURCE_LIMIT_BYTES} bytes, got a longer one"
    return None


def parse_put(name: str, body: Any) -> Put:
    """The gateway that a body of PUT /gateways/:name puts. Raises Invalid."""
    faults = fields.body_faults(fields.GATEWAY, body)
    if (wrong := name_fault(name)) is not None:
        faults.add("name", wrong)
    put = _put(name, body, "", faults)
    faults.check()
    return put


def parse_puts(body: Any) -> list[Put]:
    """The gateways that a body of POST /gateways puts.

    Raises:
        Invalid: the body has faults.
        TooLarge: there are more than may be put at once.
    """
    if not isinstance(body, list) or not body:
        got = "an empty list" if body == [] else kind(body)
        raise Invalid([Fault("", f"expected a list of at least one gateway as the body, got {got}")])
    if len(body) > kinds.MOST_GATEWAYS:
        most = kinds.MOST_GATEWAYS
        raise TooLarge(f"There are {len(body)} gateways, and {most} are the most that are put at once.")
    faults = Faults()
    places: dict[str, int] = {}
    puts = []
    for place, one in enumerate(body):
        where = f"[{place}]"
        if not isinstance(one, dict):
            faults.add(where, f"expected an object, got {kind(one)}")
            continue
        fields.faults(fields.NAMED_GATEWAY, one, where, faults)
        name = one.get("name")
        if "name" in one and (wrong := name_fault(name)) is not None:
            faults.add(f"{where}.name", wrong)
        elif isinstance(name, str):
            if (first := places.setdefault(name, place)) != place:
                faults.add(f"{where}.name", f"expected each gateway once, got {quoted(name)} as at [{first}]")
            puts.append(_put(name, one, f"{where}.", faults))
    faults.check()
    return puts


def _put(name: str, body: Mapping[str, Any], where: str, faults: Faults) -> Put:
    labels = body.get("labels")
    if isinstance(labels, dict):
        _check_labels(labels, f"{where}labels", faults)
    return Put(name=name, labels=labels, note=body.get("note"))


def _check_labels(labels: Mapping[str, Any], where: str, faults: Faults) -> None:
    if len(labels) > kinds.MOST_LABELS:
        faults.add(where, f"expected at most {kinds.MOST_LABELS} labels, got {len(labels)}")
    for key, value in labels.items():
        place = f"{where}.{quoted(key)[1:-1]}"
        if (wrong := key_fault(key)) is not None:
            faults.add(place, f"expected as a key {wrong}")
        if not isinstance(value, str):
            faults.add(place, f"expected a string as the value, got {kind(value)}")
        elif (wrong := value_fault(value)) is not None:
            faults.add(place, f"expected as a value {wrong}, got {quoted(value)}")


def selector_fault(text: Any) -> str | None:
    """What is wrong with a selector, as a sentence; None: nothing is."""
    if not isinstance(text, str):
        return f"expected a selector such as site=north, got {kind(text)}"
    try:
        parse(text)
    except ValueError as error:
        return f"expected {error}"
    return None


def pattern_fault(text: Any) -> str | None:
    """What is wrong with a pattern for names, as a sentence; None: nothing is."""
    # Who writes a range into a pattern would get far fewer gateways than meant.
    if isinstance(text, str) and (found := LIKE_A_RANGE.search(text)) is not None:
        return f"expected no range, for [..] is one character in a pattern, got {quoted(found[0])}"
    if isinstance(text, str) and 0 < len(text) <= kinds.NAME_LIMIT:
        return None
    got = quoted(text) if isinstance(text, str) else kind(text)
    return f"expected a pattern such as cg-1* of 1 to {kinds.NAME_LIMIT} characters, got {got}"


def registered_fault(text: Any) -> str | None:
    """What is wrong with a value of ``registered`` in a query, as a sentence; None: nothing is."""
    if text in REGISTERED:
        return None
    return f"expected {', '.join(list(REGISTERED)[:-1])} or {UNKNOWN}, got {quoted(text)}"


def parse_target(given: Mapping[str, Any], where: str, faults: Faults) -> Target | None:
    """The gateways that an item asks for without naming them; None: there are faults."""
    before = faults.total
    for name in given.keys() - _TARGET.keys():
        known = ", ".join(_TARGET)
        faults.add(f"{where}.{quoted(name)[1:-1]}", f"unknown property; known here: {known}")
    for name, fault in _TARGET.items():
        if name in given and (wrong := fault(given[name])) is not None:
            faults.add(f"{where}.{name}", wrong)
    if ("all" in given) == ("selector" in given or "match" in given):
        faults.add(where, "expected either all, or selector, match or both")
    if faults.total > before:
        return None
    return Target(
        selector=given.get("selector"), match=given.get("match"), besides=tuple(given.get("except", ()))
    )


def _all_fault(value: Any) -> str | None:
    return None if value is True else "expected true"


def _besides_fault(value: Any) -> str | None:
    if isinstance(value, list) and 0 < len(value) <= kinds.MOST_BESIDES:
        return next(filter(None, map(pattern_fault, value)), None)
    return f"expected a list of 1 to {kinds.MOST_BESIDES} patterns"


#: Property of a target -> says what is wrong with its value, as a sentence.
_TARGET: Mapping[str, Callable[[Any], str | None]] = {
    "selector": selector_fault,
    "match": pattern_fault,
    "all": _all_fault,
    "except": _besides_fault,
}


def sought(where: Mapping[str, Any]) -> Sought:
    """What a query of GET /gateways asks for; ``api.query`` has checked it."""
    text = where.get("selector")
    return Sought(selector=None if text is None else parse(text), match=where.get("match"))
