"""The body of POST /jobs and POST /requests, checked as a whole and turned into a ``JobSpec``.

It has one of three forms: the batch of the API, the older ``destinations`` with ``message``, and the single
``destination`` of POST /requests. All faults are found before the body is refused, each with its place. An
unknown property is a fault, because a job must not go to a whole fleet on account of a misspelt limit.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from json.encoder import encode_basestring_ascii
from typing import Any

from puppetmaster import jsoncodec
from puppetmaster.api import fields, gateway_bodies, kinds
from puppetmaster.api.fields import GIVEN
from puppetmaster.api.kinds import kind, quoted
from puppetmaster.errors import Fault, Faults, Invalid, TooLarge
from puppetmaster.model.gateway import Target
from puppetmaster.model.message import DEFAULT_CAPACITY, Capacity, EncodedCommand
from puppetmaster.model.policy import out_of_order
from puppetmaster.model.spec import ItemSpec, JobSpec, Rerun
from puppetmaster.model.template import NewTemplate, Schedule

#: The longest tunnel and the longest id that a message may have.
_TUNNEL = "t" * 63
_ID = 2**32 - 1
#: Most bytes of the job of a template.
MOST_KEPT_BYTES = 1_000_000


def parse_job(
    body: Any,
    max_requests: int,
    capacity: Capacity = DEFAULT_CAPACITY,
    hooks: Collection[str] | None = None,
) -> JobSpec:
    """The job that a body of POST /jobs asks for. ``max_requests``: the most that it may have.

    ``hooks`` are the names of webhooks that it may name; None: any.

    Raises:
        Invalid: the body has faults.
        TooLarge: the job has too many requests.
    """
    if isinstance(body, dict) and "batch" not in body and ("destinations" in body or "message" in body):
        return _parse_compat(body, "destinations", max_requests, capacity)
    faults = fields.body_faults(fields.JOB, body)
    if ("batch" in body) == (body.get("rerun") is not None):
        faults.add("batch", "expected either a batch or rerun")
    if body.get("gate") is not None and body.get("waves") is None:
        faults.add("gate", "expected waves beside it, between which it stands")
    _check_hooks(body.get("notify"), hooks, faults)
    items = []
    if isinstance(body.get("batch"), list):
        if len(body["batch"]) > max_requests:
            faults.check()
            raise _too_large(len(body["batch"]), max_requests)
        for index, item in enumerate(body["batch"]):
            items += _item(item, f"batch[{index}]", faults, capacity)
        if sum(one.target is not None for one in items) > kinds.MOST_TARGETS:
            faults.add("batch", f"expected at most {kinds.MOST_TARGETS} items that look for their gateways")
    properties = {name: value for name, value in body.items() if name != "batch"}
    return _spec(properties, items, faults, max_requests)


def _check_hooks(names: Any, hooks: Collection[str] | None, faults: Faults) -> None:
    if hooks is None or not isinstance(names, list):
        return
    known = f"one of {', '.join(hooks)}" if hooks else "none, because the settings name no webhook"
    for index, name in enumerate(names):
        if isinstance(name, str) and name not in hooks:
            faults.add(f"notify[{index}]", f"expected {known}, got {quoted(name)}")


def parse_template(body: Any, parse: Callable[[Any], JobSpec], *, new: bool = True) -> NewTemplate:
    """The template that a body of POST /templates, or (not ``new``) of PUT /templates/:id, asks for.

    ``parse`` parses its job, as ``parse_job`` does.

    Raises:
        Invalid: the body has faults.
        TooLarge: its job has too many requests, or is too large to be kept.
    """
    faults = fields.body_faults(fields.TEMPLATE if new else fields.TEMPLATE_CHANGE, body)
    job, schedule = body.get("job"), body.get("schedule")
    if isinstance(job, dict):
        _check_kept(job, faults, parse)
    faults.check()
    return NewTemplate(
        name=body.get("name"),
        job=None if job is None else fields.plain(job),
        schedule=None if schedule is None else Schedule.from_document(schedule),
        schedules="schedule" in body,
    )


def _check_kept(job: Mapping[str, Any], faults: Faults, parse: Callable[[Any], JobSpec]) -> None:
    """Check the job of a template. Raises TooLarge."""
    for name in fields.NOT_KEPT:
        if job.get(name) is not None:
            faults.add(f"job.{name}", "expected no such property in the job of a template")
    kept = {name: value for name, value in job.items() if name not in fields.NOT_KEPT}
    if "batch" not in kept:
        faults.add("job.batch", "expected this property, got none")
        return
    try:
        parse(kept)
    except Invalid as error:
        faults.take(Fault(f"job.{path}" if path else "job", message) for path, message in error.faults)
        return
    if (size := len(json.dumps(job))) > MOST_KEPT_BYTES:
        raise TooLarge(
            f"The job has {size} bytes, and {MOST_KEPT_BYTES} are the most that a template keeps: "
            "ask for its gateways by selector, match or all instead of naming them."
        )


def parse_start(kept: Mapping[str, Any], body: Any, parse: Callable[[Any], JobSpec]) -> JobSpec:
    """The job of a template, with what a body of POST /templates/:id/jobs says over it.

    ``parse`` parses both together, as ``parse_job`` does.

    Raises:
        Invalid: the body, or what comes of both, has faults.
        TooLarge: the job has too many requests.
    """
    faults = fields.body_faults(fields.START, body)
    try:
        spec = parse({**kept, **body})
    except Invalid as error:
        faults.take(one for one in error.faults if one not in faults)
    faults.check()
    return spec


def specified(
    job: Mapping[str, Any],
    find: Callable[[Target], tuple[str, ...]],
    max_requests: int,
    capacity: Capacity = DEFAULT_CAPACITY,
) -> JobSpec:
    """The job of a template as it would be now. Raises what ``parse_job`` and ``aimed`` raise."""
    spec = parse_job(dict(job), max_requests, capacity)
    return aimed(spec, find, max_requests, capacity) if spec.seeks else spec


def parse_request(body: Any, max_requests: int, capacity: Capacity = DEFAULT_CAPACITY) -> JobSpec:
    """The job of one request that a body of POST /requests asks for. Raises Invalid."""
    return _parse_compat(body, "destination", max_requests, capacity)


def _parse_compat(body: Any, where: str, max_requests: int, capacity: Capacity) -> JobSpec:
    faults = fields.body_faults(fields.REQUEST if where == "destination" else fields.JOB_COMPAT, body)
    destinations = _compat_destinations(body, where, faults)
    items = []
    if isinstance(message := body.get("message"), dict):
        fields.faults(fields.COMPAT_MESSAGE, message, "message", faults)
        items += _item_of(message, destinations, "message", faults, capacity)
    options = body.get("options")
    timeout_ms = options.get("timeout") if isinstance(options, dict) else None
    properties = {"key": body.get("key")}
    if timeout_ms and not faults:
        properties["requestTimeout"] = timeout_ms / 1000
    return _spec(properties, items, faults, max_requests)


def _compat_destinations(body: Mapping[str, Any], where: str, faults: Faults) -> tuple[str, ...]:
    if where not in body:
        return ()
    if where == "destination" and not isinstance(body[where], str):
        faults.add(where, f"expected one destination as a string, got {kind(body[where])}")
        return ()
    return _destinations(body[where], where, faults)


def _spec(
    properties: dict[str, Any],
    items: list[ItemSpec],
    faults: Faults,
    max_requests: int,
) -> JobSpec:
    faults.check()
    properties = fields.plain(properties)
    timeout = properties.get("timeout")
    rerun = properties.get("rerun")
    spec = JobSpec(
        items=tuple(items),
        name=properties.get("name"),
        key=properties.get("key"),
        timeout_s=None if timeout == "infinity" else timeout,
        request_timeout_s=properties.get("requestTimeout"),
        start_at=properties.get("startAt"),
        rerun=None if rerun is None else Rerun(rerun["job"], tuple(rerun.get("status", kinds.RERUN))),
        dry_run=bool(properties.get("dryRun")),
        given={name: properties[name] for name in GIVEN if properties.get(name) is not None},
    )
    if not spec.seeks:
        check_size(spec, max_requests)
    return replace(spec, digest=digest(spec)) if spec.key is not None else spec


def aimed(
    spec: JobSpec,
    find: Callable[[Target], tuple[str, ...]],
    max_requests: int,
    capacity: Capacity = DEFAULT_CAPACITY,
) -> JobSpec:
    """The job with the gateways that its items look for, which ``find`` finds, and with its ``targets``.

    Raises:
        Invalid: nothing was found for an item, or its message to one of them is too long.
        TooLarge: the job has more than ``max_requests`` requests.
    """
    faults = Faults()
    items, targets = [], []
    for place, item in enumerate(spec.items):
        if item.target is None:
            items.append(item)
            continue
        names = find(item.target)
        if not names:
            said = "expected gateways that are known: GET /gateways lists them; none of them fits"
            faults.add(f"batch[{place}].__request.destination", said)
        elif (wrong := _too_long(item, names, capacity)) is not None:
            faults.add(f"batch[{place}].data", wrong)
        items.append(replace(item, destinations=names))
        targets.append({"item": place, **item.target.asked, "found": len(names)})
    faults.check()
    found = replace(spec, items=tuple(items), given={**spec.given, "targets": targets})
    check_size(found, max_requests)
    return found


def check_size(spec: JobSpec, max_requests: int) -> None:
    """Check a job of known size. Of a rerun, and of one that ``seeks``, the size is found later.

    Raises:
        TooLarge: the job has more than ``max_requests`` requests.
        Invalid: for this size a wave would end before the wave before it.
    """
    if spec.total > max_requests:
        raise _too_large(spec.total, max_requests)
    waves, faults = spec.given.get("waves", ()) if spec.total else (), Faults()
    total, what = (len(spec.gateways()), "gateways") if spec.by_gateway else (spec.total, "requests")
    for place, before, end in out_of_order(waves, total):
        first, then = (json.dumps(wave) for wave in waves[place - 1 : place + 1])
        said = f"expected a wave that ends behind the one before it: of {total} {what}, {first} ends"
        faults.add(f"waves[{place}]", f"{said} at {before}, and {then} at {end}")
    faults.check()


def _too_large(total: int, most: int) -> TooLarge:
    return TooLarge(
        f"The batch makes {total} requests, and {most} are the most that one job may have: "
        "split it, or raise PUPPETMASTER_MAX_REQUESTS."
    )


def digest(spec: JobSpec) -> str:
    """A SHA-256 of what a body asks for. It is the same for the same job, however the body is written."""
    asked = asdict(replace(spec, digest="", dry_run=False))
    del asked["template"]  # it does not change what is done
    del asked["created_by"]  # whoever asks for the same job again is given the first one
    for item in asked["items"]:
        if item["target"] is None:  # digests of earlier versions stay as they are
            del item["target"]
    found = hashlib.sha256()
    for piece in json.JSONEncoder(sort_keys=True).iterencode(asked):  # in pieces, because it may be large
        found.update(piece.encode("ascii"))
    return found.hexdigest()


def _item(item: Any, path: str, faults: Faults, capacity: Capacity) -> list[ItemSpec]:
    if not isinstance(item, dict):
        faults.add(path, f"expected an object, got {kind(item)}")
        return []
    fields.faults(fields.ITEM, item, path, faults)
    places = [("__destination", item)]
    if isinstance(inner := item.get("__request"), dict):
        places = [("destination", inner), ("__destination", inner), *places]
    found = [(name, holder) for name, holder in places if name in holder]
    destinations: tuple[str, ...] = ()
    target = None
    if len(found) == 1:
        name, holder = found[0]
        where = f"{path}.{name}" if holder is item else f"{path}.__request.{name}"
        if isinstance(asked := holder[name], dict):
            target = gateway_bodies.parse_target(asked, where, faults)
        else:
            destinations = _destinations(asked, where, faults)
    else:
        many = "exactly one list of destinations, got several" if found else "the destinations, got none"
        faults.add(f"{path}.__request.destination", f"expected {many}")
    return _item_of(item, destinations, path, faults, capacity, target)


def _item_of(
    message: Mapping[str, Any],
    destinations: tuple[str, ...],
    path: str,
    faults: Faults,
    capacity: Capacity,
    target: Target | None = None,
) -> list[ItemSpec]:
    data, method, resource = message.get("data", {}), message.get("method"), message.get("resource")
    before = faults.total
    faults.take(jsoncodec.each_fault(data, f"{path}.data"))
    if faults.total > before or not (destinations or target):
        return []
    if not isinstance(method, str) or not isinstance(resource, str):
        return []
    item = ItemSpec(method.lower(), resource, data, destinations, fields.plain(message.get("code")), target)
    if item.method not in kinds.METHODS:
        return []
    if destinations and (wrong := _too_long(item, destinations, capacity)) is not None:
        faults.add(f"{path}.data", wrong)
    return [item]


def _too_long(item: ItemSpec, destinations: tuple[str, ...], capacity: Capacity) -> str | None:
    """That the item's message to one of these is too long, as a sentence; None: it is not."""
    longest = max(destinations, key=lambda destination: len(encode_basestring_ascii(destination)))
    size = capacity.size(_command(item).message(_ID, longest).payload)
    most = capacity.message_bytes
    if size <= most:
        return None
    who = "what the controller passes"
    if capacity.limited:
        who = "indented as the controller passes it on, what the broker carries"
    return f"expected a message below {most + 1} bytes, which is {who}, got {size}"


def _command(item: ItemSpec) -> EncodedCommand:
    body = {"code": 999, "method": item.method, "resource": item.resource, "data": item.data}
    return EncodedCommand(body, _TUNNEL)


def _destinations(found: Any, where: str, faults: Faults) -> tuple[str, ...]:
    if isinstance(found, str):
        names, place = [found], (lambda _: where)
    elif isinstance(found, list) and found:
        names, place = found, (lambda index: f"{where}[{index}]")
    else:
        got = "an empty list" if found == [] else kind(found)
        faults.add(where, f"expected a string or a list of at least one string, got {got}")
        return ()
    return _checked(names, place, faults)


def _checked(names: list[Any], place: Callable[[int], str], faults: Faults) -> tuple[str, ...]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if (wrong := gateway_bodies.name_fault(name)) is not None:
            faults.add(place(index), wrong)
        elif name in first:
            said = f"expected each destination once in an item, got {quoted(name)} as at {first[name]}"
            faults.add(place(index), said)
        else:
            first[name] = index
    return tuple(first)
