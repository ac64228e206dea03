"""The REST door, from outside: every resource, its codes and headers."""

import gc
import gzip
import json
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.requests import Request

from puppetmaster import jsoncodec
from puppetmaster.api.operations import Backend, Operation
from puppetmaster.api.pages import PART, Chunks, Part, encoded, whole
from puppetmaster.api.service import NOT_KNOWN, Service
from puppetmaster.bus.client import (
    SubscriptionsRefused,
)
from puppetmaster.errors import StoreError
from puppetmaster.http import resources
from puppetmaster.http.keys import CALLER
from puppetmaster.http.resources import Queues, Resource
from puppetmaster.http.security import SMALL_BYTES
from puppetmaster.model.caller import ANYBODY
from puppetmaster.store.base import FIRST_REQUEST_ID
from tests.costs import memory_of
from tests.desk import until
from tests.web_client import Door, Told, batch, heavy, many, running

TIME = {"message": {"method": "get", "resource": "/system/time"}}


def created(door: Door, *destinations: str, **more: Any) -> dict[str, Any]:
    answer = door.ask("POST", "/jobs", batch(*(destinations or ("a", "b", "c")), **more))
    assert answer.status == 200, answer
    job: dict[str, Any] = answer.json
    return job


def test_a_job_from_its_creation_to_its_removal(door: Door) -> None:
    answer = door.ask("POST", "/jobs", batch("a", "b", name="times"))
    job = answer.json
    assert (answer.status, answer.headers["location"]) == (200, f"/jobs/{job['id']}")
    assert (job["status"], job["totalCount"], len(job["requests"])) == ("dispatching", 2, 2)
    shown = door.ask("GET", answer.headers["location"]).json
    assert [one["id"] for one in shown["requests"]] == job["requests"]
    assert [one["__request"]["destination"] for one in shown["requests"]] == ["a", "b"]
    with_collection = door.ask("GET", "/jobs/1?collection=true").json
    listed = (with_collection["requests"], with_collection["collection"])
    assert listed == (job["requests"], shown["requests"])
    assert door.ask("GET", "/jobs/1?collection=false").json["requests"] == job["requests"]
    for path in ("/jobs/1?limit=0", "/jobs/1?limit=0&collection=false"):
        without = door.ask("GET", path).json
        assert (without["requests"], without["totalCount"], without.keys()) == ([], 2, job.keys())
    assert [one["id"] for one in door.ask("GET", "/jobs?name=times").json] == [1]
    assert [one["id"] for one in door.ask("GET", "/jobs?failed=false").json] == [1]
    assert door.ask("GET", "/jobs?failed=true").json == []
    assert door.ask("GET", f"/request/{job['requests'][1]}").json == shown["requests"][1]
    assert door.ask("PUT", "/jobs/1", {"status": "paused"}).json["status"] == "paused"
    assert door.ask("PUT", "/jobs/1", {"status": "canceled"}).json["status"] == "canceled"
    assert door.ask("PUT", "/jobs/1", {"status": "paused"}).status == 409
    assert door.ask("DELETE", "/jobs/1").json["status"] == "canceled"
    assert door.ask("GET", "/jobs/1").status == 404


@pytest.mark.parametrize(
    ("given", "before"),
    [("/pm", "/pm"), ("/a/b-c/", "/a/b-c"), *((odd, "") for odd in ("//elsewhere", "pm", "/", "/a b", "/é"))],
)
def test_the_location_stands_under_the_path_of_a_proxy(shared: Door, given: str, before: str) -> None:
    answer = shared.ask("POST", "/jobs", batch("a"), X_Forwarded_Prefix=given)
    assert (answer.status, answer.headers["location"]) == (200, f"{before}/jobs/{answer.json['id']}")


def test_one_request_is_created_with_its_location(shared: Door) -> None:
    answer = shared.ask("POST", "/requests", {"destination": "a", **TIME})
    assert answer.status == 200
    assert shared.ask("GET", answer.headers["location"]).json["__request"]["destination"] == "a"


