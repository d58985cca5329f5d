"""Peers over real sockets: what arrives, what waits, who is refused, and what malformed bytes cost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core import limits
from core.bulk_messages import ApplyEach
from core.messages import (
    ApplyMutation,
    Hello,
    MutationApplied,
    MutationsApplied,
    Ping,
    PingNack,
    Refused,
    decode_message,
    encode_message,
)
from core.ports import BULK, SMALL, URGENT
from server import certificates, connections, link as link_module, log_limit, transport as transport_module
from server.certificate_files import TlsConfig
from server.config import parse_config
from server.frames import preamble
from tests.fuzzing import INPUTS, SEED
from tests.server.harness import Station, addresses, free_port, introduce, meet, run, stations, until


def frame(message: object) -> bytes:
    body = message if isinstance(message, bytes) else encode_message(message)  # type: ignore[arg-type]
    return struct.pack(">I", len(body)) + body


def hello_of(number: int, address: str = "127.0.0.1") -> Hello:
    return Hello(1, 1, "test", b"", bytes([number]) * 16, 1, f"n{number}", address, "dc1", "r1", 0)


async def stop(*every: Station) -> None:
    for station in every:
        await station.transport.stop()


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Station, Station]]:
    a, b = await stations(2)
    await meet(a, b)
    try:
        yield a, b
    finally:
        await stop(a, b)


def test_messages_arrive_both_ways_and_in_order() -> None:
    async def work() -> None:
        async with pair() as (a, b):
            for n in range(1_000):
                assert a.transport.send(b.peer, PingNack(n), SMALL)
                assert b.transport.send(a.peer, PingNack(n), SMALL)
            await until(lambda: len(a.node.messages) == len(b.node.messages) == 1_000)
            assert b.node.messages == [(a.peer, PingNack(n)) for n in range(1_000)]
            assert a.node.messages == [(b.peer, PingNack(n)) for n in range(1_000)]
            assert a.node.peers == [(b.peer, True)]

    run(work())


def test_one_tick_is_one_write_and_one_message_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[object] = []

    def counting(message: object) -> bytes:
        encoded.append(message)
        return encode_message(message)  # type: ignore[arg-type]

    async def work() -> None:
        a, b, c = await stations(3)
        await meet(a, b, c)
        monkeypatch.setattr(transport_module, "encode_message", counting)
        monkeypatch.setattr(link_module, "encode_message", counting)
        before = a.transport.counters.writes
        for n in range(100):
            for message in (PingNack(n), ApplyMutation(n, 1, 1, b"x" * 100)):
                a.transport.send(b.peer, message, SMALL)
                a.transport.send(c.peer, message, SMALL)
        await until(lambda: len(b.node.messages) == len(c.node.messages) == 101)
        assert a.transport.counters.writes - before == 2
        assert len(encoded) == 101
        await stop(a, b, c)

    run(work())


def test_acknowledgements_of_one_tick_are_one_message_and_arrive_one_by_one() -> None:
    async def work() -> None:
        async with pair() as (a, b):
            heard: list[object] = []
            received = a.transport.counters.received
            link = b.transport._by_peer[a.peer]
            for op in (1, 2**40, 2**63):
                assert b.transport.send(a.peer, MutationApplied(op, None), SMALL)
            assert b.transport.send(a.peer, MutationApplied(7, (5, 1)), SMALL)  # has more to tell
            assert link.applied == [1, 2**40, 2**63] and len(link.lanes[SMALL]) == 1
            await until(lambda: len(a.node.messages) == 2)
            heard = [message for _, message in a.node.messages]
            assert heard == [MutationApplied(7, (5, 1)), MutationsApplied((1, 2**40, 2**63))]
            assert a.transport.counters.received - received == 4 and not link.applied
            before, one = b.transport.counters.bytes_sent, MutationApplied(8, None)
            assert b.transport.send(a.peer, one, SMALL)
            await until(lambda: len(a.node.messages) == 3)
            assert b.transport.counters.bytes_sent - before == 4 + len(encode_message(one))
            link.applied += range(transport_module.APPLIED_MAX)
            assert not b.transport.send(a.peer, MutationApplied(9, None), SMALL)
            assert b.transport.counters.lane_full == 1

    run(work())


def test_mutations_of_one_tick_are_told_in_as_few_messages_as_may_be() -> None:
    async def work() -> None:
        async with pair() as (a, b):
            link = b.transport._by_peer[a.peer]
            single = ApplyMutation(1, 3, 7, b"alone", 50)
            assert b.transport.send(a.peer, single, SMALL)
            await until(lambda: [message for _, message in a.node.messages] == [single])
            said = [ApplyMutation(op, 3, 7, b"m%d" % op * 7_000, 1_000 - op) for op in range(6)]
            said += [ApplyMutation(6, 3, 8, b"of another table", 5), ApplyMutation(7, 4, 8, b"epoch", 5)]
            received = a.transport.counters.received
            for message in said:
                assert b.transport.send(a.peer, message, SMALL)
            assert link.waiting[SMALL] == sum(len(message.mutation) + 4 for message in said)
            apart = ApplyMutation(8, 4, 8, b"x" * (transport_module.JOINED_BYTES_MAX + 1), 5)
            assert b.transport.send(a.peer, apart, SMALL)
            await until(lambda: a.transport.counters.received == received + 9)
            heard = [message for _, message in a.node.messages][1:]
            assert apart in heard
            joined = [message for message in heard if isinstance(message, ApplyEach)]
            assert [len(message.applies) for message in joined] == [4, 2, 1, 1]
            again = [
                ApplyMutation(op, message.epoch, message.table, data, message.left_us)
                for message in joined
                for op, data in message.applies
            ]
            assert [m.left_us for m in again] == [997, 997, 997, 997, 995, 995, 5, 5]
            assert [m.mutation for m in again] == [m.mutation for m in said]
            assert [(m.op, m.epoch, m.table) for m in again] == [(m.op, m.epoch, m.table) for m in said]
            assert link.waiting == [0, 0, 0] and not link.applies and not link.applies_bytes
            link.waiting[SMALL] = limits.LANE_BYTES_MAX
            assert not b.transport.send(a.peer, single, SMALL) and b.transport.counters.lane_full == 1
            link.waiting[SMALL] = 0

    run(work())


def test_the_most_acknowledgements_told_at_once_fit_a_small_frame() -> None:
    most = MutationsApplied(tuple(range(2**64 - transport_module.APPLIED_MAX, 2**64)))
    assert len(encode_message(most)) <= limits.SMALL_FRAME_BYTES_MAX


def test_acknowledgements_for_a_peer_that_cannot_be_reached_are_dropped() -> None:
    async def work() -> None:
        a, b = await stations(2)
        await b.transport.stop()
        introduce(a, b)
        assert a.transport.send(b.peer, MutationApplied(1, None), SMALL)  # being dialled
        await until(lambda: not a.transport.send(b.peer, MutationApplied(2, None), SMALL))
        assert not a.transport._by_peer[b.peer].applied
        await stop(a)

    run(work())


def test_what_is_large_goes_by_the_other_connection() -> None:
    async def work() -> None:
        async with pair() as (a, b):
            large = ApplyMutation(1, 1, 1, bytes(16 * limits.MIB))
            assert a.transport.send(b.peer, large, SMALL)
            assert a.transport.send(b.peer, PingNack(7), URGENT)
            await until(lambda: len(b.node.messages) == 2)
            assert b.node.messages == [(a.peer, PingNack(7)), (a.peer, large)]
            too_large = ApplyMutation(1, 1, 1, bytes(limits.FRAME_BYTES_MAX))
            assert not a.transport.send(b.peer, too_large, BULK)
            assert a.lines("frame_too_large")

    run(work())


async def deaf_peer(address: str, port: int, held: list[asyncio.StreamWriter]) -> asyncio.Server:
    """Accepts, says hello, then never reads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        size = struct.unpack(">I", await reader.readexactly(4))[0]
        await reader.readexactly(size)
        writer.write(frame(hello_of(2, address)))
        held.append(writer)

    return await asyncio.start_server(serve, address, port, limit=1024)


