"""The Sanji entry: its log, and how it ends."""

import logging
import resource
import sys
from typing import Any

import pytest

import index
from puppetmaster.app import LEAST_FILES, Puppetmaster, check_files
from puppetmaster.errors import StoreError


def test_a_line_of_the_log_says_its_zone() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "it is %s", ("so",), None)
    record.created, record.threadName = 1767323045.678, "pm-dispatcher"
    assert index.Format().format(record) == "2026-01-02T03:04:05.678Z INFO pm-dispatcher it is so"


@pytest.mark.parametrize("fault", [None, "the disk is dead."])
def test_it_ends_with_a_sentence_when_not_everything_is_written(
    fault: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class App:
        def stop(self) -> None:
            if fault is not None:
                raise StoreError(fault)

    made: list[Any] = []

    class Bundle:
        def __init__(self, **_: Any) -> None:
            made.append("bundle")  # which may take over, and load many jobs
            self.fault = self.unwritten = None
            self.resigned = False
            self.app = App()

        def start(self) -> None:
            Puppetmaster.before_stop(self)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "Index", Bundle)
    monkeypatch.setattr(sys, "argv", ["index.py"])
    monkeypatch.setattr(
        "index.gc",
        type(
            "Gc", (), {"freeze": lambda: made.append("freeze"), "set_threshold": lambda *_: made.append("gc")}
        ),
    )
    monkeypatch.setattr(sys, "setswitchinterval", made.append)
    if fault is None:
        index.main()
        assert made == ["gc", index.SWITCH_S, "bundle", "freeze"], (
            "who asks for little does not wait for who asks for much"
        )
        return
    with pytest.raises(SystemExit) as ended:
        index.main()
    assert ended.value.code == f"puppetmaster has stopped, and not everything is written: {fault}"
    assert f"stopping: {fault}" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_process_that_may_open_next_to_no_files_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (LEAST_FILES - 1, 4096))
    with pytest.raises(SystemExit) as ended:
        index.main()
    said = f"puppetmaster cannot start: Expected to be allowed at least {LEAST_FILES} open files, got 39: "
    assert (ended.value.code, capsys.readouterr().err) == (1, f"{said}raise the limit (ulimit -n).\n")


@pytest.mark.parametrize("files", [LEAST_FILES, resource.RLIM_INFINITY])
def test_so_many_files_are_enough(files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    check_files()
