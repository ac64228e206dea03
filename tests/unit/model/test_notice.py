"""The file of webhooks, and what is told: checked by foreign packages."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from puppetmaster.errors import SettingsError
from puppetmaster.model.notice import Hook, Notice, Owed, hooks_of, named_by, signed
from puppetmaster.model.timeline import Event, What
from puppetmaster.model.why import Said
from tests.examples import AT, a_job
from tests.receiver import KEY, SECRET

ONE: dict[str, Any] = {"name": "ops", "url": "https://ops.example:8443/hook?x=1", "secret": SECRET}


def test_a_file_of_webhooks_is_read() -> None:
    ops, lab = hooks_of(json.dumps([ONE, {**ONE, "name": "lab", "all": True}]), "here")
    assert ops == Hook("ops", ONE["url"], KEY, all=False)
    assert [hook.name for hook in named_by([ops, lab], ["ops"])] == ["ops", "lab"]
    assert [hook.name for hook in named_by([ops, lab], [])] == ["lab"]
    assert hooks_of("[]", "here") == ()
    assert ONE["url"] not in repr(ops)
    assert str(KEY) not in repr(ops)


def test_every_fault_is_named_at_once_and_no_secret_is_shown() -> None:
    given = [
        {**ONE, "url": "ftp://x", "secret": "whsec_short"},
        {**ONE, "url": "https://me:pw@x/", "retries": 3},
        {**ONE, "name": "a b", "all": 1, "secret": "secret-as-it-is"},
        {"name": "none"},
        "ops",
    ]
    with pytest.raises(SettingsError) as told:
        hooks_of(json.dumps(given), "PUPPETMASTER_WEBHOOKS: file")
    said = told.value.message
    for place in (
        *("[0].url:", "[0].secret:", "[1].retries:", "[1].url:", "[1].name: expected each name once"),
        *("[2].name:", "[2].all:", "[2].secret:", "[3].url:", "[3].secret:", "[4]: expected an object"),
    ):
        assert said.count(place) == 1, place
    assert "whsec_short" not in said
    assert "secret-as-it-is" not in said


@pytest.mark.parametrize("text", ["", "{}", "[", json.dumps([ONE] * 101), "[" * 100_000])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"file: expected .*"):
        hooks_of(text, "file")


@pytest.mark.parametrize(
    "url", ["https://x:0/", "https://x:99999/", "https:///", "https://x/#a", "https://x/ a", 7]
)
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises(SettingsError, match=r"\[0\]\.url"):
        hooks_of(json.dumps([{**ONE, "url": url}]), "file")


@pytest.mark.parametrize("count", [23, 24, 64, 65])
def test_a_secret_has_24_to_64_bytes(count: int) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * count).decode().rstrip("=")
    text = json.dumps([{**ONE, "secret": secret}])
    if 24 <= count <= 64:
        assert hooks_of(text, "file")[0].key == b"k" * count
    else:
        with pytest.raises(SettingsError, match=r"\[0\]\.secret"):
            hooks_of(text, "file")


def test_the_signature_is_that_of_standard_webhooks() -> None:
    body = '{"ä": 1}'.encode()
    headers = signed(KEY, "pm-job-1-3", 1_700_000_000, body)
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    assert headers == {
        "webhook-id": "pm-job-1-3",
        "webhook-timestamp": "1700000000",
        "webhook-signature": Webhook(SECRET).sign("pm-job-1-3", at, body.decode()),
    }


def test_what_is_owed_is_what_it_was_after_it_was_stored() -> None:
    event = Event(3, AT, What.GATE_CLOSED, "puppetmaster", "paused", 1, Said("it failed", "gate"))
    owed = Owed(7, "ops", Notice.of(a_job(), event), 2)
    again = Owed.from_document(7, json.loads(json.dumps(owed.document())))
    assert again.notice.cloud_event("0123") == json.loads(json.dumps(owed.notice.cloud_event("0123")))
    assert again._replace(notice=owed.notice) == owed
    told = again.notice.cloud_event("0123")
    assert (told["id"], told["type"]) == ("0123-job-1-3", "puppetmaster.job.gateClosed")
    assert told["data"]["event"]["why"] == "it failed"
    assert told["data"]["job"]["id"] == 1