def test_a_lane_that_is_full_says_so_and_what_is_urgent_goes_first() -> None:
    async def work() -> None:
        here, there = addresses(2)
        port = free_port(here)
        held: list[asyncio.StreamWriter] = []
        server = await deaf_peer(there, port, held)
        a = Station(1, here, port)
        await a.transport.start()
        a.transport.know([(bytes([2]) * 16, there)])
        peer = bytes([2]) * 16
        sent = 0
        message = ApplyMutation(0, 1, 1, bytes(60_000))
        while a.transport.send(peer, message, SMALL):
            sent += 60_000
            await asyncio.sleep(0)
            assert sent < 100 * limits.MIB
        assert a.transport.counters.lane_full == 1
        link = next(iter(a.transport._links.values()))
        assert limits.LANE_BYTES_MAX - 60_100 <= sum(link.waiting) <= limits.LANE_BYTES_MAX
        assert a.transport.waiting_bytes() <= limits.LANE_BYTES_MAX + 2 * limits.MIB
        assert a.transport.send(peer, PingNack(1), URGENT)
        assert a.transport.send(peer, ApplyMutation(0, 1, 1, bytes(200_000)), BULK)
        first = link._chunk(*link.lanes[:2])
        assert decode_message(first[4 : 4 + len(encode_message(PingNack(1)))]) == PingNack(1)
        server.close()
        await a.transport.stop()
        for writer in held:
            writer.transport.abort()
        await asyncio.sleep(0)

    run(work())


