from pathlib import Path
from typing import Any

import pytest

from sandbox.devices import Fault
from sandbox.fleet_options import argv, parse


def test_argv_says_what_parse_reads() -> None:
    options = parse(
        argv(
            "127.0.0.1",
            4711,
            "cg-[1-4]",
            "00:0c:29:1c:e8:[0e-10]",
            shape="grouped:2",
            name="far",
            delay=0.5,
            no_watch=True,
            seed=None,
            log="some.jsonl",
            slow=["cg-[1-2]:2.5", "00:0c:29:1c:e8:0f:3"],
            fail=("cg-2:500",),
            refuse="cg-3:503",
            twice="cg-[1-2]",
            dead="00:0c:29:1c:e8:10",
        )
    )
    assert (options.host, options.port, options.qos, options.ttl) == ("127.0.0.1", 4711, 0, 30)
    assert (options.delay, options.jitter, options.no_watch, options.seed) == (0.5, 0, True, None)
    assert options.log == Path("some.jsonl")
    assert options.destinations == [f"cg-{i}" for i in range(1, 5)] + [
        f"00:0c:29:1c:e8:{x}" for x in ("0e", "0f", "10")
    ]
    assert [model.name for model in options.models] == ["far-1", "far-2", "far-3", "far-4"]
    assert options.faults == {
        "cg-1": Fault(after_s=2.5, twice=True),
        "cg-2": Fault(after_s=2.5, twice=True, fail=500),
        "cg-3": Fault(refuse=503),
        "00:0c:29:1c:e8:0f": Fault(after_s=3),
        "00:0c:29:1c:e8:10": Fault(dead=True),
    }


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shape": "round"}, "expected the shape"),
        ({"silent": "cg-[4-6]"}, "expected names of --to, got cg-[5-6]"),
        ({"fail": "cg-1"}, "--fail: expected NAMES:NUMBER, got 'cg-1'"),
        ({"slow": "cg-1:-1"}, "--slow: expected NAMES:NUMBER"),
        ({"slow": "cg-1:nan"}, "--slow: expected NAMES:NUMBER"),
        ({"late": "cg-1:6", "ttl": 5}, "expected more than 6 s"),
        ({"delay": "-1"}, "--delay"),
        ({"slwo": "cg-1:2"}, "unrecognized arguments"),
    ],
)
def test_options_that_are_wrong(
    options: dict[str, Any], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(argv("127.0.0.1", 1, "cg-[1-4]", **options))
    assert complaint in capsys.readouterr().err


def test_late_is_later_than_the_controllers_patience() -> None:
    options = parse(argv("127.0.0.1", 1, "cg-1", ttl=1, late="cg-1:2.5"))
    assert options.faults == {"cg-1": Fault(after_s=2.5)}
