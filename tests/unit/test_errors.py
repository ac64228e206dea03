"""Every error has a status, a word and a sentence, and shows the same body behind every door."""

import pytest

from puppetmaster import errors
from puppetmaster.errors import Fault, Invalid, PuppetmasterError, StoreError, Unavailable

#: What the API promises for each class that a caller can meet.
STATUS_AND_CODE = {
    errors.PuppetmasterError: (500, "internal"),
    errors.Invalid: (400, "invalid"),
    errors.Unauthorized: (401, "unauthorized"),
    errors.Forbidden: (403, "forbidden"),
    errors.NotFound: (404, "not_found"),
    errors.MethodNotAllowed: (405, "method_not_allowed"),
    errors.RequestTimeout: (408, "request_timeout"),
    errors.Conflict: (409, "conflict"),
    errors.TooLarge: (413, "too_large"),
    errors.UpgradeRequired: (426, "upgrade_required"),
    errors.HeadersTooLarge: (431, "headers_too_large"),
    errors.Unavailable: (503, "unavailable"),
    errors.StoreError: (503, "store"),
    errors.NotKnown: (503, "store"),
    errors.NotLeading: (503, "store"),
    errors.SettingsError: (500, "settings"),
    errors.IllegalTransition: (500, "illegal_transition"),
}
WITHOUT_FAULTS = [kind for kind in STATUS_AND_CODE if kind is not Invalid]


def test_the_table_names_every_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert set(STATUS_AND_CODE) == {kind for kind in kinds if issubclass(kind, PuppetmasterError)}


@pytest.mark.parametrize(("kind", "expected"), STATUS_AND_CODE.items())
def test_status_and_code(kind: type[PuppetmasterError], expected: tuple[int, str]) -> None:
    assert (kind.status, kind.code) == expected


@pytest.mark.parametrize("kind", WITHOUT_FAULTS)
def test_the_docstring_is_the_sentence_when_none_is_given(kind: type[PuppetmasterError]) -> None:
    assert kind.__doc__
    error = kind()
    assert error.body() == {"message": error.message}
    assert str(error) == error.message == " ".join(kind.__doc__.split())
    assert error.message.endswith(".")
    given = kind("There is no job 7.")
    assert given.body() == {"message": "There is no job 7."}
    assert str(given) == "There is no job 7."


def test_a_store_error_is_caught_as_unavailable() -> None:
    with pytest.raises(Unavailable):
        raise StoreError


def test_invalid_with_one_fault() -> None:
    error = Invalid([Fault("batch[0].method", "expected get, got 'go'")])
    assert error.body() == {
        "message": "batch[0].method: expected get, got 'go'",
        "errors": [{"path": "batch[0].method", "message": "expected get, got 'go'"}],
    }


def test_invalid_with_several_faults_names_the_first_and_lists_all() -> None:
    error = Invalid([Fault("a", "one"), Fault("b", "two"), Fault("c", "three")])
    assert error.message == "a: one (and 2 more, see errors)"
    assert error.body()["errors"] == [
        {"path": "a", "message": "one"},
        {"path": "b", "message": "two"},
        {"path": "c", "message": "three"},
    ]


def test_a_fault_of_the_whole_body_has_no_path_to_show() -> None:
    assert Invalid([Fault("", "expected an object, got a list")]).message == "expected an object, got a list"


def test_invalid_keeps_a_sentence_of_its_own_and_a_copy_of_the_faults() -> None:
    faults = [Fault("a", "one")]
    error = Invalid(faults, "The body is wrong.")
    faults.clear()
    assert error.message == "The body is wrong."
    assert error.faults == (Fault("a", "one"),)


def test_faults_beyond_those_shown_are_counted_and_not_kept() -> None:
    faults = errors.Faults()
    faults.check()
    assert faults.hinting
    faults.take(errors.Fault(str(number), "wrong") for number in range(errors.FAULTS_SHOWN))
    assert (len(faults), faults.more, faults.total) == (errors.FAULTS_SHOWN, 0, errors.FAULTS_SHOWN)
    faults.add("x", "wrong")
    assert (len(faults), faults.total, faults.hinting) == (
        errors.FAULTS_SHOWN,
        errors.FAULTS_SHOWN + 1,
        False,
    )
    with pytest.raises(errors.Invalid) as refused:
        faults.check()
    assert refused.value.faults[-1] == errors.Fault("", "1 more faults are not listed")