def test_lists_say_how_many_there_are_before_paging(door: Door) -> None:
    for _ in range(3):
        created(door, "a", "b")
    answer = door.ask("GET", "/jobs?limit=1&offset=1")
    assert ([one["id"] for one in answer.json], answer.headers["x-total-count"]) == ([2], "3")
    answer = door.ask("GET", "/requests?destination=a&limit=2")
    assert (len(answer.json), answer.headers["x-total-count"]) == (2, "3")
    answer = door.ask("GET", "/jobs/2/requests?limit=0")
    assert (answer.json, answer.headers["x-total-count"]) == ([], "2")
    answer = door.ask("GET", "/jobs/2/requests?status=sent,resolved")
    assert (answer.json, answer.headers["x-total-count"]) == ([], "0")
    many_of_them = door.ask("GET", "/jobs?collection=true").json
    assert [len(job["collection"]) for job in many_of_them] == [2, 2, 2]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/jobs/99", None, 404),
        ("GET", "/jobs/abc", None, 404),
        ("GET", "/jobs/%00", None, 404),
        ("GET", "/requests/1", None, 404),
        ("PUT", "/gateways/%ff", {}, 400),
        ("GET", "/gateways/%ef%bf%bd", None, 404),
        ("GET", "/nothing", None, 404),
        ("GET", "/jobs/", None, 404),
        ("GET", "/jobs?limit=-1", None, 400),
        ("GET", "/jobs?limit", None, 400),
        ("GET", "/jobs?limit=1&limit=2", None, 400),
        ("GET", "/jobs?colour=red", None, 400),
        ("POST", "/jobs", b"{", 400),
        ("POST", "/jobs", b'{"batch": NaN}', 400),
        ("POST", "/jobs", b'{"batch": [{"data": {"a": 1, "b": 2, "a": 1}}]}', 400),
        ("POST", "/jobs", [], 400),
        ("POST", "/jobs", {"batch": []}, 400),
        ("POST", "/requests", {}, 400),
        ("PUT", "/jobs/1", {"status": "red"}, 400),
        ("PUT", "/jobs/99", {"status": "paused"}, 404),
        ("DELETE", "/jobs/99", None, 404),
        ("PATCH", "/jobs", None, 405),
        ("DELETE", "/jobs", None, 405),
        ("POST", "/health", None, 405),
        ("OPTIONS", "/jobs/1", None, 405),
    ],
)
def test_every_refusal_is_an_error_of_the_api(
    shared: Door, method: str, path: str, body: Any, status: int
) -> None:
    answer = shared.ask(method, path, body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["message"]
    assert set(answer.json) <= {"message", "errors"}
    assert ("errors" in answer.json) == (status == 400)
    if status == 405:
        assert method not in answer.headers["allow"].split(", ")


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [
        ("/jobs", batch("a"), batch("b")),
        ("/jobs", {"destinations": ["a", "b"], **TIME}, {"destinations": ["a"], **TIME}),
        (
            "/requests",
            {"destination": "a", **TIME},
            {"destination": "a", **TIME, "options": {"timeout": 7000}},
        ),
    ],
)
def test_the_idempotency_key_works_with_every_form(
    door: Door, path: str, body: dict[str, Any], other: dict[str, Any]
) -> None:
    first = door.ask("POST", path, body, Idempotency_Key="k 1")
    again = door.ask("POST", path, body, Idempotency_Key="k 1")
    in_the_body = door.ask("POST", path, {**body, "key": "k 1"})
    assert (first.status, first.json["id"]) == (200, again.json["id"])
    assert in_the_body.json["id"] == first.json["id"]
    assert [job["key"] for job in door.ask("GET", "/jobs").json] == ["k 1"]
    assert door.ask("POST", path, other, Idempotency_Key="k 1").status == 409
    assert door.ask("POST", path, body).json["id"] != first.json["id"]


