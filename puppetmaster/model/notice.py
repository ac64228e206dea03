"""What webhooks are told: which there are, what is owed to them, and how a message is made and signed.

The body is a CloudEvent (1.0, as JSON), the signature that of Standard Webhooks.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from puppetmaster import jsoncodec
from puppetmaster.errors import Fault, SettingsError
from puppetmaster.model.caller import NAME
from puppetmaster.model.job import Job
from puppetmaster.model.template import Template, Told
from puppetmaster.model.timeline import Event, What

#: What of a job's time line is told.
TOLD = frozenset({What.GATE_CLOSED, What.ENDED})
#: Most webhooks in the settings.
MOST_HOOKS = 100
#: Begins a secret, which is base64 of this many bytes.
SECRET, SECRET_BYTES = "whsec_", range(24, 65)
TYPE = "application/cloudevents+json; charset=utf-8"
_WORD = re.compile(r"[\x21-\x7e]+")


class Hook(NamedTuple):
    """A webhook that the settings name."""

    name: str
    url: str
    #: The key of its signatures.
    key: bytes
    #: Whether it is told of every job, and not only of those that name it.
    all: bool = False

    def __repr__(self) -> str:
        """The hook without its secret, and without its URL, which may have one in it."""
        return f"Hook({self.name!r})"


Hooks = tuple[Hook, ...]


def hooks_of(text: str, where: str) -> Hooks:
    """The webhooks in a file of them. Raises SettingsError: there are faults."""
    try:
        given = jsoncodec.decode_loosely(text.encode())
    except ValueError as error:
        raise SettingsError(f"{where}: expected JSON, and it cannot be read as such: {error}.") from error
    if not isinstance(given, list) or len(given) > MOST_HOOKS:
        raise SettingsError(
            f"{where}: expected a list of at most {MOST_HOOKS} objects such as "
            '{"name": "ops", "url": "https://ops.example/hook", "secret": "whsec_.."}.'
        )
    faults: list[Fault] = []
    for index, one in enumerate(given):
        faults += _faults(one, f"[{index}]")
    names = [one.get("name") for one in given if isinstance(one, dict)]
    for index, name in enumerate(names):
        if isinstance(name, str) and name in names[:index]:
            faults.append(Fault(f"[{index}].name", f"expected each name once, got '{name[:80]}' again"))
    if faults:
        raise SettingsError.of(where, faults)
    return tuple(
        Hook(one["name"], one["url"], _key(one["secret"]) or b"", one.get("all", False)) for one in given
    )


def _faults(one: Any, path: str) -> Iterator[Fault]:
    if not isinstance(one, dict):
        yield Fault(path, "expected an object")
        return
    for name in one.keys() - {"name", "url", "secret", "all"}:
        yield Fault(f"{path}.{ascii(name[:80])[1:-1]}", "unknown property; known are name, url, secret, all")
    if not isinstance(one.get("name"), str) or NAME.fullmatch(one["name"]) is None:
        yield Fault(f"{path}.name", "expected up to 64 letters, digits and . _ @ -")
    if not _is_url(one.get("url")):
        yield Fault(f"{path}.url", "expected a URL with http or https, a host, and no name or password in it")
    if _key(one.get("secret")) is None:
        at = f"{SECRET_BYTES.start} to {SECRET_BYTES.stop - 1}"
        yield Fault(f"{path}.secret", f"expected {SECRET} and {at} bytes as base64")  # which is not told
    if not isinstance(one.get("all", False), bool):
        yield Fault(f"{path}.all", "expected true or false")


def _is_url(url: Any) -> bool:
    if not isinstance(url, str) or _WORD.fullmatch(url) is None:
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = parts.username is None and parts.password is None and not parts.fragment
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and plain


def _key(secret: Any) -> bytes | None:
    """The key in a secret; None: it is none."""
    if not isinstance(secret, str) or not secret.startswith(SECRET):
        return None
    text = secret.removeprefix(SECRET)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) in SECRET_BYTES else None


class Notice(NamedTuple):
    """Something that happened, and that webhooks are told."""

    #: Which one it is, in all that this installation ever tells: ``job-7-3``.
    key: str
    #: What sort it is: ``puppetmaster.job.ended``.
    type: str
    #: What it is about, as a path of the API.
    subject: str
    #: When it happened, as ISO 8601.
    at: str
    #: What is told of it.
    data: Mapping[str, Any]

    @classmethod
    def of(cls, job: Job, event: Event) -> "Notice":
        """That this event happened to a job, which is told as it was after it."""
        return cls(
            f"job-{job.id}-{event.number}",
            f"puppetmaster.job.{event.what}",
            f"/jobs/{job.id}",
            event.at,
            {"event": event.view(), "job": job.view()},
        )

    @classmethod
    def of_schedule(cls, template: Template, told: Told, at: str) -> "Notice":
        """That a template's schedule did not start its job."""
        return cls(
            f"template-{template.id}-{told.outcome}-{told.due_at}",
            "puppetmaster.schedule.notStarted",
            f"/templates/{template.id}",
            at,
            {"template": {"id": template.id, "name": template.name}, **told.view(at), "many": told.many},
        )

    def cloud_event(self, installation: str) -> dict[str, Any]:
        """The CloudEvent that is sent."""
        return {
            "specversion": "1.0",
            "id": f"{installation}-{self.key}",
            "source": f"urn:puppetmaster:{installation}",
            "type": self.type,
            "subject": self.subject,
            "time": self.at,
            "datacontenttype": "application/json",
            "data": self.data,
        }


class Owed(NamedTuple):
    """A notice that a webhook has not taken yet."""

    #: Number of our own.
    id: int
    #: The name of the webhook.
    hook: str
    notice: Notice
    #: How often it was tried.
    attempts: int = 0

    def document(self) -> dict[str, Any]:
        """What is owed as it is stored, under its id."""
        return {"hook": self.hook, "notice": list(self.notice), "attempts": self.attempts}

    @classmethod
    def from_document(cls, id_: int, document: Mapping[str, Any]) -> "Owed":
        """What ``document()`` was made of."""
        return cls(id_, document["hook"], Notice(*document["notice"]), document["attempts"])


def signed(key: bytes, id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sends this body, as Standard Webhooks has them."""
    content = b"%b.%d.%b" % (id_.encode("ascii"), timestamp, body)
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode("ascii")
    return {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def named_by(hooks: Sequence[Hook], names: Sequence[str]) -> list[Hook]:
    """The webhooks that are told of a job that names these."""
    return [hook for hook in hooks if hook.all or hook.name in names]
