"""Where the bundle finds what is no module of it, however it was installed."""

from pathlib import Path

import pytest

from puppetmaster import places
from tests import ROOT


def test_in_a_clone_everything_stands_beside_the_package() -> None:
    assert places.home() == ROOT
    assert places.data_dir() == ROOT / "data"
    assert (places.home() / "schema" / "openapi.json").is_file()


def test_a_wheel_has_it_in_its_environment_and_the_store_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places.home(tmp_path, tmp_path / "share") == tmp_path / "share"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert places.data_dir(tmp_path) == tmp_path / "state" / "puppetmaster"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.data_dir(tmp_path) == tmp_path / ".local" / "state" / "puppetmaster"
