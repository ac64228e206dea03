"""The Sanji entry: its log, and how it ends."""

import logging
import sys
from typing import Any

import pytest

import index
from puppetmaster.app import Puppetmaster
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

    class Bundle:
        def __init__(self, **_: Any) -> None:
            self.fault = self.unwritten = None
            self.app = App()

        def start(self) -> None:
            Puppetmaster.before_stop(self)  # type: ignore[arg-type]

    monkeypatch.setattr(index, "Index", Bundle)
    monkeypatch.setattr(sys, "argv", ["index.py"])
    monkeypatch.setattr(
        "index.gc", type("Gc", (), {"freeze": lambda: None, "set_threshold": lambda *_: None})
    )
    switches_s: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", switches_s.append)
    if fault is None:
        index.main()
        assert switches_s == [index.SWITCH_S], "who asks for little does not wait for who asks for much"
        return
    with pytest.raises(SystemExit) as ended:
        index.main()
    assert ended.value.code == f"puppetmaster has stopped, and not everything is written: {fault}"
    assert f"stopping: {fault}" in caplog.text
    assert "Traceback" not in caplog.text