def test_a_peer_out_of_reach_is_not_waited_for_and_found_again() -> None:
    async def work() -> None:
        a, b = await stations(2)
        await b.transport.stop()
        introduce(a, b)
        assert a.transport.send(b.peer, PingNack(1), SMALL)  # being dialled
        await until(lambda: not a.transport.send(b.peer, PingNack(2), SMALL))
        assert a.transport.waiting_bytes() == 0
        again = Station(2, b.node.address, b.transport.options.port)
        await again.transport.start()
        await until(lambda: a.node.peers == [(b.peer, True)])
        await again.transport.stop()
        await until(lambda: a.node.peers == [(b.peer, True), (b.peer, False)])
        await stop(a)

    run(work())


def test_who_dials_is_dialled_back() -> None:
    async def work() -> None:
        a, b = await stations(2)
        a.transport.dial(b.node.address)
        await until(lambda: a.node.peers == [(b.peer, True)] and b.node.peers == [(a.peer, True)])
        assert b.transport.send(a.peer, PingNack(1), SMALL)
        await until(lambda: a.node.messages)
        await stop(a, b)

    run(work())


def test_a_refused_peer_hears_why() -> None:
    async def work() -> None:
        a, b = await stations(2)
        b.node.refuse[a.peer] = Refused("your disk is another's", True)
        a.transport.dial(b.node.address)
        await until(lambda: a.node.refusals)
        assert a.node.refusals == [(b.node.address, Refused("your disk is another's", True))]
        assert not a.transport.send(b.peer, PingNack(1), SMALL)
        assert len(b.lines("refused_peer")) == 1
        a.node.refuse[b.peer] = Refused("I do not know you", False)
        b.node.refuse.clear()
        b.transport.dial(a.node.address)
        await until(lambda: b.node.refusals)
        assert not a.node.peers and not b.node.peers
        await stop(a, b)

    run(work())


def test_who_was_refused_as_a_stranger_is_tried_at_once_when_it_is_known() -> None:
    """Else a peer that was just admitted would reach nobody for as long as it waits after a refusal."""

    async def work() -> None:
        a, b = await stations(2)
        b.node.refuse[a.peer] = Refused("you are no member", False)
        a.transport.dial(b.node.address)
        await until(lambda: a.node.refusals)
        b.node.refuse.clear()
        a.transport.know([(b.peer, b.node.address)])
        assert a.transport.send(b.peer, PingNack(1), SMALL)
        await until(lambda: b.node.messages)
        await stop(a, b)

    run(work())


