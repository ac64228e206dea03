"""MQTT packets: as the standard's examples have them, and however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puppetmaster.bus import packets as mqtt

LIMIT = 300


def published(topic: bytes, payload: bytes, packet: int = 0) -> bytes:
    """As a broker sends it: QoS 1 with a packet number, QoS 0 without."""
    body = len(topic).to_bytes(2) + topic + (packet.to_bytes(2) if packet else b"") + payload
    return bytes((0x32 if packet else 0x30,)) + mqtt._length(len(body)) + body


# Outwards

PLAIN = b"\x10\x0e\x00\x04MQTT\x04\x00\x01\x2c\x00\x02me"


@pytest.mark.parametrize(
    ("packet", "data"),
    [
        (
            mqtt.connect("me", keepalive_s=20, user="u", password="pw"),
            b"\x10\x15\x00\x04MQTT\x04\xc0\x00\x14\x00\x02me\x00\x01u\x00\x02pw",
        ),
        (mqtt.connect("me", keepalive_s=300), PLAIN),
        (mqtt.connect("me", keepalive_s=300, password="3.1.1 knows none without a user"), PLAIN),
        (mqtt.connect("me", keepalive_s=300, clean=True), PLAIN[:9] + b"\x02" + PLAIN[10:]),
        (
            mqtt.connect("me", keepalive_s=300, user="u"),
            b"\x10\x11\x00\x04MQTT\x04\x80\x01\x2c\x00\x02me\x00\x01u",
        ),
        (  # of MQTT 5, without properties
            mqtt.connect("me", keepalive_s=20, clean=True, version=mqtt.VERSION_5),
            b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x14\x00\x00\x02me",
        ),
        (mqtt.subscribe(1, [("a/b", 1), ("c", 0)]), b"\x82\x0c\x00\x01\x00\x03a/b\x01\x00\x01c\x00"),
        (mqtt.Topic("t").publish(b""), b"0\x03\x00\x01t"),
        (mqtt.Topic("t").publish(b"x" * 124), b"0\x7f\x00\x01t" + b"x" * 124),
        (mqtt.Topic("t").publish(b"x" * 125), b"0\x80\x01\x00\x01t" + b"x" * 125),
        (mqtt.puback(258), b"@\x02\x01\x02"),
    ],
)
def test_what_is_sent_is_as_the_standard_has_it(packet: bytes, data: bytes) -> None:
    assert packet == data


# What mosquitto 2.0.11 answers with max_packet_size 100000: topic alias maximum, that, receive maximum.
GREETING = bytes.fromhex("20 0e 00 00 0b 22 00 0a 27 00 01 86 a0 21 00 14")


@pytest.mark.parametrize("end", range(len(GREETING)))
def test_a_greeting_comes_in_parts(end: int) -> None:
    assert mqtt.greeting(GREETING[:end]) is None
    assert mqtt.greeting(GREETING) == mqtt.Greeting(0, 100_000)


@pytest.mark.parametrize(
    ("properties", "limit_bytes"),
    [
        ("", mqtt.LARGEST_BYTES),
        ("27 00 10 00 00", 2**20),
        ("12 00 02 27 27 27 00 00 ff ff", 0xFFFF),  # an assigned client id, '\'\''
        ("26 00 01 61 00 02 27 27 27 00 00 ff ff 24 01", 0xFFFF),  # a name and a value
        ("11 00 00 00 27 13 00 27 2a 27 1f 00 00", mqtt.LARGEST_BYTES),
    ],
)
def test_the_limit_is_found_among_the_properties_of_a_greeting(properties: str, limit_bytes: int) -> None:
    told = bytes.fromhex(properties)
    greeting = bytes((0x20, len(told) + 3, 0, 0, len(told))) + told
    assert mqtt.greeting(greeting) == mqtt.Greeting(0, limit_bytes)


@pytest.mark.parametrize(("refusal", "code"), [(b"\x20\x02\x00\x01", 1), (b"\x20\x03\x00\x84\x00", 0x84)])
def test_a_broker_that_does_not_speak_mqtt_5_refuses_us(refusal: bytes, code: int) -> None:
    """The first in the form of MQTT 3.1.1."""
    greeting = mqtt.greeting(refusal)
    assert greeting is not None
    assert greeting.code == code


@pytest.mark.parametrize(
    "wrong",
    [
        b"HTTP/1.1 400",
        b"\x20\x01\x00",
        b"\x20\x80\x80\x80\x80\x01",
        b"\x20\x05\x00\x00\x01\x27\x00",  # in the middle of a property
        b"\x20\x04\x00\x00\x05\x27",  # fewer properties than it says
        b"\x20\x04\x00\x00\x01\x77",
    ],
)
def test_what_is_no_greeting_is_malformed(wrong: bytes) -> None:
    with pytest.raises(mqtt.Malformed):
        mqtt.greeting(wrong)


@pytest.mark.parametrize(
    ("size", "encoded"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
        (268_435_455, b"\xff\xff\xff\x7f"),
    ],
)
def test_the_remaining_length_is_that_of_the_standard(size: int, encoded: bytes) -> None:
    """Table 2.4."""
    assert mqtt._length(size) == encoded


# Inwards

#: The longest message that is within the limit.
INDENTED = b"[" + b"\n    1," * 42 + b"\n]"

PACKETS: list[tuple[bytes, mqtt.Packet]] = [
    (b"\x20\x02\x00\x00", mqtt.Connack(0)),
    (b"\x20\x02\x01\x05", mqtt.Connack(5, known=True)),
    (b"\x90\x03\x00\x01\x01", mqtt.Suback(1, (1,))),
    (b"\x90\x04\x00\x01\x01\x80", mqtt.Suback(1, (1, 128))),
    (b"\x90\x80\x08\x00\x01" + bytes(1022), mqtt.Suback(1, (0,) * 1022)),
    (b"\xd0\x00", mqtt.Pingresp()),
    (published(b"t/1", b""), mqtt.Published(b"t/1", b"", 0)),
    (published(b"t/1", b"hello", 9), mqtt.Published(b"t/1", b"hello", 9)),
    (published(b"t", b"x" * 125), mqtt.Published(b"t", b"x" * 125, 0)),
    (published(b"t", INDENTED), mqtt.Published(b"t", INDENTED, 0)),
    (b"1" + published(b"t", b"x")[1:], mqtt.Published(b"t", b"x", 0, retained=True)),
    (published(b"t", b"x" * 297), mqtt.Published(b"t", b"x" * 297, 0)),
    (published(b"t", b"x" * 298), mqtt.Published(b"t", b"x" * 298, 0)),
    (published(b"t", b"x" * 5000, 65_535), mqtt.Published(b"t", b"x" * (LIMIT + 1), 65_535)),
    (published(b"t", b"[" + b"\n    1," * 80 + b"\n]", 7), mqtt.Published(b"t", b"[" + b"1," * 80 + b"]", 7)),
]


@pytest.mark.parametrize(("data", "packet"), PACKETS)
def test_a_packet_is_read(data: bytes, packet: mqtt.Packet) -> None:
    assert mqtt.Decoder(LIMIT).feed(data) == [packet]
    decoder = mqtt.Decoder(LIMIT)
    assert [one for at in range(len(data)) for one in decoder.feed(data[at : at + 1])] == [packet]


@given(st.lists(st.sampled_from(PACKETS), max_size=8), st.lists(st.integers(1, 700), max_size=30))
def test_packets_are_read_however_they_are_cut(
    packets: list[tuple[bytes, mqtt.Packet]], cuts: list[int]
) -> None:
    stream = b"".join(data for data, _ in packets)
    decoder, read, at = mqtt.Decoder(LIMIT), list[mqtt.Packet](), 0
    for size in [*cuts, len(stream)]:
        read += decoder.feed(stream[at : at + size])
        at += size
    read += decoder.feed(stream[at:])
    assert read == [packet for _, packet in packets]


def test_of_a_message_that_is_too_long_only_the_beginning_is_kept() -> None:
    decoder = mqtt.Decoder(LIMIT)
    data = published(b"t", b"begins" + b"x" * 1_000_000, 7)
    for at in range(0, len(data) - 1000, 1000):
        assert decoder.feed(data[at : at + 1000]) == []
        assert len(decoder._buffer) <= LIMIT
        assert decoder._long is None or len(decoder._long.payload.text) <= LIMIT + 1
    end = data[at + 1000 :]
    (cut, other) = decoder.feed(end + b"\xd0\x00")
    assert cut == mqtt.Published(b"t", b"begins" + b"x" * (LIMIT - 5), 7)
    assert other == mqtt.Pingresp()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="a length of five bytes"),
        pytest.param(b"\x34\x05\x00\x01t\x00\x01", id="QoS 2, which nobody asked for"),
        pytest.param(b"\x36\x05\x00\x01t\x00\x01", id="QoS 3, which does not exist"),
        pytest.param(b"\x30\x02\x00\x09", id="a topic longer than its packet"),
        pytest.param(b"\x32\x04\x00\x02tt", id="no packet number"),
        pytest.param(b"\x30\x00", id="a message without a topic"),
        pytest.param(b"\x20\x00", id="an empty CONNACK"),
        pytest.param(b"\x20\x01\x00", id="a short CONNACK"),
        pytest.param(b"\x20\x03\x00\x00\x00", id="a long CONNACK"),
        pytest.param(b"\x90\x00", id="an empty SUBACK"),
        pytest.param(b"\x90\x02\x00\x01", id="a SUBACK of nothing"),
        pytest.param(b"\x90\x81\x08", id="a SUBACK of more than we ever ask for"),
        pytest.param(b"\xd0\x01\x00", id="a long PINGRESP"),
        pytest.param(b"\xd0\x03\x00\x00\x00", id="a longer PINGRESP"),
        pytest.param(b"\x40\x02\x00\x01", id="a PUBACK, and we publish at QoS 0"),
        pytest.param(b"\x00\x00", id="a kind that does not exist"),
        pytest.param(b"\xf0\xff\x7f", id="a long packet of a kind that does not exist"),
        pytest.param(b"GET / HTTP/1.1\r\n", id="another protocol"),
    ],
)
def test_what_is_no_mqtt_is_malformed(data: bytes) -> None:
    with pytest.raises(mqtt.Malformed):
        mqtt.Decoder(LIMIT).feed(data)


@given(st.binary(max_size=2000))
def test_whatever_comes_it_is_read_or_malformed(data: bytes) -> None:
    decoder = mqtt.Decoder(LIMIT)
    try:
        for at in range(0, len(data), 7):
            decoder.feed(data[at : at + 7])
    except mqtt.Malformed:
        return
    assert len(decoder._buffer) <= LIMIT + 1024 + 65_540
