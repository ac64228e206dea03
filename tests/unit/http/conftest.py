"""The HTTP door that most tests here ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web_client import Door, running


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A bundle without a broker, as it is when nothing is set."""
    with running(tmp_path) as started:
        yield started
