"""What is proposed to be typed next begins as what was typed."""

from pathlib import Path

import pytest

from puppetmaster.cli import called
from tests import ROOT

MODULE = "/somewhere/puppetmaster/__main__.py"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is called, with the command on the path."""
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "bin" / "puppetmaster"
    installed.parent.mkdir()
    installed.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(installed.parent))
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "typed", "name"),
    [
        ([MODULE, "list"], ["python", "-m", "puppetmaster", "list"], "python -m puppetmaster"),
        (
            [MODULE],
            [".venv/bin/python", "-X", "dev", "-m", "puppetmaster"],
            ".venv/bin/python -X dev -m puppetmaster",
        ),
        ([MODULE], ["DIR/my venv/python", "-m", "puppetmaster"], "'my venv/python' -m puppetmaster"),
        ([".venv/bin/puppetmaster", "list"], [], ".venv/bin/puppetmaster"),
        (["DIR/.venv/bin/puppetmaster", "list"], [], ".venv/bin/puppetmaster"),
        (["DIR/puppetmaster", "list"], [], "./puppetmaster"),
        (["/else/where/puppetmaster", "list"], [], "/else/where/puppetmaster"),
        (["DIR/bin/puppetmaster", "list"], [], "puppetmaster"),
        (["/usr/lib/python/pytest/__main__.py"], ["python", "-m", "pytest"], "puppetmaster"),
    ],
)
def test_how_it_was_called(argv: list[str], typed: list[str], name: str, directory: Path) -> None:
    argv, typed = ([word.replace("DIR", str(directory)) for word in words] for words in (argv, typed))
    assert called.named(argv, typed, {}) == name


@pytest.mark.parametrize(
    ("script", "name"), [("DIR/bin/puppetmaster", "puppetmaster"), ("./puppetmaster", "./puppetmaster")]
)
def test_a_script_says_how_it_was_called(script: str, name: str, directory: Path) -> None:
    """As the installed one does, behind which is a module of Python."""
    said = {called.VARIABLE: script.replace("DIR", str(directory))}
    assert called.named([MODULE], ["/usr/lib/python", "-m", "puppetmaster"], said) == name


def test_the_installed_script_says_it() -> None:
    assert f'{called.VARIABLE}="$0"' in (ROOT / "build-deb" / "puppetmaster.sh").read_text()


def test_a_command() -> None:
    assert called.command("watch", 7) == "puppetmaster watch 7"