def test_who_starts_elsewhere_is_called_back_there_whatever_the_members_say() -> None:
    async def work() -> None:
        a, b = await stations(2)
        before = [(a.peer, a.node.address), (b.peer, b.node.address)]
        await meet(a, b)
        await b.transport.stop()
        moved = Station(2, addresses(3)[2], a.transport.options.port)
        await moved.transport.start()
        moved.transport.know(before)
        moved.transport.dial(a.node.address)
        await until(lambda: a.transport.connected() == 1 == moved.transport.connected())
        a.transport.know(before)  # another epoch, which does not tell of it yet
        assert a.transport.connected() == 1
        assert a.transport.send(b.peer, PingNack(1), SMALL)
        await until(lambda: moved.node.messages)
        a.transport.know([(a.peer, a.node.address), (b.peer, moved.node.address)])
        a.transport.know(before)  # what is said later counts: nobody is heard from elsewhere any more
        assert a.transport.connected() == 1 or not a.transport.send(b.peer, PingNack(2), SMALL)
        await stop(a, moved)

    run(work())


def test_an_address_that_changed_hands_and_oneself() -> None:
    async def work() -> None:
        a, b = await stations(2)
        a.transport.know([(bytes([9]) * 16, b.node.address)])
        a.transport.send(bytes([9]) * 16, PingNack(1), SMALL)
        await until(lambda: a.lines("refused_peer"))
        assert "another peer answers" in a.lines("refused_peer")[0]
        a.transport.dial(a.node.address)
        await until(lambda: any("myself" in line for line in a.lines("refused_peer")))
        assert not b.node.messages and not a.node.peers
        await stop(a, b)

    run(work())


def test_a_second_connection_replaces_the_first() -> None:
    async def work() -> None:
        (a,) = await stations(1)
        host, port = a.node.address, a.transport.port
        first, second = await asyncio.open_connection(host, port), await asyncio.open_connection(host, port)
        for reader, writer in (first, second):
            writer.write(preamble(0) + frame(hello_of(5, "127.0.0.9")))
            await reader.readexactly(4)
        await first[0].read()  # ends
        second[1].write(frame(PingNack(3)))
        await until(lambda: a.node.messages == [(bytes([5]) * 16, PingNack(3))])
        for _, writer in (first, second):
            writer.close()
        await stop(a)

    run(work())


# --- malformed bytes

GREETING = preamble(0) + frame(hello_of(5, "127.0.0.9"))

MALFORMED = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("1603010200010001fc0303") + bytes(64),
    "another version": b"SULLAE\x02\x00",
    "no such kind": b"SULLAE\x01\x07",
    "length 0": preamble(0) + bytes(4),
    "length 1": preamble(0) + b"\0\0\0\1\xc0",
    "length 2^31-1": preamble(1) + struct.pack(">I", 2**31 - 1),
    "length 2^31": preamble(1) + struct.pack(">I", 2**31),
    "length 2^32-1": preamble(1) + struct.pack(">I", 2**32 - 1),
    "a hello that is too long": preamble(0) + struct.pack(">I", 5_000) + bytes(5_000),
    "no msgpack": preamble(0) + frame(b"\xc1" * 20),
    "unknown tag": preamble(0) + frame(b"\x92\xcd\x03\xe7\x01"),
    "negative tag": preamble(0) + frame(b"\x92\xff\x01"),
    "wrong types": preamble(0) + frame(b"\x9c\x01" + b"\xa1x" * 11),
    "deep nesting": preamble(0) + frame(b"\x91" * 4_000),
    "a message before the hello": preamble(0) + frame(PingNack(1)),
    "a hello twice": GREETING + frame(hello_of(5)),
    "an unknown tag later": GREETING + frame(b"\x92\xcd\x03\xe7\x01"),
    "an integer beyond 64 bits": GREETING + frame(b"\x92\x0d\xcf" + b"\xff" * 8 + b"\x00"),
    "bytes after the message": GREETING + frame(encode_message(PingNack(1)) + b"\0"),
    "too long for the small lane": GREETING + struct.pack(">I", limits.SMALL_FRAME_BYTES_MAX + 1),
    "a map of keys that collide": GREETING
    + frame(b"\xde\x13\x88" + b"".join(b"\xcf" + struct.pack(">Q", n * (2**61 - 1)) for n in range(7))),
}


