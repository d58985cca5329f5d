"""Syncs that the kernel carries out: told when done, with what went wrong, and left to a thread where not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server import log_syncs
from server.log_syncs import LogSyncs, is_preloaded
from tests.server.harness import needs_the_kernel, run, until

Told = list[tuple[int, Exception | None]]


def syncs(told: Told) -> LogSyncs:
    return LogSyncs(asyncio.get_running_loop(), lambda number, error: told.append((number, error)))


@needs_the_kernel
def test_each_sync_is_told_once_by_its_number(tmp_path: Path) -> None:
    async def work() -> None:
        told: Told = []
        some = syncs(told)
        with (tmp_path / "log").open("wb") as log:
            for number in range(1, 51):
                log.write(b"x" * 100_000)
                log.flush()
                assert some.begin(log.fileno(), number)
                await until(lambda number=number: len(told) == number)  # type: ignore[misc]
        assert told == [(number, None) for number in range(1, 51)]
        some.close()
        some.close()
        assert not some.begin(0, 51)

    run(work())


@needs_the_kernel
def test_what_the_kernel_refuses_is_for_a_thread_from_then_on(tmp_path: Path) -> None:
    async def work() -> None:
        some = syncs([])
        reader, writer = os.pipe()
        assert not some.begin(writer, 1)
        with (tmp_path / "log").open("wb") as log:
            assert not some.begin(log.fileno(), 2)
        os.close(reader)
        os.close(writer)

    run(work())


@needs_the_kernel
def test_nobody_is_told_after_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        told: Told = []
        some = syncs(told)
        with (tmp_path / "log").open("wb") as log:
            log.write(b"x" * 1_000_000)
            log.flush()
            assert some.begin(log.fileno(), 1)
            some.close()
        await asyncio.sleep(0.01)
        assert not told

    run(work())


@pytest.mark.parametrize(
    ("environment", "file", "expected"),
    [
        ({}, "", False),
        ({"LD_PRELOAD": ""}, "", False),
        ({"LD_PRELOAD": "a.so"}, "", True),
        ({}, "there", True),
    ],
)
def test_what_is_preloaded(tmp_path: Path, environment: dict[str, str], file: str, expected: bool) -> None:
    by_all = tmp_path / "ld.so.preload"
    if file:
        by_all.touch()
    assert is_preloaded(environment, by_all) is expected


def test_whoever_is_preloaded_sees_each_sync(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def work() -> None:
        monkeypatch.setenv("LD_PRELOAD", "")  # said here, so that is_preloaded is what decides
        monkeypatch.setattr(log_syncs, "is_preloaded", lambda: True)
        with (tmp_path / "log").open("wb") as log:
            assert not syncs([]).begin(log.fileno(), 1)

    run(work())


class Library:
    """What is used of the library, whose syncs end when they are let, with an error or without."""

    def __init__(self, error: str) -> None:
        self.error = error
        self.fileno, self._writer = os.pipe()
        self.Context: Callable[[int], Library] = lambda _: self
        self.Operation = self
        self._done = 0

    def fdsync(self, descriptor: int) -> Any:
        return self

    def submit(self, operation: Any) -> int:
        os.write(self._writer, b"x")
        return 1

    def poll(self) -> None:
        os.read(self.fileno, 1)
        self._done += 1
        if self._done == 1:
            os.write(self._writer, b"x")
            raise BlockingIOError

    def process_events(self) -> int:
        return self._done - 1

    def get_value(self) -> None:
        if self.error:
            raise SystemError(self.error)


@pytest.mark.parametrize("error", ["", "Input/output error"])
def test_a_sync_that_failed_says_so(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    async def work() -> None:
        monkeypatch.setattr(log_syncs, "_linux_aio", Library(error))
        monkeypatch.setattr(log_syncs, "is_preloaded", lambda: False)
        told: Told = []
        some = syncs(told)
        assert some.begin(3, 7)
        await until(lambda: told)
        [(number, failed)] = told
        assert number == 7
        assert ("" if failed is None else str(failed)) == error

    run(work())
