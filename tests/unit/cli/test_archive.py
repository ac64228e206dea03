"""Export and import: they use the data directory itself, and need no bundle that answers."""

import json
from pathlib import Path

import pytest

from puppetmaster.cli import archive
from puppetmaster.store.sqlite.store import SqliteStore
from tests.terminal import typed

run = typed("http://127.0.0.1:1")


def test_the_store_goes_into_a_file_and_back(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "one").close()
    file = tmp_path / "jobs.json"
    result = run("export", str(file), "--data-dir", str(tmp_path / "one"))
    assert (result.exit_code, result.stdout) == (0, f"0 jobs are in {file}.\n")
    assert json.loads(file.read_text())["meta"]["1"]["nextJob"] == 1
    result = run("import", str(file), "--data-dir", str(tmp_path / "two"), "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"jobs": 0})
    again = run("export", str(file), "--data-dir", str(tmp_path / "two"))
    said = f"puppetmaster: {file} exists: name another file, or move that one away.\n"
    assert (again.exit_code, again.stderr) == (1, said)


def test_without_an_option_the_settings_say_where_the_store_is(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "data").close()
    file = tmp_path / "jobs.json"
    assert run("export", str(file), PUPPETMASTER_DATA_DIR=str(tmp_path / "data")).exit_code == 0
    result = run("import", str(file), PUPPETMASTER_DATA_DIR=str(tmp_path / "other"))
    assert (result.exit_code, result.stdout) == (0, f"0 jobs are in {tmp_path / 'other'}.\n")


@pytest.mark.parametrize("command", ["export", "import"])
def test_what_the_store_says_against_it_ends_the_command(command: str, tmp_path: Path) -> None:
    result = run(command, str(tmp_path / "jobs.json"), "--data-dir", str(tmp_path / "none"))
    assert (result.exit_code, result.stdout) == (archive.Failed.exit_code, "")
    assert result.stderr.startswith("puppetmaster: ")
    assert str(tmp_path) in result.stderr


def test_settings_that_are_wrong_end_it_too(tmp_path: Path) -> None:
    result = run("export", str(tmp_path / "jobs.json"), PUPPETMASTER_KEEP_DAYS="many")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "PUPPETMASTER_KEEP_DAYS" in result.stderr
