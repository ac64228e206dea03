"""For schemathesis: what the API's schema says in words only, because JSON Schema compares no two items.

No wave ends before the one before it, in a job of that size. What is generated is put in that order where it
is otherwise a list of waves; that another order is refused is tested where the properties are.

A job names webhooks of the settings, of which the tests have one.

A list of gateways names each once. Which gateways a selector finds is no matter of the schema.

Any float can be carried, but whole numbers of 64 bits only. To JSON Schema -9e231 is a whole number: no such
float is generated.
"""

from typing import Any

import jsonschema_rs
import schemathesis

from puppetmaster.api import fields
from puppetmaster.api.bodies import parse_job
from puppetmaster.errors import PuppetmasterError
from puppetmaster.model.policy import wave_ends

_NOTIFY = jsonschema_rs.validator_for(fields.at("notify").kind.schema)
_WAVES = jsonschema_rs.validator_for(fields.at("waves").kind.schema)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """The body with its waves in order, with each gateway once, and with destinations that are named."""
    if isinstance(body, list) and all(isinstance(one, dict) for one in body):
        return list({str(one.get("name")): one for one in body}.values())
    if isinstance(body, dict) and isinstance(job := body.get("job"), dict):  # a template
        return {**body, "job": _in_order(job)}
    return _in_order(body) if isinstance(body, dict) else body


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> schemathesis.Case[Any]:
    """The same for bodies that are made value by value."""
    if isinstance(case.body, dict):
        case.body = map_body(context, case.body)
    return case


def _in_order(body: dict[str, Any]) -> dict[str, Any]:
    batch = body.get("batch")
    for item in batch if isinstance(batch, list) else ():
        _name(item)
    if _NOTIFY.is_valid(body.get("notify")):
        body = {**body, "notify": ["ops"]}
    waves: Any = body.get("waves")
    if not _WAVES.is_valid(waves):
        return body
    if "batch" not in body and "rerun" not in body:  # of a template's job, whose size is not known here
        waves = waves[:1]
    return {**body, "waves": ordered(waves, _total(body))}


def _name(item: Any) -> None:
    """Let an item name its gateway: who looks for one may find none, and is refused."""
    request = item.get("__request") if isinstance(item, dict) else None
    if isinstance(request, dict) and isinstance(request.get("destination"), dict):
        request["destination"] = "a"


@schemathesis.hook
def filter_body(context: schemathesis.HookContext, body: Any) -> bool:
    """Whether no float in it is one that the schema takes for a whole number beyond 64 bits."""
    return not _holds_large_float(body)


def _holds_large_float(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_holds_large_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and abs(value) >= 2**63


def ordered(waves: list[Any], total: int) -> list[Any]:
    """As they end in a job of ``total``: numbers and percentages, each once and rising."""
    found = {(float(str(one).rstrip("%")), isinstance(one, str)): one for one in waves}
    order = sorted(found)
    ends = dict(zip(order, wave_ends([found[key] for key in order], total), strict=True))
    return [found[key] for key in sorted(order, key=ends.__getitem__)]


def _total(body: dict[str, Any]) -> int:
    """What the waves of a body count, if it is one that is taken; of what runs again it is not known."""
    try:
        spec = parse_job({**body, "waves": None, "gate": None, "rerun": None}, 50_000)
        return len(spec.gateways()) if len(spec.items) > 1 else spec.total
    except PuppetmasterError:
        return 1
