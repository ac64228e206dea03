"""The batch engine of a Sanji gateway."""

import collections
import collections.abc

__version__ = "0.1.0"

if not hasattr(collections, "Mapping"):
    # voluptuous 0.11.5, which the SDK pins, looks for it where Python kept it until 3.9.
    collections.Mapping = collections.abc.Mapping  # type: ignore[attr-defined]