@pytest.mark.parametrize("name", list(MALFORMED))
def test_malformed_bytes_cost_one_connection_and_one_line(name: str) -> None:
    async def work() -> None:
        async with pair() as (a, b):
            reader, writer = await asyncio.open_connection(a.node.address, a.transport.port)
            writer.write(MALFORMED[name])
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            assert len(a.lines("malformed_frame")) == 1, a.notes
            assert b.transport.send(a.peer, PingNack(1), SMALL)
            await until(lambda: a.node.messages == [(b.peer, PingNack(1))])
            assert (b.peer, False) not in a.node.peers

    run(work())


def test_frames_in_single_bytes_and_many_in_one() -> None:
    async def work() -> None:
        (a,) = await stations(1)
        reader, writer = await asyncio.open_connection(a.node.address, a.transport.port)
        for byte in GREETING + frame(PingNack(1)):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.readexactly(4)
        writer.write(b"".join(frame(PingNack(n)) for n in range(2, 2_000)) + frame(PingNack(2_000))[:-1])
        await until(lambda: len(a.node.messages) == 1_999)
        writer.write(frame(PingNack(2_000))[-1:])
        await until(lambda: len(a.node.messages) == 2_000)
        assert [message for _, message in a.node.messages] == [PingNack(n) for n in range(1, 2_001)]
        writer.close()
        await stop(a)

    run(work())


def test_what_was_only_announced_takes_no_memory() -> None:
    async def work() -> None:
        (a,) = await stations(1)
        reader, writer = await asyncio.open_connection(a.node.address, a.transport.port)
        writer.write(preamble(1) + frame(hello_of(5, "127.0.0.9")))
        await reader.readexactly(4)
        writer.write(struct.pack(">I", limits.FRAME_BYTES_MAX) + b"x" * 10)
        incoming = next(iter(a.transport._heard.values()))
        await until(lambda: len(incoming._held) == 14)
        assert incoming._held.__alloc__() < 1_000
        writer.close()
        await stop(a)

    run(work())


def test_no_name_is_looked_up() -> None:
    """A hello may bring any text as an address, but peers have IP addresses."""

    async def work() -> None:
        async with pair() as (a, _):
            a.transport.dial("localhost")
            await until(lambda: a.lines("dial_failed"))
            assert "does not appear to be an IPv4 or IPv6 address" in a.lines("dial_failed")[0]

    run(work())


