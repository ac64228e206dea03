"""Selectors of labels: what they select, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.model import selector
from puppetmaster.model.selector import (
    MOST_REQUIREMENTS,
    MOST_VALUES,
    Operator,
    Requirement,
    Selector,
    parse,
)

NAMES = st.from_regex(rf"\A{selector.NAME}\Z", fullmatch=True)
KEYS = st.one_of(NAMES, st.tuples(st.sampled_from(["example.com", "a", "x-1.y"]), NAMES).map("/".join))
VALUES = st.one_of(st.just(""), NAMES)
FEW_KEYS, FEW_VALUES = st.sampled_from(["a", "b", "x.y/c"]), st.sampled_from(["", "1", "2"])


def requirements(
    keys: st.SearchStrategy[str], values: st.SearchStrategy[str]
) -> st.SearchStrategy[Requirement]:
    valued = st.builds(
        Requirement,
        keys,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.sets(values, min_size=1, max_size=4).map(sorted).map(tuple),
    )
    bare = st.builds(Requirement, keys, st.sampled_from([Operator.PRESENT, Operator.ABSENT]))
    return st.one_of(valued, bare)


def selectors(one: st.SearchStrategy[Requirement]) -> st.SearchStrategy[Selector]:
    return st.lists(one, min_size=1, max_size=5).map(tuple).map(Selector)


@given(selectors(requirements(KEYS, VALUES)))
def test_what_is_written_is_read(made: Selector) -> None:
    assert parse(str(made)) == made
    assert parse(f" {str(made).replace(',', ' , ')} ") == made


@given(selectors(requirements(FEW_KEYS, FEW_VALUES)), st.dictionaries(FEW_KEYS, FEW_VALUES))
def test_it_selects_what_kubernetes_says(made: Selector, labels: dict[str, str]) -> None:
    def fits(one: Requirement) -> bool:
        there, among = one.key in labels, labels.get(one.key) in one.values
        return {"in": there and among, "notin": not (there and among), "present": there, "absent": not there}[
            one.operator
        ]

    assert made.fits(labels) is all(map(fits, made.requirements))


@given(st.text(max_size=30))
def test_any_text_is_a_selector_or_is_refused_in_a_sentence(text: str) -> None:
    try:
        made = parse(text)
    except ValueError as error:
        assert ", got '" in str(error)  # noqa: PT017 - the text may be a selector as well
    else:
        assert parse(str(made)) == made


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a==b", "a=b"),
        ("a = b", "a=b"),
        ("a=", "a="),
        ("a in (c,b,b)", "a in (b,c)"),
        ("a in(b)", "a=b"),
        ("a notin (b)", "a!=b"),
        ("a in ()", "a="),
        (" ! a , in , notin", "!a,in,notin"),
        ("site=north,model!=x,env in (a,b),env notin (c),retired,!retired", None),
    ],
)
def test_the_forms(text: str, written: str | None) -> None:
    assert str(parse(text)) == (written or text.replace("env notin (c)", "env!=c"))


@pytest.mark.parametrize(
    "text",
    ["", ",", "a,", "a,,b", "a b", "a=b=c", "a in b", "a in (b", "a in (b))", "a>1", "!", "!a=b", "a=(b)"],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (",".join(["a"] * MOST_REQUIREMENTS), f"at most {MOST_REQUIREMENTS} requirements, got 901"),
        (
            f"a in ({','.join(map(str, range(MOST_VALUES - 1)))}),a=b",
            f"at most {MOST_VALUES} values, got 30001",
        ),
    ],
)
def test_it_is_no_longer_than_a_store_can_ask(most: str, said: str) -> None:
    parse(most)
    with pytest.raises(ValueError, match=said):
        parse(f"{most},a=b")


@pytest.mark.parametrize("key", ["a", "A-b_c.9", "x" * 63, "example.com/a", f"{'a.' * 126}b/c"])
def test_keys(key: str) -> None:
    assert selector.key_fault(key) is None


@pytest.mark.parametrize(
    "key",
    [
        *("x" * 64, "-a", "a.", "", "é", "a\n"),
        *("Example.com/a", "a..b/c", "/c", "a/", "a/b/c", f"{'a.' * 127}b/c"),
    ],
)
def test_what_is_no_key(key: str) -> None:
    assert selector.key_fault(key) is not None


@pytest.mark.parametrize(
    ("value", "good"),
    [("", True), ("1.2-b_C", True), ("x" * 63, True), ("x" * 64, False), ("a b", False), ("-", False)],
)
def test_values(value: str, good: bool) -> None:
    assert (selector.value_fault(value) is None) is good
