"""The tests: by wing and kind."""

from pathlib import Path

#: The project.
ROOT = Path(__file__).resolve().parent.parent
