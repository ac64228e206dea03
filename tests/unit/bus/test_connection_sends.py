"""What leaves by a connection: in which order, what is tried because it is long, what is lost."""

import itertools
import queue
import socket
import threading
import time
from typing import cast

import pytest

from puppetmaster.bus import connection as connection_module
from puppetmaster.bus import packets
from puppetmaster.jsoncodec import FEW_BYTES
from puppetmaster.model.message import Outgoing, Tried
from sandbox.broker import Broker
from sandbox.process import free_port
from tests.bus_client import BusClient
from tests.conftest import require
from tests.proxy import Proxy
from tests.unit.bus.connections import ELSEWHERE, WAIT_S, Ear, Full, Script, Trial, connected, listening


@pytest.mark.parametrize(("room", "wakes"), [(0, True), (3, True), (1000, False)])
def test_the_thread_is_woken_to_write_on_what_did_not_fit(room: int, wakes: bool) -> None:
    """It would sleep for seconds else."""
    ear, taking, waking = Ear(free_port()), Full(room), Full(10)
    ear.connection._up, ear.connection._socket = True, cast(socket.socket, taking)
    ear.connection._wakes = cast(socket.socket, waking)
    assert ear.send(b"one")
    assert (waking.taken != b"") == wakes
    waking.taken, taking.room = b"", 1000
    assert ear.connection.subscribe([("two", 0)])
    assert (waking.taken != b"") == wakes, "what came later does not overtake it"
    ear.connection._write_on()
    assert taking.taken == packets.Topic(ELSEWHERE).publish(b"one") + packets.subscribe(2, [("two", 0)])


def unsent(*sizes: int, untried: int) -> list[tuple[list[int], bool]]:
    """How messages of these sizes are written: which of them together, and whether they are tried."""
    head = len(packets.Topic(ELSEWHERE).publish(b""))
    messages = [Outgoing(id_, b"x" * (size - head), ELSEWHERE) for id_, size in enumerate(sizes, 1)]
    parts = list(connection_module._parts(messages, untried))
    for part in parts:
        assert [end for _, end in part.ends] == list(itertools.accumulate(sizes[i - 1] for i, _ in part.ends))
        assert len(part.data) == part.ends[-1][1]
    return [([id_ for id_, _ in part.ends], part.tried) for part in parts]


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([100, 20, 100], [([1, 2, 3], False)]),
        ([101], [([1], True)]),
        ([20, 101, 100, 30], [([1], False), ([2], True), ([3, 4], False)]),
        ([101, 102, 20], [([1], True), ([2], True), ([3], False)]),
    ],
)
def test_messages_are_written_together_but_for_those_that_are_tried(
    sizes: list[int], parts: list[tuple[list[int], bool]]
) -> None:
    assert unsent(*sizes, untried=100) == parts


@pytest.mark.parametrize(
    ("room", "unsent", "tried"),
    [(0, (1, 3), None), (1, (1, 3), Tried(1, whole=False)), (5000, (1, 3), Tried(1, whole=False))],
)
def test_what_is_lost_with_a_connection(
    monkeypatch: pytest.MonkeyPatch, room: int, unsent: tuple[int, ...], tried: Tried | None
) -> None:
    """Of what has no id nobody is told."""
    trial = Trial(monkeypatch, room)
    assert trial.connection.send([Outgoing(1, b"x" * 5000), Outgoing(0, b"event"), Outgoing(3, b"behind")])
    trial.connection._write_on()
    assert len(trial.socket.taken) == room
    trial.connection._lost()
    assert trial.ear.downs.get_nowait() == unsent
    assert (trial.ear.tried, trial.connection.waiting_bytes) == ([tried], 0)
    trial.connection._lost()
    assert trial.ear.downs.empty(), "what is not up does not go down"


def test_what_is_cut_off_within_was_not_tried_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, 3)
    assert trial.ear.send(b"short", b"behind")
    trial.connection._lost()
    assert (trial.ear.downs.get_nowait(), trial.ear.tried) == ((1, 2), [None])


