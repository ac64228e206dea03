"""The batch engine of a Sanji gateway."""

import collections
import collections.abc
import json

from puppetmaster import places

__version__: str = json.loads((places.home() / "bundle.json").read_bytes())["version"]

if not hasattr(collections, "Mapping"):
    # voluptuous 0.11.5, which the SDK pins, looks for it where Python kept it until 3.9.
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
