"""For schemathesis: what the API's schema says in words only, because JSON Schema compares no two items.

Each wave ends behind the one before it. What is generated is put in that order where it is otherwise a
list of waves; that another order is refused is tested where the properties are.
"""

from typing import Any

import jsonschema_rs
import schemathesis

from puppetmaster.api import fields

_WAVES = jsonschema_rs.validator_for(fields.at("waves").kind.schema)


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """The body with its waves in order."""
    waves: Any = body.get("waves") if isinstance(body, dict) else None
    return {**body, "waves": ordered(waves)} if _WAVES.is_valid(waves) else body


def ordered(waves: list[Any]) -> list[Any]:
    """Numbers first, then percentages, each once and rising."""
    numbers = {float(one): one for one in waves if not isinstance(one, str)}
    shares = {float(one[:-1]): one for one in waves if isinstance(one, str)}
    return [some[key] for some in (numbers, shares) for key in sorted(some)]