def test_whole_numbers_are_shown_as_integers(door: Door) -> None:
    sent = batch("a", requestTimeout=5.0, concurrency=2.0, timeout=60.0, retry={"attempts": 2.0}, rate=0.5)
    shown = door.ask("POST", "/jobs", sent).body
    for part in (b'"requestTimeout":5,', b'"concurrency":2,', b'"timeout":60,', b'{"attempts":2}'):
        assert part in shown
    assert b'"timeout":5,' in door.ask("GET", "/jobs/1").body
    created(door, "a")
    assert b'"timeout":60,' in door.ask("GET", "/jobs/2/requests").body
    assert b'"requestTimeout":60,' in door.ask("GET", "/system/puppetmaster").body


def test_equal_results_come_as_groups(door: Door) -> None:
    created(door, "cg-01", "cg-02")
    assert door.ask("GET", "/jobs/1/results").json == []
    door.ask("PUT", "/jobs/1", {"status": "canceled"})
    (group,) = door.ask("GET", "/jobs/1/results").json
    assert (group["count"], group["destinations"]) == (2, ["cg-[01-02]"])
    (group,) = door.ask("GET", "/jobs/1/results?collection=true&diff=true").json
    assert group["destinations"] == ["cg-01", "cg-02"]
    answer = door.ask("GET", "/jobs/1/results?limit=0")
    assert (answer.json, answer.headers["x-total-count"]) == ([], "1")
    assert door.ask("GET", "/jobs/1/results?limt=1").status == 400
    assert door.ask("GET", "/jobs/9/results").status == 404


def test_a_dry_run_creates_nothing(door: Door) -> None:
    answer = door.ask("POST", "/jobs", batch("a", "b", "c", dryRun=True, waves=[1]))
    assert "location" not in answer.headers
    assert (answer.json["id"], answer.json["dryRun"], answer.json["waveSizes"]) == (None, True, [1, 2])
    assert answer.json["plan"][0] == f"3 requests to 3 gateways: {answer.json['summary']}."
    assert [one["id"] for one in answer.json["requests"]] == [None, None, None]
    assert door.ask("GET", "/jobs").json == []


def test_head_has_the_headers_of_get_and_no_body(shared: Door) -> None:
    created(shared)
    for path in ("/jobs", "/jobs/1", "/", "/health", "/openapi.json"):
        get, head = shared.ask("GET", path), shared.ask("HEAD", path)
        assert (head.status, head.body) == (get.status, b"")
        assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


def test_what_is_known_is_not_sent_again(door: Door) -> None:
    created(door)
    for path in ("/jobs", "/jobs/1", "/jobs/1?collection=false", "/"):
        etag = door.ask("GET", path).headers["etag"]
        again = door.ask("GET", path, If_None_Match=f'"other", {etag}')
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert door.ask("GET", path, If_None_Match='"other"').status == 200
    etag = door.ask("GET", "/jobs/1").headers["etag"]
    door.ask("PUT", "/jobs/1", {"status": "paused"})
    assert door.ask("GET", "/jobs/1", If_None_Match=etag).status == 200


def test_a_long_answer_is_compressed_for_those_who_can_read_that(door: Door) -> None:
    created(door, *many(3000))
    plain = door.ask("GET", "/jobs/1")
    packed = door.ask("GET", "/jobs/1", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == plain.json
    assert len(packed.body) < len(plain.body) / 4
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in door.ask("GET", "/jobs/1?limit=1", Accept_Encoding="gzip").headers


def read_away(door: Door, *asked: bytes) -> int:
    """How many bytes are answered; none is kept."""
    with door.raw(*asked) as connection:
        return sum(map(len, iter(lambda: connection.recv(1 << 16), b"")))


def test_a_long_answer_is_never_in_memory_as_a_whole(door: Door) -> None:
    door.ask("POST", "/jobs", heavy(*many(5000), data_bytes=1000))
    # Once it is paused its requests wait in their scheduler, and making these is no part of the answer.
    door.ask("PUT", "/jobs/1", {"status": "paused"})
    asked = b"GET /jobs/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    size, peak = memory_of(lambda: read_away(door, asked))
    assert size > 5_000_000
    assert peak < size / 2


LARGE = heavy(*many(100), startAt="2100-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with running(tmp_path_factory.mktemp("large")) as started:
        assert started.ask("POST", "/jobs", LARGE).status == 200
        yield started


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/jobs"),
        ("GET", "/jobs/1"),
        ("GET", "/jobs/1?collection=true"),
        ("GET", "/jobs/1/requests"),
        ("GET", "/jobs/1/requests?limit=200"),
        ("GET", "/requests?status=pending"),
        ("GET", "/jobs?collection=true"),
    ],
)
def test_requests_that_share_large_data_are_shown_one_by_one(large: Door, method: str, path: str) -> None:
    sent = json.dumps({**LARGE, "dryRun": True}).encode() if method == "POST" else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sent)}\r\n"
    size, peak = memory_of(lambda: read_away(large, head.encode() + b"Connection: close\r\n\r\n", sent))
    assert size > 20_000_000
    assert peak < 4_000_000


