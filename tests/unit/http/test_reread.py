"""A file of the settings that is read again when it has changed."""

import logging
from pathlib import Path

import pytest

from puppetmaster.errors import SettingsError
from puppetmaster.http.reread import Reread

NOTHING: tuple[int, ...] = ()


def numbers(text: str, where: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split()))
    except ValueError:
        raise SettingsError(f"{where}: expected numbers.") from None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "numbers"
    file.write_text("1 2")
    return file


def written(file: Path, text: str) -> None:
    """Write a new file and rename it, as one does who wants nobody to read half of it."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def test_it_is_read_when_it_has_changed_and_not_before(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read = Reread("tokens", str(file), numbers, NOTHING)
    first = read.now()
    assert (first, read.fault) == ((1, 2), None)
    assert read.now() is first
    written(file, "3")
    assert read.now() == (3,)
    assert caplog.messages == [f"{file}: 1 tokens are known"]


def test_while_it_has_faults_what_it_said_before_holds(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    read = Reread("webhooks", str(file), numbers, NOTHING)
    for _ in range(2):
        written(file, "x")
        assert read.now() == read.now() == (1, 2)
        assert read.fault == f"PUPPETMASTER_WEBHOOKS: {file}: expected numbers."
    assert caplog.messages == [f"{read.fault} What it said before holds."] * 2
    assert [record.action for record in caplog.records] == ["webhooks_fault"] * 2  # type: ignore[attr-defined]
    file.unlink()
    assert read.now() == (1, 2)
    assert "cannot be read" in str(read.fault)
    file.write_text("4")
    assert (read.now(), read.fault) == ((4,), None)


def test_a_file_that_can_be_read_again_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after chmod, which changes neither its size nor when it was written."""
    read = Reread("tokens", str(file), numbers, NOTHING)
    written(file, "5")
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "read_text", lambda path, encoding: (_ for _ in ()).throw(PermissionError(13, "no"))
        )
        assert read.now() == (1, 2)
    file.chmod(0o600)
    assert read.now() == (5,)


def test_without_a_file_it_says_nothing(tmp_path: Path) -> None:
    read = Reread("tokens", "", numbers, NOTHING)
    assert (bool(read), read.now(), read.fault) == (False, NOTHING, None)
    with pytest.raises(SettingsError, match=r"PUPPETMASTER_TOKENS: .* cannot be read"):
        Reread("tokens", str(tmp_path / "none"), numbers, NOTHING)
