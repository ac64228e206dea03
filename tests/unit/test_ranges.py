import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.ranges import MOST_NAMES, expand, expand_all, fold, ordered


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("cg-1", ["cg-1"]),
        ("00:0c:29:1c:e8:01", ["00:0c:29:1c:e8:01"]),
        ("cg-[001-003]", ["cg-001", "cg-002", "cg-003"]),
        ("cg-[8-11]", ["cg-8", "cg-9", "cg-10", "cg-11"]),
        ("cg-[0-2]x", ["cg-0x", "cg-1x", "cg-2x"]),
        ("cg-[7-7]", ["cg-7"]),
        ("cg-[09-11]", ["cg-09", "cg-10", "cg-11"]),
        ("e8:[08-0b]", ["e8:08", "e8:09", "e8:0a", "e8:0b"]),
        ("e8:[08-0B]", ["e8:08", "e8:09", "e8:0A", "e8:0B"]),
        ("e8:[9-b]", ["e8:9", "e8:a", "e8:b"]),
        ("e8:[0x09-0x10]", ["e8:09", "e8:0a", "e8:0b", "e8:0c", "e8:0d", "e8:0e", "e8:0f", "e8:10"]),
        ("[1-2]-[01-02]", ["1-01", "1-02", "2-01", "2-02"]),
    ],
)
def test_expand(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


def test_a_whole_last_byte_of_a_mac() -> None:
    names = expand("00:0c:29:1c:e8:[01-ff]")
    assert len(names) == 255
    assert (names[0], names[9], names[-1]) == ("00:0c:29:1c:e8:01", "00:0c:29:1c:e8:0a", "00:0c:29:1c:e8:ff")


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("", "expected a name"),
        ("cg-[1-", "expected a name"),
        ("cg-[x-z]", "expected a name"),
        ("cg-[1-2]]", "expected a name"),
        ("cg/1", "expected a name"),
        ("cg 1", "expected a name"),
        ("cg-+", "expected a name"),
        ("cg-[3-1]", "smaller bound first"),
        ("cg-[01-100]", "equal length"),
        ("cg-[1-01]", "equal length"),
        ("e8:[0a-0F]", "one case"),
        ("e8:[0x01-10]", "0x before both"),
        (f"cg-[0-{MOST_NAMES}]", "at most"),
        ("[0-999]-[0-999]", "at most"),
        ("cg-[1-99999999999999999999999]", "at most"),
        (f"cg-[1-{'9' * 5000}]", "expected a name"),
        ("[1-9]" * 5000, "at most 100000 names, got 531441 or more"),
    ],
)
def test_what_is_no_pattern(pattern: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        expand(pattern)
    assert len(str(refused.value)) < 200


def test_most_names_are_allowed() -> None:
    assert len(expand(f"cg-[1-{MOST_NAMES}]")) == MOST_NAMES


def test_expand_all_keeps_each_name_once() -> None:
    assert expand_all(["cg-[1-3]", "b", "cg-[2-4]"]) == ["cg-1", "cg-2", "cg-3", "b", "cg-4"]


@pytest.mark.parametrize(
    ("names", "patterns"),
    [
        ([], []),
        (["b"], ["b"]),
        (["cg-001", "cg-002", "cg-003", "cg-005"], ["cg-[001-003]", "cg-005"]),
        (["cg-9", "cg-10", "cg-11"], ["cg-[9-11]"]),
        (["cg-09", "cg-10"], ["cg-[09-10]"]),
        (["cg-09", "cg-10", "cg-100"], ["cg-[09-10]", "cg-100"]),
        (["cg-99", "cg-100"], ["cg-[99-100]"]),
        (["cg-1", "x", "cg-2"], ["cg-1", "x", "cg-2"]),
        (["a", "b"], ["a", "b"]),
        (["e8:09", "e8:0a", "e8:0b"], ["e8:[09-0b]"]),
        (["e8:09", "e8:0A", "e8:0B", "e8:0c"], ["e8:[09-0B]", "e8:0c"]),
        (["e8:09", "e8:10", "e8:11"], ["e8:[09-11]"]),
        (expand("e8:[0x09-0x10]"), ["e8:[09-0f]", "e8:10"]),
        (expand("e8:[0x09-0x22]"), ["e8:[09-1f]", "e8:[20-22]"]),
        (expand("cg-000c291ce8[01-ff]"), ["cg-[000c291ce801-000c291ce8ff]"]),
        (["cafe", "caff"], ["cafe", "caff"]),
        (["rack-ba", "rack-bb"], ["rack-[ba-bb]"]),
    ],
)
def test_fold(names: list[str], patterns: list[str]) -> None:
    assert fold(names) == patterns


NUMBERED = st.from_regex(r"[a-f:]{0,2}(0{0,2}(9|10|99|100)|[0-9]{0,3})x?", fullmatch=True).filter(bool)
HEXADECIMAL = st.from_regex(r"(e8:|cg-)([0-9a-bA]{2}|0{10}[0-9a]{2})", fullmatch=True)


@given(st.lists(NUMBERED | HEXADECIMAL, unique=True))
def test_what_was_folded_expands_to_the_same(names: list[str]) -> None:
    assert expand_all(fold(names)) == names
    assert expand_all(fold(sorted(names))) == sorted(names)


@pytest.mark.parametrize("mac", ["00:0c:29:1c:e8:{:02x}", "00:0C:29:1C:E8:{:02X}", "cg-000c291ce8{:02x}"])
@given(st.integers(0, 255), st.integers(1, 256))
def test_a_run_of_mac_addresses_is_one_range_or_two(mac: str, first: int, count: int) -> None:
    names = [mac.format(number) for number in range(first, min(first + count, 256))]
    assert expand_all(fold(names)) == names
    assert len(fold(names)) <= 2


@pytest.mark.parametrize(
    "patterns",
    [
        ["a-[1-120]", "b-[1-12]", "cg-[001-120]"],
        ["00:0c:29:1c:e8:[00-ff]", "00:0c:29:1c:e9:[00-1f]", "cg-lost"],
        ["cg-[000c291ce801-000c291ce8ff]", "cg-[1-3]"],
    ],
)
def test_names_in_any_order_fold_when_they_are_ordered(patterns: list[str]) -> None:
    names = expand_all(patterns)
    assert sorted(fold(ordered(sorted(names)))) == sorted(patterns)
    assert sorted(ordered(names)) == sorted(names)


@given(st.integers(0, 120), st.integers(1, 40), st.integers(1, 4))
def test_a_run_of_numbers_is_one_range(first: int, count: int, width: int) -> None:
    names = [f"cg-{number:0{width}}" for number in range(first, first + count)]
    assert expand_all(fold(names)) == names
    if len(names[0]) == len(names[-1]):
        assert len(fold(names)) == 1