def test_so_many_long_answers_are_sent_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "MOST_LONG", 1)
    with running(tmp_path) as door:
        door.ask("POST", "/jobs", heavy(*many(80)))
        with door.raw(b"GET /jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n") as slow:
            assert slow.recv(100)
            refused = door.ask("GET", "/jobs/1")
            assert refused.status == 503
            assert refused.json["message"].startswith("1 long answers are being sent")
            assert door.ask("GET", "/jobs/1?limit=1").status == 200
            assert door.ask("PUT", "/jobs/1", {"status": "paused"}).status == 200, "others are served"
        until(lambda: door.ask("HEAD", "/jobs/1").status == 200, "there is room again")


def test_what_is_on_disk_is_shown_also_when_nobody_can_say_what_it_waits_for(door: Door) -> None:
    created(door, "a")
    door.app.site.dispatcher.stop()
    (request,) = door.ask("GET", "/jobs/1/requests").json
    assert request["__request"]["status"] == "pending"
    assert request["__request"]["why"] == NOT_KNOWN


def test_a_long_answer_that_breaks_off_has_no_end_and_a_line_in_the_log(
    door: Door, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "WHOLE_BYTES", 100)
    created(door, *many(PART * 2 + 1))
    views = door.app.service.request_views

    def broken(ids: Sequence[int]) -> Any:
        if FIRST_REQUEST_ID + PART * 2 in ids:
            raise StoreError("The disk cannot be read.")
        return views(ids)

    monkeypatch.setattr(door.app.service, "request_views", broken)
    answer = door.answered(b"GET /jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")
    assert "GET /jobs/1 broke off: The disk cannot be read." in caplog.text
    assert "Traceback" not in caplog.text


def test_the_page_is_served_with_its_files_and_nothing_else(shared: Door) -> None:
    page = shared.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert shared.ask("GET", "/static/index.html").body == page.body
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        assert shared.ask("GET", path).status == 404
    assert shared.ask("GET", "/static/..%5capp.py").status == 404


def test_health_says_why_not(shared: Door) -> None:
    answer = shared.ask("GET", "/health")
    assert (answer.status, answer.json["ready"]) == (503, False)
    nothing = "there is no connection to the broker at 127.0.0.1:1: nothing listens there: start the broker,"
    assert answer.json["reasons"][0].startswith(nothing)
    assert answer.json["reasons"][1:] == [
        "the controller does not answer",
        "the controller has not registered us",
    ]
    system = shared.ask("GET", "/system/puppetmaster").json
    assert (system["healthy"], system["store"]["writable"]) == (False, True)
    assert system["bus"]["reason"] == answer.json["reasons"][0]
    assert system["inForce"] == {
        "brokerLimitBytes": {"value": 1_048_576, "from": "controller"},
        "httpConnections": {"value": system["limits"]["httpConnections"], "from": "setting"},
    }


def test_what_the_broker_refuses_is_told(tmp_path: Path) -> None:
    with running(tmp_path, route="direct") as door:
        door.app.site.dispatcher.post([SubscriptionsRefused(presence=True, direct=True)])
        gateways = door.ask("GET", "/system/puppetmaster").json["gateways"]
        assert (gateways["watched"], gateways["route"]) == (False, "remote")
    with running(tmp_path, route="direct", presence="off") as door:
        gateways = door.ask("GET", "/system/puppetmaster").json["gateways"]
        assert (gateways["watched"], gateways["route"]) == (False, "direct")