def test_each_step_of_a_message_that_is_tried_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(monkeypatch, 0)
    long = len(packets.Topic("/controller").publish(b"x" * 5000))
    assert trial.ear.send(b"x" * 5000, topic="/controller")
    assert trial.connection.subscribe([("a", 0)])
    steps = []
    for _ in range(3):
        steps.append(trial.writes())
        trial.now_s += connection_module.TRIAL_S - 0.01
        assert trial.writes() == 0, "it waits"
        trial.now_s += 0.01
    assert steps == [long - 1, 1, len(packets.subscribe(1, [("a", 0)]))]
    assert trial.connection._untried_bytes == connection_module.UNTRIED_FACTOR * long


@pytest.mark.parametrize(
    ("lost_ago_s", "factor"),
    [
        (1.0, 1),
        (connection_module.CAREFUL_S - 0.01, 1),
        (connection_module.CAREFUL_S, connection_module.UNTRIED_FACTOR),
    ],
)
def test_soon_after_a_loss_what_is_longer_is_tried(
    monkeypatch: pytest.MonkeyPatch, lost_ago_s: float, factor: int
) -> None:
    trial = Trial(monkeypatch, 0)
    trial.connection._lost()
    trial.connection._up, trial.connection._socket = True, cast(socket.socket, trial.socket)
    trial.now_s += lost_ago_s - 2 * connection_module.TRIAL_S
    trial.ear.send(b"x" * 5000, topic="/controller")
    for _ in range(3):
        trial.writes()
        trial.now_s += connection_module.TRIAL_S
    assert trial.connection._untried_bytes == factor * len(packets.Topic("/controller").publish(b"x" * 5000))


def test_what_the_system_does_not_take_is_counted_and_its_end_is_told() -> None:
    ear, taking = Ear(free_port()), Full(0)
    ear.connection._up, ear.connection._socket = True, cast(socket.socket, taking)
    payloads = [b"x" * 1000] * 4000
    packet = len(packets.Topic(ELSEWHERE).publish(payloads[0]))
    assert ear.send(*payloads)
    whole = 4000 * packet
    assert ear.connection.waiting_bytes == whole
    steps = [whole - FEW_BYTES - 1, 1, FEW_BYTES]  # much is still there, it has become little, all is out
    for step, told, left in zip(steps, (0, 1, 1), (FEW_BYTES + 1, FEW_BYTES, 0), strict=True):
        taking.room = step
        ear.connection._write_on()
        assert ear.connection.waiting_bytes == left
        assert ear.room.qsize() == told, "once, when it has become little"
    assert len(taking.taken) == whole


# On a real broker


