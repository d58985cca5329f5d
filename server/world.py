"""The World of a node in a real process: sockets, threads, clocks and entropy behind core.ports.World.

Nearly all timers are deadlines of operations, cancelled before they fire. These are kept in slots of
`SLOT_US`, each with one timer of the event loop, and fire up to so much late: a timer then costs two
dictionaries. Short ones are timers of the loop.
"""

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

SLOT_US = 5_000
SLOTTED_FROM_US = 20_000
"""Timers from this on are kept in slots."""
LOOP_ROUNDS_US = 1_000
"""The event loop counts in whole milliseconds; a timer is never early."""

_Slot = dict[TimerId, Timer]


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
        self._timers: dict[TimerId, asyncio.TimerHandle | _Slot] = {}
        self._slots: dict[int, tuple[_Slot, asyncio.TimerHandle]] = {}
        self._next_timer = 0
        self._log_limit = LogLimit(loop.time)
        self.wall_us: Callable[[], int] = clock.read_us
        self.monotonic_us: Callable[[], int] = monotonic_us

    def send(self, peer: PeerId, message: Message, lane: int) -> bool:
        """To the transport."""
        return self.transport.send(peer, message, lane)

    def shorten(self) -> None:
        """Once all is wired: what is said and stored goes where it is bound without a call in between."""
        self.send = self.transport.send  # type: ignore[method-assign]
        self.submit = self.disk.submit  # type: ignore[method-assign]

    def dial(self, address: str) -> None:
        """To the transport."""
        self.transport.dial(address)

    def know(self, addresses: Sequence[tuple[PeerId, str]]) -> None:
        """To the transport."""
        self.transport.know(addresses)

    def set_timer(self, delay_us: int, timer: Timer) -> TimerId:
        """On the event loop."""
        self._next_timer = timer_id = self._next_timer + 1
        if delay_us < SLOTTED_FROM_US:
            self._timers[timer_id] = self._loop.call_later(delay_us / 1e6, self._fire, timer_id, timer)
            return timer_id
        now_us = self.monotonic_us()
        number = (now_us + delay_us) // SLOT_US + 1
        found = self._slots.get(number)
        if found is None:
            left_us = number * SLOT_US - now_us + LOOP_ROUNDS_US
            found = self._slots[number] = ({}, self._loop.call_later(left_us / 1e6, self._fire_slot, number))
        slot = found[0]
        slot[timer_id] = timer
        self._timers[timer_id] = slot
        return timer_id

    def cancel_timer(self, timer_id: TimerId) -> None:
        """If it has not fired."""
        held = self._timers.pop(timer_id, None)
        if type(held) is dict:
            del held[timer_id]
        elif held is not None:
            held.cancel()  # type: ignore[union-attr]

    def _fire(self, timer_id: TimerId, timer: Timer) -> None:
        del self._timers[timer_id]
        self.node.on_timer(timer)

    def _fire_slot(self, number: int) -> None:
        """In the order in which they were set; one may cancel those after it."""
        slot, _ = self._slots.pop(number)
        for timer_id, timer in list(slot.items()):
            if slot.pop(timer_id, None) is not None:
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
        for held in self._timers.values():
            if not isinstance(held, dict):
                held.cancel()
        for _, handle in self._slots.values():
            handle.cancel()
        self._slots.clear()
        self._timers.clear()
