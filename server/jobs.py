"""The threads that do a node's jobs: searches, commits of indexes. Results come back on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core.jobs import result_of
from core.ports import Ticket
from server.background_threads import BackgroundThreads

JOB_THREADS = 4
LONG_S = 0.005
"""A job that took so long may have had a library make threads."""


class JobError(Exception):
    """A job ended with an error of the system that it ought to have told, so nobody waits for its result."""


class Jobs:
    """A pool of threads. A job that raises what it must not ends the process, as any bug does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_done: Callable[[Ticket, Any], None]) -> None:
        self._loop = loop
        self._on_done = on_done
        self._closed = False
        self._background = BackgroundThreads()
        self._threads = ThreadPoolExecutor(JOB_THREADS, thread_name_prefix="job")

    def run(self, ticket: Ticket, job: Callable[[], Any]) -> None:
        """Do a job; its result comes through `on_done`, never before this returns."""
        self._threads.submit(self._do, ticket, job)

    def _do(self, ticket: Ticket, job: Callable[[], Any]) -> None:
        began_s = time.monotonic()
        try:
            result = result_of(job)
        except BaseException as error:  # noqa: BLE001  # it is raised again, where bugs end the process
            self._call(self._raise, error)
        else:
            self._call(self._done, ticket, result)
        if time.monotonic() - began_s > LONG_S:
            self._background.step_back()

    def _done(self, ticket: Ticket, result: Any) -> None:
        if not self._closed:
            self._on_done(ticket, result)

    def _raise(self, error: BaseException) -> None:
        if isinstance(error, OSError):  # by itself it is taken for one of a connection, which ends nothing
            raise JobError(repr(error)) from error
        raise error

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Wait for what is under way; results are not wanted any more."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
