"""The World of a node in a real process: sockets, threads, clocks and entropy behind core.ports.World."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from core.commands import Command
from core.messages import Message
from core.ports import Event, NodePort, PeerId, Ticket, Timer, TimerId
from core.requests import Answer
from server.clock import WallClock, monotonic_us
from server.disk import Disk
from server.jobs import Jobs
from server.log_limit import LogLimit
from server.logs import LEVELS
from server.metrics import Metrics
from server.transport import Transport


class RealWorld:
    """Passes on what a node asks for.

    `transport`, `disk`, `jobs`, `node` and `on_reply` are set before it starts.
    """

    transport: Transport
    disk: Disk
    jobs: Jobs
    node: NodePort
    on_reply: Callable[[int, Answer, bool], None]

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: WallClock, metrics: Metrics, log: Any) -> None:
        """`log` is a structlog logger."""
        self._loop = loop
        self._metrics = metrics
        self._log = log
        self._random = random.Random(secrets.randbits(128))
        self._timers: dict[TimerId, asyncio.TimerHandle] = {}
        self._next_timer = 0
        self._log_limit = LogLimit(loop.time)
        self.wall_us: Callable[[], int] = clock.read_us
        self.monotonic_us: Callable[[], int] = monotonic_us

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        """To the transport."""
        return self.transport.send(peer, message, lane)

    def dial(self, address: str) -> None:
        """To the transport."""
        self.transport.dial(address)

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        """To the transport."""
        self.transport.know(addresses)

    def set_timer(self, delay_us: int, timer: Timer) -> TimerId:
        """On the event loop."""
        self._next_timer = timer_id = self._next_timer + 1
        self._timers[timer_id] = self._loop.call_later(delay_us / 1e6, self._fire, timer_id, timer)
        return timer_id

    def cancel_timer(self, timer_id: TimerId) -> None:
        """If it has not fired."""
        handle = self._timers.pop(timer_id, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, timer_id: TimerId, timer: Timer) -> None:
        del self._timers[timer_id]
        self.node.on_timer(timer)

    def submit(self, ticket: Ticket, command: Command) -> None:
        """To the disk."""
        self.disk.submit(ticket, command)

    def run(self, ticket: Ticket, job: Callable[[], Any]) -> None:
        """To the threads for jobs."""
        self.jobs.run(ticket, job)

    def reply(self, request_id: int, answer: Answer, last: bool) -> None:
        """To whoever waits for it."""
        self.on_reply(request_id, answer, last)

    def below(self, n: int) -> int:
        """A random integer in [0, n)."""
        return self._random.randrange(n)

    def token_bytes(self, n: int) -> bytes:
        """n random bytes, of the operating system."""
        return secrets.token_bytes(n)

    def note(self, event: Event) -> None:
        """A metric; a log line, too, if it has a level."""
        self._metrics.count(event.name, event.amount)
        level = LEVELS.get(event.level)
        if level is not None:
            about = {"about": event.peer} if event.peer else {}
            self._log.log(level, event.text or event.name, code=event.name, **about)

    def note_limited(self, name: str, text: str) -> None:
        """A warning, unless there were too many of its name just now."""
        line = self._log_limit.allowed(name, text)
        if line is not None:
            self.note(Event(name, "warning", line))

    def stop_timers(self) -> None:
        """Nothing fires any more."""
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
