"""What the page reckons as the product does."""

import csv
import io
import json
import re

import pytest
from playwright.sync_api import Page

from puppetmaster import ranges
from puppetmaster.model.policy import Policy

PATTERNS = [
    "cg-1",
    "cg-[001-003]",
    "[8-11]",
    "00:0c:[09-0b]:[1-2]",
    "[0x09-0x10]",
    "[0A-0C]",
    "a[1-2]b[3-4]c",
]
FAULTY = ["cg-[3-1]", "cg-[01-100]", "a/b", "[0a-0C]", "[0x1-2]", "[1-", "[000001-999999]"]


def test_ranges_are_the_product_s(page: Page) -> None:
    found = page.evaluate(
        "async (all) => { const {expand} = await import('/static/ranges.js'); return all.map(expand); }",
        PATTERNS,
    )
    assert found == [ranges.expand(pattern) for pattern in PATTERNS]
    for pattern in FAULTY:
        with pytest.raises(ValueError):
            ranges.expand(pattern)
    refused = page.evaluate(
        "async (all) => (await import('/static/ranges.js')).read(all.join(' ')).faults.length", FAULTY
    )
    assert refused == len(FAULTY)


def test_names_are_folded_in_their_order(page: Page) -> None:
    names = [
        *ranges.expand("cg-[098-102]"),
        "cg-7",
        "cg-8",
        "cg-10",
        "a",
        "b",
        *ranges.expand("x[1-3]y"),
        "cg-001",
    ]
    found = page.evaluate("async (all) => (await import('/static/ranges.js')).foldInOrder(all)", names)
    assert found == ["cg-[098-102]", "cg-[7-8]", "cg-10", "a", "b", "x1y", "x2y", "x3y", "cg-001"]
    assert [name for one in found for name in ranges.expand(one)] == names


def test_numbers_of_answers_keep_their_text(page: Page) -> None:
    text = json.dumps(
        {
            "a": [9007199254740993, -9223372036854775808, 1.0, -0.0, 1e22, 1e-7, 0.1, 5],
            "__proto__": {"b": 1.50},
            "c": "9007199254740993 [1.0]",
            "d": {},
            "e": [],
            "f": None,
        },
        separators=(",", ":"),
    )
    again = "async (text) => JSON.stringify((await import('/static/json.js')).parse(text))"
    assert page.evaluate(again, text) == text
    typed = again.replace("JSON.stringify((await", "(await import('/static/json.js')).write((await")
    found = page.evaluate(typed, text)
    assert json.loads(found, parse_int=str, parse_float=str) == json.loads(
        text, parse_int=str, parse_float=str
    )
    plain = '{"a":[1,2.5,"x"],"b":null}'
    assert page.evaluate(again, plain) == plain


@pytest.mark.parametrize(
    ("errors", "size"), [("5%", 20), ("5%", 19), ("33.3%", 1000), ("0.1%", 1000), ("29%", 100), ("0%", 7)]
)
def test_what_a_gate_allows_is_the_product_s(page: Page, errors: str, size: int) -> None:
    said = page.evaluate(
        "async ([gate, size]) => (await import('/static/policies.js')).gateLimit(gate, size)",
        [{"errors": errors}, size],
    )
    most = int(said.split()[0])
    policy = Policy.of({"waves": [size], "gate": {"errors": errors}}, 2 * size)
    assert policy.gate_fails(1, most) is None
    assert policy.gate_fails(1, most + 1) is not None


def test_the_sizes_of_waves_come_from_where_they_end(page: Page) -> None:
    found = page.evaluate(
        "async (job) => (await import('/static/policies.js')).waveSizes(job)", {"waveEnds": [1, 21, 201]}
    )
    assert found == [1, 20, 180]


@pytest.mark.parametrize(
    ("codes", "said"), [(["paused"], "600: as told"), (["paused", "next"], "of the first 500 of 600: ")]
)
def test_a_reason_of_the_whole_job_holds_for_all_that_wait(page: Page, codes: list[str], said: str) -> None:
    """Though only the first of them were asked for."""
    rows = [
        {"id": one, "__request": {"status": "pending", "why": "as told" if one else code, "whyCode": code}}
        for one, code in enumerate((codes * 500)[:500])
    ]
    found = page.evaluate(
        """async (fresh) => {
          const whys = new (await import('/static/whys.js')).Whys(1, {first: 0});
          return whys.summary.call({...whys, fresh}, {totalCount: 600, counts: {pending: 600}}, 600);
        }""",
        rows[1:] if len(codes) == 1 else rows,
    )
    assert found.startswith(said), found


def test_ages_and_durations_agree(page: Page) -> None:
    found = page.evaluate(
        """async (all) => {
          const {age, duration} = await import('/static/words.js');
          return all.map((ms) => [age(ms), duration(ms)]);
        }""",
        [26_600, 59_999, 60_000, 3_599_999, 3_600_000, 86_399_999],
    )
    assert found == [
        ["26 s", "26 s"],
        ["59 s", "59 s"],
        ["1 min", "1 min 00 s"],
        ["59 min", "59 min 59 s"],
        ["1 h", "1 h 00 min"],
        ["23 h", "23 h 59 min"],
    ]


@pytest.mark.parametrize("code", ["destination", "ourLock", "locked"])
def test_reasons_of_one_kind_are_put_together_by_their_code(page: Page, code: str) -> None:
    """Whatever their sentences say."""
    inner = {"status": "pending", "whyCode": code}
    rows = [{"id": one, "__request": {**inner, "why": f"sentence {one}"}} for one in range(3)]
    rows.append({"id": 3, "__request": {"status": "pending", "why": "as told", "whyCode": "new"}})
    said = page.evaluate(
        """async (fresh) => {
          const whys = new (await import('/static/whys.js')).Whys(1, {first: 0});
          return whys.summary.call({...whys, fresh}, {totalCount: 4, counts: {pending: 4}}, 4);
        }""",
        rows,
    )
    assert re.fullmatch("3: [a-z ,]+; 1: as told", said), said


def test_a_spreadsheet_finds_no_formula(page: Page) -> None:
    inner = {
        "destination": "=cmd",
        "status": "error",
        "attempts": 1,
        "result": {"code": -1, "message": '@"a",b'},
    }
    given = [{"id": 1, "method": "get", "resource": "/a", "__request": inner}]
    text = page.evaluate("async (given) => (await import('/static/export.js')).csv(given)", given)
    (line,) = csv.reader(io.StringIO(text))
    assert (line[1], line[10], line[12]) == ("'=cmd", "-1", '\'@"a",b')