def test_a_body_of_too_many_values_is_refused_before_it_is_read(shared: Door) -> None:
    body = b"[" + b"[]," * shared.app.service.most_values + b"[]]"
    answer = shared.ask("POST", "/jobs", body)
    assert answer.status == 413
    assert "commas and opening brackets and 1000000 are the most" in answer.json["message"]


def test_nothing_is_kept_of_a_body_that_was_refused(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    class Body(dict[str, Any]):
        pass

    seen: list[weakref.ref[Body]] = []
    decode = jsoncodec.decode_body

    def watched(raw: bytearray) -> Any:
        body = Body(decode(raw))
        seen.append(weakref.ref(body))
        return body

    monkeypatch.setattr(jsoncodec, "decode_body", watched)
    gc.collect()
    gc.disable()
    try:
        several = {"batch": [{"method": "no"}, {"mthod": "get"}], "retry": {"attempts": 0, "on": []}}
        for wrong in ({"nme": 1}, {"rerun": {"job": 7}}, several):
            assert door.ask("POST", "/jobs", wrong).status >= 400
        until(lambda: [body() for body in seen] == [None] * 3, "nothing is left of them")
    finally:
        gc.enable()


def test_rows_are_read_part_by_part() -> None:
    asked: list[int] = []

    def read(ids: Any) -> Part:
        asked.append(len(ids))
        return Part([{"id": id_} for id_ in ids if id_ % 2], len(ids))

    rows = Chunks(7, range(PART * 2 + 1), read)
    jobs = [{"name": "x", "collection": rows}, {"collection": Chunks(0, [], read)}]
    nested = Chunks(1, [1], lambda _: Part(jobs, 1))
    for value in (rows, {"a": 1, "requests": rows}, nested, {"plain": [1]}, [1]):
        asked.clear()
        assert json.loads(b"".join(encoded(value))) == whole_of(value)
        assert max(asked, default=0) <= PART


def whole_of(value: Any) -> Any:
    """``value`` through the plain encoder."""
    return json.loads(json.dumps(whole(value)))


def test_rows_of_which_whole_parts_are_gone_are_still_json() -> None:
    gone = Chunks(0, range(PART * 3), lambda ids: Part([] if ids[0] != PART else [{"id": 1}], len(ids)))
    assert json.loads(b"".join(encoded(gone))) == [{"id": 1}]


# -- a resource alone, without a server -------------------------------------------------------------


class Alone(Told):
    """A resource whose operations are the test's, and what it answered last."""

    most_values = 1000  # as the service has it

    def __init__(self, *operations: Operation) -> None:
        super().__init__()
        self.begun: list[Any] = []
        backend = Backend(cast(Service, self), dict)
        self.queues = Queues.new()
        self._resource = Resource(backend, {one.method: one for one in operations}, self.queues)

    def begin(self, job_id: int) -> None:
        """As the service has it: called when the answer is out."""
        self.begun.append((job_id, bool(self.pieces)))

    def ask(self, method: str = "GET", query: str = "", body: bytes = b"", **headers: str) -> Any:
        """The JSON of the answer; None: it has none."""
        asked = {"method": method, "path": "/x", "query_string": query.encode(), "path_params": {"id": "7"}}
        lines = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
        answer = self.by(self._resource, body, **asked, headers=lines, **{CALLER: ANYBODY})
        return json.loads(answer) if answer else None


def reading(data: Any, **more: Any) -> Operation:
    return Operation("GET", "/x", "", lambda _to, _asked: data, **more)


def echo(method: str = "POST") -> Operation:
    """Answers with what it was given."""
    query = ("limit", "text")
    return Operation(method, "/x", "", lambda _, asked: [asked.id, asked.query.limit, asked.body], query)


def creating(made: dict[str, Any]) -> Operation:
    return Operation("POST", "/x", "", lambda *_: made, created=lambda one: (f"/x/{one['id']}", one["job"]))


def test_what_was_created_is_begun_when_its_answer_is_out() -> None:
    alone = Alone(creating({"id": 3, "job": 5}))
    assert alone.ask("POST", body=b"{}") == {"id": 3, "job": 5}
    assert (alone.headers["location"], alone.begun) == ("/x/3", [(5, True)])


def test_what_was_not_created_is_not_begun() -> None:
    alone = Alone(creating({"id": None, "job": 5}))
    assert alone.ask("POST", body=b"{}") == {"id": None, "job": 5}
    assert (alone.status, alone.begun, "location" in alone.headers) == (200, [], False)
    assert "etag" not in alone.headers, "an answer to a POST is nothing to be kept"


def test_a_parameter_is_for_those_that_read_it() -> None:
    alone = Alone(reading(1), echo())
    assert alone.ask(query="limit=1")["errors"][0]["path"] == "limit"
    assert alone.status == 400
    assert alone.ask("POST", "limit=1&text=x", b"[2]") == ["7", 1, [2]]
    assert [fault["path"] for fault in alone.ask("POST", "limit&x", b"[2]")["errors"]] == ["limit", "x"]


def test_a_method_that_is_none_here_is_told_those_that_are() -> None:
    alone = Alone(reading(1), echo("PUT"))
    assert "PATCH" in alone.ask("PATCH")["message"]
    assert (alone.status, alone.headers["allow"]) == (405, "GET, HEAD, PUT")
    alone = Alone(echo("PUT"))
    alone.ask("HEAD")
    assert (alone.status, alone.headers["allow"]) == (405, "PUT")


@pytest.mark.parametrize(("size", "waits"), [(SMALL_BYTES, False), (SMALL_BYTES + 1, True)])
def test_only_a_large_body_waits_for_its_turn(size: int, waits: bool) -> None:
    alone = Alone(Operation("POST", "/x", "", lambda *_: alone.queues.bodies.locked()))
    assert alone.ask("POST", body=b'"' + b"x" * (size - 2) + b'"') is waits


@pytest.mark.parametrize(("method", "read"), [("POST", True), ("PUT", True), ("DELETE", False)])
def test_a_body_is_for_what_writes(method: str, read: bool) -> None:
    assert Alone(echo(method)).ask(method, body=b'{"a": 1}') == ["7", None, {"a": 1} if read else None]


@pytest.mark.parametrize(
    ("body", "key", "status", "got"),
    [
        (b'{"a": 1}', None, 200, {"a": 1}),
        (b'{"a": 1}', "k 1", 200, {"a": 1, "key": "k 1"}),
        (b'{"key": "k"}', "k", 200, {"key": "k"}),
        (b'{"key": null}', "k", 200, {"key": "k"}),
        (b'{"key": "other"}', "k", 409, None),
        (b"{}", "k\t1", 400, None),
        (b"{}", "\u00e9", 400, None),
        (b"[1]", "k", 200, [1]),
        (b"", None, 400, None),
        (b"{", None, 400, None),
        (b'{"a": 1} {}', None, 400, None),
        (b"\xff", None, 400, None),
    ],
)
def test_the_body_and_its_key(body: bytes, key: str | None, status: int, got: Any) -> None:
    planning = Operation("POST", "/x", "", lambda _, asked: {"id": None, "body": asked.body})
    alone = Alone(planning._replace(created=lambda _: ("/x", 1)))
    answer = alone.ask("POST", body=body, **({} if key is None else {"Idempotency_Key": key}))
    assert alone.status == status
    assert got is None or answer["body"] == got


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_key_is_for_jobs_that_are_created(method: str) -> None:
    assert Alone(echo(method)).ask(method, body=b"{}", Idempotency_Key="k")[2] == {}


def test_what_is_no_json_is_handed_on_for_its_place_to_be_named() -> None:
    """NaN is read loosely; what checks the body says where it stands."""
    seen: list[Any] = []
    alone = Alone(Operation("POST", "/x", "", lambda _, asked: seen.append(asked.body)))
    alone.ask("POST", body=b'{"a": NaN}')
    assert seen[0]["a"] != seen[0]["a"]


def test_a_fault_of_ours_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    alone = Alone(Operation("GET", "/x", "", broken))
    answer = alone.ask()
    assert (alone.status, set(answer)) == (500, {"message"})
    assert "secret" not in answer["message"]
    assert "GET /x failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(("size", "is_whole"), [(100, True), (101, False)])
def test_an_answer_up_to_a_size_is_sent_as_a_whole_with_an_etag(
    monkeypatch: pytest.MonkeyPatch, size: int, is_whole: bool
) -> None:
    monkeypatch.setattr(resources, "WHOLE_BYTES", 100)
    monkeypatch.setattr(resources, "PIECE_BYTES", 10)
    text = "x" * (size - len('["",""]') - 10)
    rows = Chunks(9, [1, 2], lambda _: Part([text, "x" * 10], 2))
    alone = Alone(reading(rows))
    assert alone.ask() == [text, "x" * 10]
    assert ("etag" in alone.headers, "content-length" in alone.headers) == (is_whole, is_whole)
    assert alone.headers["x-total-count"] == "9"
    told = alone.ask("HEAD")
    assert is_whole or told is None, "what is not sent as a whole is not read to the end for its head"
    assert alone.headers["x-total-count"] == "9"


def test_what_was_done_is_answered_however_many_long_answers_are_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So long is that of a job of 50,000 requests that was paused, and a 503 would say that it was not."""
    monkeypatch.setattr(resources, "WHOLE_BYTES", 100)
    monkeypatch.setattr(resources, "MOST_LONG", 0)
    job = {"id": 1, "requests": [*range(100)]}
    done = Operation("PUT", "/x", "", lambda *_: job)
    alone = Alone(reading(job), done, done._replace(method="DELETE"))
    assert [alone.ask(method, body=b"{}") == job for method in ("PUT", "DELETE")] == [True, True]
    alone.ask("GET")
    assert alone.status == 503


def test_pieces_of_a_long_answer_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PIECE_BYTES", 10)
    joined = list(resources._joined(iter([b"12345", b"67890", b"1", b"2" * 30, b"3"])))
    assert joined == [b"1234567890", b"1" + b"2" * 9, b"2" * 10, b"2" * 10, b"23"]


@pytest.mark.parametrize(
    ("known", "status"),
    [('"a"', 304), ('W/"a"', 304), (' "b" , W/"a"', 304), ("*", 304), ('"b"', 200), ("a", 200), ("", 200)],
)
@pytest.mark.parametrize("etag", ['"a"', 'W/"a"'])
def test_what_the_client_knows_is_compared_weakly(known: str, status: int, etag: str) -> None:
    request = Request({"type": "http", "method": "GET", "headers": [(b"if-none-match", known.encode())]})
    shown = resources.document(b"x", "text/plain", request, {"A": "b"}, etag)
    assert (shown.status_code, shown.headers["etag"]) == (status, etag)
    assert shown.headers.get("a") == ("b" if status == 200 else None)
    assert shown.body == (b"x" if status == 200 else b"")


@pytest.mark.parametrize("most_bytes", [10, 1000])
def test_the_etag_of_what_has_ended_follows_its_state_and_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    """Also of what is too long to be sent as a whole; that has none before it has ended."""
    monkeypatch.setattr(resources, "WHOLE_BYTES", most_bytes)
    rows = [1]
    job = {"id": 1, "finishedAt": None, "counts": 1, "requests": Chunks(1, [1], lambda _: Part(rows, 1))}
    alone = Alone(reading(job, query=("text",)))

    def etag(query: str = "", **changed: Any) -> str | None:
        job.update(changed)
        alone.ask(query=query)
        return alone.headers.get("etag")

    first = etag()
    assert (first is None) == (most_bytes == 10)
    rows = [2]
    assert first is None or etag() != first, "of what goes on it is that of all its bytes"
    ended = etag(finishedAt="then")
    rows = [3]
    etags = [ended, etag(), etag(query="text=1"), etag(counts=2)]
    assert etags[1] == ended, "the counts follow whatever happens to its requests"
    assert len({None, *etags}) == 4
    alone.ask("HEAD")
    assert alone.headers["etag"] == etags[3]
    alone.ask(If_None_Match=str(etags[3]))
    assert (alone.status, alone.pieces) == (304, [])
