"""Proxies before the peers' ports, where namespaces are not permitted: bytes between peers pass here.

Every peer listens one port higher than it says (shim.c), and its port is taken here, at every address.
Peers dial from their own addresses, so each connection tells who speaks to whom. What one says to another
is held back while that pair is cut, comes later where a link is slow, and a `reset` aborts connections. A
stream of bytes cannot lose, double or reorder anything; loss is what TCP makes of it: chunks that come a
retransmission later.

    python -m jepsen_like.real.proxy 7000 127.0.8.1 127.0.8.2 127.0.8.3
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from random import Random

import msgspec

from jepsen_like.real.switch import Faults

CHUNK = 65_536
RETRANSMISSION_S = 0.2
DIAL_S = 5.0

Pair = tuple[int, int]


class Proxies:
    """All connections between peers, by pairs of their numbers from 1."""

    def __init__(self, port: int, addresses: list[str]) -> None:
        self._port = port
        self._addresses = addresses
        self._faults = Faults()
        self._blocked: dict[Pair, bool] = {}
        self._open: dict[asyncio.StreamWriter, Pair] = {}
        self._random = Random(0)
        self._changed = asyncio.Event()

    async def listen(self) -> list[asyncio.Server]:
        """Take every peer's port."""
        servers = []
        for number, address in enumerate(self._addresses, start=1):
            servers.append(await asyncio.start_server(self._accepting(number), address, self._port))
        return servers

    def take(self, faults: Faults) -> None:
        """Other faults from now on."""
        self._faults = faults
        self._blocked = dict.fromkeys(faults.blocked, True)
        self._changed.set()
        for source, target in faults.reset:
            for writer, pair in list(self._open.items()):
                if pair in ((source, target), (target, source)):
                    writer.transport.abort()

    def _accepting(self, target: int):  # type: ignore[no-untyped-def]
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await self._carry(target, reader, writer)
            writer.transport.abort()

        return accept

    async def _carry(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_address = writer.get_extra_info("peername")[0]
        source = self._addresses.index(from_address) + 1 if from_address in self._addresses else 0
        await self._while_cut(source, target)
        await self._while_cut(target, source)
        to = (self._addresses[target - 1], self._port + 1)
        there, back = await asyncio.wait_for(
            asyncio.open_connection(*to, local_addr=(from_address, 0)), DIAL_S
        )
        self._open[writer] = self._open[back] = (source, target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back, (source, target)))
                group.create_task(self._pump(there, writer, (target, source)))
        except* OSError:
            self._open.pop(writer, None)
        finally:
            self._open.pop(writer, None)
            self._open.pop(back, None)
            back.transport.abort()

    async def _while_cut(self, source: int, target: int) -> None:
        while (source, target) in self._blocked:
            self._changed.clear()
            await self._changed.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair) -> None:
        """Carry bytes one way until either end is gone."""
        while data := await reader.read(CHUNK):
            faults = self._faults
            later_s = (faults.delay_us + sum(faults.slow_us.get(number, 0) for number in pair)) / 1e6
            if faults.loss and self._random.random() < faults.loss:
                later_s += RETRANSMISSION_S
            if later_s:
                await asyncio.sleep(later_s)
            await self._while_cut(*pair)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("closed")


async def main(port: int, addresses: list[str]) -> None:
    """Until standard input ends."""
    proxies = Proxies(port, addresses)
    servers = await proxies.listen()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    print("ready", flush=True)
    while line := await orders.readline():
        proxies.take(msgspec.json.decode(line, type=Faults))
    for server in servers:
        server.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
