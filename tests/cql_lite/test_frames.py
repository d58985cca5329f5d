"""Frames: golden bytes, any cut of the stream, and what is refused before it is believed."""

from __future__ import annotations

import random
import struct
import zlib

import lz4.block
import pytest
from hypothesis import given, settings, strategies as st

from core.limits import CQL_DROPPED_BYTES_MAX
from cql_lite.frames import (
    SEGMENT_BYTES_MAX,
    Envelope,
    FrameReader,
    FrameWriter,
    MalformedError,
    OversizedError,
    crc24,
)

BODIES = st.lists(
    st.binary(max_size=40) | st.integers(0, 300_000).map(lambda n: bytes(range(256)) * (n // 256)), max_size=4
)


def pair(version: int, compressed: bool) -> tuple[FrameWriter, FrameReader]:
    writer, reader = FrameWriter(), FrameReader(responses=True)
    if version >= 5:
        writer.begin_segments(compressed)
        reader.begin_segments(compressed)
    elif compressed:
        writer.begin_compression()
    return writer, reader


@given(st.sampled_from([3, 4, 5]), st.booleans(), BODIES, st.lists(st.integers(1, 100_000), max_size=20))
@settings(max_examples=60)
def test_envelopes_come_back_however_the_stream_is_cut(
    version: int, compressed: bool, bodies: list[bytes], cuts: list[int]
) -> None:
    writer, reader = pair(version, compressed)
    data = writer.wrap([writer.envelope(version, 0, i, 8, body=body) for i, body in enumerate(bodies)])
    data += writer.send(version, 2, -1, 12, body=b"event")
    found, at = [], 0
    for cut in [*cuts, len(data)]:
        found += reader.receive(data[at : at + cut])
        at += cut
    assert [(one.version, one.stream, one.body) for one in found] == [
        *((version, i, body) for i, body in enumerate(bodies)),
        (version, -1, b"event"),
    ]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_byte_by_byte(version: int, compressed: bool) -> None:
    writer, reader = pair(version, compressed)
    data = writer.send(version, 0, 1, 8, body=b"a" * 600) + writer.send(version, 0, 2, 8, body=b"")
    found = [(i, one.stream) for i in range(len(data)) for one in reader.receive(data[i : i + 1])]
    assert found[-1] == (len(data) - 1, 2)
    assert [stream for _, stream in found] == [1, 2]


def test_golden_bytes() -> None:
    """The layouts of section 2 of the specification, written by hand."""
    options = bytes.fromhex("04 00 0001 05 00000000")
    assert FrameReader().receive(options) == [Envelope(4, 0, 1, 5, b"")]
    assert FrameWriter().send(4, 0, 1, 2, body=b"").hex(" ") == "84 00 00 01 02 00 00 00 00"

    writer, _ = pair(5, False)
    envelope = bytes.fromhex("85 00 0001 02 00000000")
    crc = zlib.crc32(envelope, zlib.crc32(bytes.fromhex("fa2d55ca")))
    header = (9 | 1 << 17).to_bytes(3, "little")
    assert header.hex() == "090002"
    expected = header + crc24(9 | 1 << 17, 3).to_bytes(3, "little") + envelope + struct.pack("<I", crc)
    assert writer.send(5, 0, 1, 2, body=b"") == expected


def test_the_checksum_of_headers_is_cassandras() -> None:
    """Bit by bit as in section 2.1: start 0x875060, polynomial 0x1974F0B."""
    for header, width in [(0, 3), (9 | 1 << 17, 3), (2**18 - 1, 3), (2**35 - 1, 5), (12345 << 17 | 77, 5)]:
        crc = 0x875060
        for byte in header.to_bytes(width, "little"):
            crc ^= byte << 16
            for _ in range(8):
                crc = crc << 1 ^ (0x1974F0B if crc & 0x800000 else 0)
        assert crc24(header, width) == crc


def test_small_messages_share_a_segment_and_large_ones_span_several() -> None:
    writer, _ = pair(5, False)
    small = [writer.envelope(5, 0, i, 8, body=b"x" * 100) for i in range(50)]
    assert len(writer.wrap(small)) == 50 * 109 + 10
    large = writer.envelope(5, 0, 1, 8, body=bytes(SEGMENT_BYTES_MAX))
    assert len(writer.wrap([*small, large])) == 50 * 109 + 10 + SEGMENT_BYTES_MAX + 9 + 20


def test_large_compressible_bodies_shrink() -> None:
    for version in (4, 5):
        writer, reader = pair(version, True)
        data = writer.send(version, 0, 1, 8, body=b"a" * 100_000)
        assert len(data) < 1_000
        assert reader.receive(data)[0].body == b"a" * 100_000


def envelope_bytes(version: int = 4, flags: int = 0, length: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">BBhBi", version, flags, 7, 5, length) + body


def block(claimed: int, body: bytes) -> bytes:
    data = struct.pack(">I", claimed) + lz4.block.compress(body, store_size=False)
    return envelope_bytes(flags=1, length=len(data), body=data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (envelope_bytes(length=CQL_DROPPED_BYTES_MAX + 1), "over the limit"),
        (envelope_bytes(length=-1), "over the limit"),
        (envelope_bytes(version=0x84), "the other way"),
        (envelope_bytes(flags=1, length=2, body=b"ab"), "without its length"),
        (block(10**9, b"x"), "claims 1000000000 bytes"),
        (block(20_000_000, b"x"), "claims 20000000 bytes"),
        (block(4, b"x"), "has 1 bytes, not 4"),
        (block(1, b"xy" * 40), "LZ4 block"),
        (b"GET / HTTP/1.1\r\n\r\n", "unsupported protocol version (71)"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(MalformedError) as refused:
        FrameReader().receive(data)
    assert said in str(refused.value)
    assert refused.value.fatal


@pytest.mark.parametrize(("version", "compressed"), [(3, False), (4, True), (5, False), (5, True)])
@pytest.mark.parametrize("piece", [11, 70_000, 1 << 20])
def test_what_is_too_long_is_passed_over(version: int, compressed: bool, piece: int) -> None:
    """It is told once, before it is there, and nothing of it is kept."""
    writer, reader = FrameWriter(responses=False), FrameReader(limit=1000)
    if version >= 5:
        writer.begin_segments(compressed)
        reader.begin_segments(compressed)
    elif compressed:
        writer.begin_compression()
    bodies = [b"a" * 1000, random.Random("long").randbytes(300_000), b"b" * 3000, b"c"]
    data = b"".join(writer.send(version, 0, stream, 7, body=body) for stream, body in enumerate(bodies))
    told: list[tuple[int, str]] = []
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
        while True:
            try:
                envelope = reader.next()
            except OversizedError as problem:
                told.append((problem.stream, str(problem)))
                continue
            if envelope is None:
                break
            told.append((envelope.stream, envelope.body[:1].decode()))
        if len(told) == 1 and start > 100_000 and version < 5:
            raise AssertionError("it was not told when its length was known")
        assert len(reader._inner.data) <= max(piece, 2 * SEGMENT_BYTES_MAX)
    assert [stream for stream, _ in told] == [0, 1, 2, 3]
    assert [told[0][1], told[3][1]] == ["a", "c"]
    assert told[2][1] == "a message of 3000 bytes is over the limit of 1000 bytes"
    assert "over the limit" in told[1][1]


@pytest.mark.parametrize("version", [1, 2, 6, 65, 66])
def test_an_unknown_version_is_refused_on_its_stream(version: int) -> None:
    data = envelope_bytes(version) if version > 2 else bytes((version, 0, 7, 5, 0, 0, 0, 0))
    reader = FrameReader()
    assert reader.receive(data[:-1]) == []
    with pytest.raises(MalformedError, match="unsupported protocol version") as refused:
        reader.receive(data[-1:])
    assert refused.value.stream == 7


@pytest.mark.parametrize("at", [0, 3, 8, -1])
def test_a_flipped_bit_in_a_segment_is_seen(at: int) -> None:
    writer, reader = pair(5, False)
    data = bytearray(writer.send(5, 0, 1, 8, body=b"body"))
    data[at] ^= 0x10
    with pytest.raises(MalformedError, match="does not match its checksum"):
        reader.receive(bytes(data))


def test_a_self_contained_segment_within_a_long_message_is_refused() -> None:
    writer, reader = pair(5, False)
    long = writer.send(5, 0, 1, 8, body=bytes(SEGMENT_BYTES_MAX))
    with pytest.raises(MalformedError, match="spans several"):
        reader.receive(long[: SEGMENT_BYTES_MAX + 10] + writer.send(5, 0, 2, 8, body=b""))


@given(st.sampled_from([3, 4, 5]), st.booleans(), BODIES, st.data())
@settings(max_examples=200)
def test_damaged_frames_are_refused_or_read(
    version: int, compressed: bool, bodies: list[bytes], data: st.DataObject
) -> None:
    writer, reader = pair(version, compressed)
    frames = bytearray(writer.wrap([writer.envelope(version, 0, 1, 8, body=body) for body in bodies]))
    for _ in range(data.draw(st.integers(1, 4)) if frames else 0):
        frames[data.draw(st.integers(0, min(len(frames), 64) - 1))] = data.draw(st.integers(0, 255))
    try:
        reader.receive(bytes(frames))
    except MalformedError:
        with pytest.raises(AssertionError, match="nothing is read after"):
            reader.receive(b"x")
