"""Sentences and their codes."""

import json

import pytest

from puppetmaster.model.why import Reason, Said, Why, code_of


def test_a_sentence_is_a_text_that_knows_its_code() -> None:
    said = Why.WAVE.said(wave=2, before=1)
    assert (said, code_of(said)) == ("wave 2 waits for wave 1", "wave")
    assert json.dumps({"why": said, "whyCode": code_of(said)}) == (
        '{"why": "wave 2 waits for wave 1", "whyCode": "wave"}'
    )


@pytest.mark.parametrize("text", [None, "some sentence", Said("some sentence", None)])
def test_what_has_no_code(text: str | None) -> None:
    assert code_of(text) is None


def test_a_code_is_one_word_that_is_there_once() -> None:
    for codes in (Why, Reason):
        assert all(one.value.isalpha() and one.value[0].islower() for one in codes)
        assert len({one.sentence for one in codes if one.sentence != "{reason}"} | {""}) >= len(codes)


def test_what_a_sentence_leaves_open_must_be_said() -> None:
    with pytest.raises(KeyError):
        Reason.TIMEOUT.said()