def test_fuzz_of_the_port_for_peers() -> None:
    """2,000 inputs: conversations with bytes flipped, cut, doubled, and noise; some ended by a reset."""

    async def one(dice: random.Random, host: str, port: int) -> None:
        greeting = preamble(dice.randrange(2)) + frame(hello_of(dice.randrange(5, 250), "127.0.0.9"))
        later = [PingNack(1), Ping(1, 2, 3, ()), MutationApplied(1, None), ApplyMutation(1, 1, 1, b"x" * 99)]
        later += [MutationsApplied((1, 2)), ApplyEach(1, 1, ((1, b"x"), (2, b"y")))]
        data = bytearray(greeting + b"".join(frame(dice.choice(later)) for _ in range(dice.randrange(5))))
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    data[at] = dice.randrange(256)
                case 1:
                    del data[at : at + dice.randrange(1, 20)]
                case 2:
                    data[at:at] = dice.randbytes(dice.randrange(1, 20))
                case _:
                    data = bytearray(dice.randbytes(dice.randrange(1, 100)))
            if not data:
                data = bytearray(b"\0")
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        with contextlib.closing(sock), contextlib.suppress(OSError):
            await loop.sock_connect(sock, (host, port))
            if dice.random() < 0.3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await loop.sock_sendall(sock, bytes(data))

    async def work() -> None:
        async with pair() as (a, b):
            dice = random.Random(SEED)
            began_s = asyncio.get_running_loop().time()
            for _ in range(INPUTS // 20):
                await asyncio.gather(*(one(dice, a.node.address, a.transport.port) for _ in range(20)))
            await until(lambda: a.transport.strangers() == 0)
            assert a.transport.counters.malformed > INPUTS // 4
            windows = 1 + (asyncio.get_running_loop().time() - began_s) / log_limit.WINDOW_S
            assert len(a.lines("malformed_frame")) <= (1 + windows) * log_limit.LINES_MAX  # a flood summed up
            assert (b.peer, False) not in a.node.peers
            a.node.messages.clear()
            assert b.transport.send(a.peer, PingNack(1), SMALL)
            await until(lambda: (b.peer, PingNack(1)) in a.node.messages)

    run(work(), 60 + INPUTS / 100)


@pytest.mark.parametrize("address", ["", "..", "x" * 300, "no\0name", "가" * 80])
def test_an_address_that_is_none_is_only_not_reached(address: str) -> None:
    async def work() -> None:
        async with pair() as (a, b):
            a.transport.dial(address)
            assert b.transport.send(a.peer, PingNack(1), SMALL)
            await until(lambda: (b.peer, PingNack(1)) in a.node.messages)
            await until(lambda: bool(a.lines("dial_failed")))

    run(work())


def test_strangers_are_bounded_and_must_say_hello_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(transport_module, "STRANGERS_MAX", 20)

    async def work() -> None:
        (a,) = await stations(1)
        held = [await asyncio.open_connection(a.node.address, a.transport.port) for _ in range(30)]
        await until(lambda: a.transport.strangers() == 20)
        await held[0][0].read()  # the oldest had to give way
        await asyncio.gather(*(reader.read() for reader, _ in held))
        assert a.transport.strangers() == 0
        assert a.lines("no_hello")
        for _, writer in held:
            writer.close()
        await stop(a)

    run(work())


# --- TLS


def contexts(folder: Path, name: str, cluster: str = "test") -> object:
    peers = ", ".join(f"{{name: n{n}, address: 127.0.0.{n}}}" for n in (1, 2))
    config = parse_config(f"cluster: {cluster}\npeers: [{peers}]\n")
    certificates.make_certificates(folder, config)
    files = TlsConfig(folder).for_peer(name)
    return tuple(certificates.internode_context(files, server_side=side) for side in (True, False))


def test_with_tls_only_the_clusters_peers_are_heard(tmp_path: Path) -> None:
    async def work() -> None:
        here, there = addresses(2)
        port = free_port(here)
        a = Station(1, here, port, contexts(tmp_path, "n1"))
        b = Station(2, there, port, contexts(tmp_path, "n2"))
        await a.transport.start()
        await b.transport.start()
        await meet(a, b)
        large = ApplyMutation(1, 1, 1, bytes(1_000_000))
        assert a.transport.send(b.peer, large, BULK)
        assert b.transport.send(a.peer, PingNack(1), SMALL)
        await until(lambda: a.node.messages and b.node.messages)
        assert b.node.messages == [(a.peer, large)]
        reader, writer = await asyncio.open_connection(here, port)
        writer.write(GREETING)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        await until(lambda: a.lines("tls_refused"))
        await until(lambda: a.transport.strangers() == 0)
        await stop(a, b)

    run(work())


@pytest.mark.parametrize("wrong", ["name", "authority", "plain"])
def test_a_certificate_that_is_not_this_peers(tmp_path: Path, wrong: str) -> None:
    async def work() -> None:
        here, there = addresses(2)
        port = free_port(here)
        a = Station(1, here, port, contexts(tmp_path / "a", "n1"))
        other = {"name": ("a", "n1"), "authority": ("b", "n2")}.get(wrong)
        b = Station(2, there, port, contexts(tmp_path / other[0], other[1]) if other else None)
        await a.transport.start()
        await b.transport.start()
        a.transport.dial(there)
        b.transport.dial(here)
        expected = {"name": "refused_peer", "authority": "dial_failed", "plain": "tls_refused"}[wrong]
        await until(lambda: a.lines(expected))
        assert not a.node.peers and not b.node.peers
        assert not a.transport.send(b.peer, PingNack(1), SMALL)
        await stop(a, b)

    run(work())