def test_threads_that_send_at_once_do_not_mix(broker: Broker) -> None:
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker) as client, connected(broker.port) as ear:
        client.subscribe("elsewhere", came.put)
        threads = [
            threading.Thread(target=lambda letter=letter: [ear.send(letter * 50_000) for _ in range(40)])
            for letter in (b"a", b"b", b"c")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bodies = [came.get(timeout=WAIT_S) for _ in range(120)]
        assert sorted(bodies) == [letter * 50_000 for letter in (b"a", b"b", b"c") for _ in range(40)]


@pytest.mark.usefixtures("soon")
def test_what_has_not_left_is_named(broker: Broker) -> None:
    """Those that are named never arrive; of those before them all may have."""
    came: queue.Queue[bytes] = queue.Queue()
    with Proxy(broker.port) as proxy, BusClient(broker) as client, connected(proxy.port) as ear:
        client.subscribe("elsewhere", came.put)
        assert ear.send(b"as long" + b"x" * 100_000, b"behind")  # or the first of the others would be tried
        while came.get(timeout=WAIT_S) != b"behind":
            pass
        proxy.hold()
        payloads = [b"%03d" % number + b"x" * 100_000 for number in range(1, 301)]
        for _ in range(2):
            assert ear.send(*payloads), "it takes them, and does not wait"
        proxy.cut()
        proxy.release()
        named = ear.downs.get(timeout=WAIT_S)
        assert 0 < len(named) < 600, "the system had taken some, not all"
        assert named[-1] == 300
        ear.ups.get(timeout=WAIT_S)
        client.send(b"end", "elsewhere")
        arrived = list(iter(lambda: came.get(timeout=WAIT_S), b"end"))
        assert len(arrived) + len(named) <= 600


def test_nothing_is_written_beside_a_message_that_is_tried_and_all_of_it_arrives(broker: Broker) -> None:
    came: queue.Queue[bytes] = queue.Queue()
    with BusClient(broker) as client, connected(broker.port) as ear:
        client.subscribe(ELSEWHERE, came.put)
        payloads = [b"%d" % number + b"x" * size for number, size in enumerate((10, 9000, 10, 8000, 9001, 5))]
        assert ear.send(*payloads[:4])
        assert ear.connection.subscribe([("later", 0)])
        assert ear.send(*payloads[4:])
        assert [came.get(timeout=WAIT_S) for _ in payloads] == payloads
        assert ear.connection._untried_bytes == 2 * len(packets.Topic(ELSEWHERE).publish(payloads[1]))


@pytest.mark.usefixtures("soon")
def test_a_broker_with_a_limit_has_none_of_what_is_too_long() -> None:
    """And all that was before it, nothing of what waited behind it."""
    require("mosquitto")
    came: queue.Queue[bytes] = queue.Queue()
    with (
        Broker("mosquitto", config="max_packet_size 20000\n") as broker,
        BusClient(broker) as client,
        connected(broker.port) as ear,
    ):
        client.subscribe(ELSEWHERE, came.put)
        for first in (b"x" * 9000, b"x" * 19_000):
            assert ear.send(b"before", first, b"x" * 21_000, b"behind")
            assert ear.downs.get(timeout=WAIT_S) == (3, 4)
            ear.ups.get(timeout=WAIT_S)
        assert ear.tried == [Tried(3, whole=False)] * 2
        assert ear.send(b"again")
        assert [len(came.get(timeout=WAIT_S)) for _ in range(5)] == [6, 9000, 6, 19_000, 5]


def test_a_broker_that_hangs_holds_nobody_up(broker: Broker) -> None:
    with connected(broker.port) as ear:
        broker.pause()
        try:
            begun_s = time.monotonic()
            for _ in range(50):  # more than the system takes
                assert ear.send(b"x" * 1_000_000)
            ear.connection.stop(5)
            assert time.monotonic() - begun_s < 5
            assert not ear.connection.thread.is_alive()
        finally:
            broker.resume()


# On a broker that does what the test says


def test_it_writes_on_as_soon_as_there_is_room(
    script: Script, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LOOK_UP_S", 600.0)
    payloads = [b"x" * 4000] * 2000
    assert ear.send(*payloads)
    assert ear.connection._backlog, "that is more than the system takes"
    script.hear_bytes(len(payloads) * len(packets.Topic(ELSEWHERE).publish(payloads[0])))


@pytest.mark.parametrize("whole", [False, True])
def test_the_connection_ends_at_a_message_that_is_tried(script: Script, ear: Ear, whole: bool) -> None:
    """Its last byte waits, and what is behind it waits for the broker to have seen that."""
    long = packets.Topic(ELSEWHERE).publish(b"x" * 5000)
    assert ear.send(b"before", b"x" * 5000, b"behind")
    assert script.hear() == packets.Topic(ELSEWHERE).publish(b"before")
    assert script.hear_bytes(len(long) - 1) == long[:-1]
    assert script.hears_nothing(connection_module.TRIAL_S / 2)
    if whole:
        assert script.hear_bytes(1) == long[-1:]
        assert script.hears_nothing(connection_module.TRIAL_S / 2)
    script.close_client()
    assert ear.downs.get(timeout=WAIT_S) == ((3,) if whole else (2, 3))
    assert ear.tried == [Tried(2, whole=whole)]


@pytest.mark.usefixtures("soon")
def test_what_is_not_much_longer_than_what_was_carried_is_not_tried(script: Script) -> None:
    """Soon after a loss, perhaps for that, whatever is longer is."""
    payloads = [b"x" * size for size in (5000, 5000, 4500, 9000)]
    long = [packets.Topic(ELSEWHERE).publish(payload) for payload in payloads]
    with listening(script.port) as ear:
        for careful in (False, True):
            script.welcome()
            ear.ups.get(timeout=WAIT_S)
            assert ear.send(*payloads)
            script.hear_bytes(len(long[0]) - 1)
            assert script.hear_bytes(1 + sum(map(len, long[1:3]))).endswith(long[2])
            script.hear_bytes(len(long[3]) - 1)
            assert script.hears_nothing(connection_module.TRIAL_S / 2) == careful
            script.hear_bytes(1)
            script.close_client()
            assert ear.downs.get(timeout=WAIT_S) == ()
        assert ear.tried == [None, Tried(4, whole=True)]
