"""Syncs of a file that the kernel carries out while the event loop goes on, without a thread of ours.

A thread that syncs needs the interpreter's lock to begin and to tell of the end, and the loop gives it up
only when it waits: two hand-overs and a dozen calls to the kernel for each sync, late by what the loop is at.
Linux syncs a file by itself (`IOCB_CMD_FDSYNC`) and wakes the loop when it is done.

Whoever put a library of his own before the C library's (LD_PRELOAD: faults for tests, no syncs at all for
speed) is to see each sync, which he would not here: so there is nothing of this where something is preloaded,
nor on other systems, old kernels, or file systems that cannot do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PRELOADED_BY_ALL = Path("/etc/ld.so.preload")
_REFUSALS = (OSError, SystemError, ValueError, OverflowError)
"""What the library raises for answers of the kernel."""


def _library() -> Any:
    try:
        return importlib.import_module("caio.linux_aio")
    except ImportError:  # another system, or an older kernel
        return None


_linux_aio: Any = _library()


def is_preloaded(environment: Mapping[str, str] = os.environ, by_all: Path = _PRELOADED_BY_ALL) -> bool:
    """Whether a library stands before the C library's."""
    return bool(environment.get("LD_PRELOAD")) or by_all.exists()


class LogSyncs:
    """At most one such sync at a time, of one event loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_synced: Callable[[int, Exception | None], None]
    ) -> None:
        """`on_synced` gets the number of a sync, and why it failed if it did."""
        self._loop, self._on_synced = loop, on_synced
        self._under_way: tuple[Any, int] | None = None
        self._context: Any = None
        if _linux_aio is None or is_preloaded():
            return
        with contextlib.suppress(*_REFUSALS):  # none is allowed, or left
            self._context = _linux_aio.Context(1)
            loop.add_reader(self._context.fileno, self._look)

    def begin(self, descriptor: int, number: int) -> bool:
        """Begin to sync a file; False if that cannot be done here."""
        if self._context is None:
            return False
        assert self._under_way is None, "one sync at a time"
        operation = _linux_aio.Operation.fdsync(descriptor)
        try:
            if self._context.submit(operation) != 1:
                return False
        except _REFUSALS:
            self.close()
            return False
        self._under_way = operation, number
        return True

    def _look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._context.poll()
        if not self._context.process_events() or self._under_way is None:
            return
        (operation, number), self._under_way = self._under_way, None
        failed: Exception | None = None
        try:
            operation.get_value()
        except _REFUSALS as error:
            failed = error
        self._on_synced(number, failed)

    def close(self) -> None:
        """Wait for what is under way, and tell nobody of it; may be called twice."""
        context, self._context = self._context, None
        if context is not None:
            self._loop.remove_reader(context.fileno)
            if self._under_way is not None:
                context.process_events(min_requests=1, timeout=-1)
        self._under_way = None
