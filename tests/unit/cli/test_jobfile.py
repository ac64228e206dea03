"""From words to the body of a job."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from puppetmaster.cli import jobfile
from puppetmaster.cli.jobfile import Files


def files(stdin: str = "") -> Files:
    return Files(lambda: stdin)


def test_names_ranges_and_files(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.txt"
    fleet.write_text("# the north, and the south\ncg-[01-02]\n\n 00:0c:29:1c:e8:01 \ncg-01, y\n")
    found, twice = jobfile.destinations(["x", f"@{fleet}"], files())
    assert found == ["x", "cg-01", "cg-02", "00:0c:29:1c:e8:01", "y"]
    assert twice == ["cg-01"]


@pytest.mark.parametrize("word", ["cg-1,cg-2", "cg-[1-2]", "cg-1, cg-2", " cg-1;cg-2,", "cg-1\tcg-2", "@-"])
def test_commas_and_blanks_stand_between_names(word: str) -> None:
    assert jobfile.destinations([word], files("cg-1\ncg-2\n")) == (["cg-1", "cg-2"], [])


@pytest.mark.parametrize("sign", "*{}()<>|'\"`$\\")
def test_what_is_not_meant_as_a_name(sign: str) -> None:
    with pytest.raises(ValueError, match=r"--to: expected names such as cg-001, got 'x.*: a range"):
        jobfile.destinations([f"cg-1,x{sign}"], files())


@pytest.mark.parametrize(
    ("read", "words", "said"),
    [
        (
            lambda word: jobfile.destinations([word], files()),
            ["", " , ", ",", "cg-1,/x", "cg-[1,3]"],
            "--to: expected a name or a pattern",
        ),
        (
            lambda word: jobfile.destinations([word], files("# none\n")),
            ["@-"],
            "expected a name on each line of standard input, got none",
        ),
        (
            lambda word: jobfile.data(word, files()),
            ["{", "nope", "NaN", "[1,]", "", "[" * 100_000],
            "DATA: expected JSON",
        ),
        (
            jobfile.share,
            ["", "-1", "x", "10 %", "1.5", "%", "1,2"],
            "expected a whole number or a percentage",
        ),
        (
            jobfile.lasting,
            ["", "m", "10x", "10m5", "1h-3m", "nan", "inf", "1..5h", "ten", "9" * 400],
            "expected seconds, or a time such as 90s, 10m, 1h30m or 2d, got",
        ),
        (lambda word: jobfile.moment(word, 0.0), ["+", "+2x", "+infinity", "+9999999d"], "expected"),
    ],
)
def test_what_cannot_be_read(read: Callable[[str], Any], words: list[str], said: str) -> None:
    for word in words:
        with pytest.raises(ValueError, match=said):
            read(word)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{\n  "a": 1,\n}', r"data: expected JSON, but .* in line 3, column 1"),
        (b"\xff\xfe", "expected UTF-8"),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "data").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        jobfile.data(f"@{tmp_path}/data", files())


def test_a_fault_in_a_file_has_its_line(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.txt"
    fleet.write_text("# the north\n\ncg-1 # in rack 3, for now\ncg-2,cg-[9-1]\n")
    with pytest.raises(ValueError, match=f"{fleet}:4: .*expected the smaller bound first"):
        jobfile.destinations([f"@{fleet}"], files())
    with pytest.raises(ValueError, match="standard input:2: expected names such as cg-001, got 'cg-\\*'"):
        jobfile.destinations(["@-"], files("cg-1\ncg-*"))


def test_a_file_of_windows(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.txt"
    fleet.write_bytes("\ufeffcg-1 # a comment\r\n\r\ncg-2\r\n".encode())
    assert jobfile.destinations([f"@{fleet}"], files()) == (["cg-1", "cg-2"], [])


@pytest.mark.parametrize(
    ("word", "data"), [('{"a": [1]}', {"a": [1]}), ("@-", {"a": [2]}), ("-", {"a": [2]}), ("@DIR/data", "é")]
)
def test_data(tmp_path: Path, word: str, data: Any) -> None:
    (tmp_path / "data").write_text('"é"', encoding="utf-8")
    assert jobfile.data(word.replace("DIR", str(tmp_path)), files('{"a": [2]}')) == data


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ValueError, match="and it is closed"):
        jobfile.data("-", Files())


def test_standard_input_is_read_once() -> None:
    once = files("[]")
    assert jobfile.data("-", once) == []
    with pytest.raises(ValueError, match="one use of standard input"):
        jobfile.destinations(["@-"], once)


@pytest.mark.parametrize(("text", "share"), [("20", 20), ("0", 0), ("10%", "10%"), ("2.5%", "2.5%")])
def test_shares(text: str, share: Any) -> None:
    assert jobfile.share(text) == share
    assert jobfile.shares(f"1, {text},100%") == [1, share, "100%"]


@pytest.mark.parametrize("text", ["1_0", "\u0661", "9" * 5000, "x" * 5000])
def test_what_is_no_share_is_shown_by_its_beginning(text: str) -> None:
    with pytest.raises(ValueError, match="expected a whole number or a percentage") as refused:
        jobfile.share(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("0", 0),
        ("-3", -3),
        ("90s", 90),
        ("500ms", 0.5),
        ("10m", 600),
        ("10 min", 600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2d", 172800),
        ("1d 2h", 93600),
        ("infinity", "infinity"),
    ],
)
def test_times(text: str, seconds: Any) -> None:
    assert jobfile.lasting(text) == seconds


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("+2h", "1970-01-01T02:00:00.000Z"),
        ("+90", "1970-01-01T00:01:30.000Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("tomorrow", "tomorrow"),  # that this is no time is for the API to say
    ],
)
def test_moments(text: str, at: str) -> None:
    assert jobfile.moment(text, 0.0) == at


def test_a_whole_job_is_an_object_in_which_a_property_is_there_once() -> None:
    assert jobfile.whole('{"batch": []}', "x") == {"batch": []}
    with pytest.raises(ValueError, match="x: expected a job"):
        jobfile.whole("[]", "x")
    with pytest.raises(ValueError, match=r'job\.json: .* the property "rate" is there twice'):
        jobfile.whole('{"rate": 1, "rate": 2}', "job.json")


def test_an_option_wins_over_the_file_and_keeps_the_rest() -> None:
    body = {"batch": [], "name": "file", "key": "k", "abort": {"errors": 1, "after": 9}}
    merged = jobfile.with_options(body, {"name": "word", "max_errors": 0})
    assert merged == {**body, "name": "word", "abort": {"errors": 0, "after": 9}}
    assert body["name"] == "file"


def test_a_job_gets_a_key_of_its_own() -> None:
    first, second = (jobfile.with_options({"batch": []}, {})["key"] for _ in range(2))
    assert first != second
    assert first.startswith("cli-")


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"batch": [], "dryRun": True}, {}),  # it needs no key
        ({"destinations": "a", "message": {}}, {}),  # it knows none
        ({"batch": [], "key": "k", "idempotent": True}, {"idempotent": False, "rate": None}),
        ({"batch": [], "key": "k"}, {"dry_run": False}),
    ],
)
def test_what_is_not_set_adds_nothing(body: dict[str, Any], options: dict[str, Any]) -> None:
    assert jobfile.with_options(body, options) == body


@pytest.mark.parametrize(
    ("path", "words", "name"),
    [
        ("concurrency", True, "--concurrency"),
        ("concurrency[0]", True, "--concurrency[0]"),
        ("abort.errors", True, "--max-errors"),
        ("abort.after", True, "--max-errors-after"),
        ("abort", False, "--max-errors-after"),
        ("abort.errors", False, "abort.errors"),  # it stands in the file, or should
        ("gate.onFail", True, "gate.onFail"),  # nobody spoke of a gate
        ("batch[0].method", True, "METHOD"),
        ("batch[0].method", False, "batch[0].method"),
        ("batch[0].data.a[1]", True, "DATA.a[1]"),
        ("batch[0].__request.destination[7]", True, "--to"),
        ("batch", True, "batch"),
        ("", True, ""),
    ],
)
def test_places_have_the_names_that_were_typed(path: str, words: bool, name: str) -> None:
    assert jobfile.spoken(path, {"concurrency": 0, "max_errors_after": 1, "rate": None}, words=words) == name
