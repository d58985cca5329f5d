"""Jobs in threads: results on the event loop, bugs where bugs end the process."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from index.changing import Change
from index.segments import TantivySegments
from server.jobs import Jobs
from tests.index.corpora import key_of
from tests.index.test_segments import rules_of


async def test_results_come_back_on_the_loop_in_any_order() -> None:
    loop = asyncio.get_running_loop()
    done: list[tuple[Any, Any, int]] = []
    jobs = Jobs(loop, lambda ticket, result: done.append((ticket, result, threading.get_ident())))
    gate = threading.Event()
    jobs.run(("slow",), lambda: gate.wait(10))
    jobs.run(("quick",), threading.get_ident)
    async with asyncio.timeout(10):
        while not done:
            await asyncio.sleep(0.001)
        assert done[0][0] == ("quick",) and done[0][1] != threading.get_ident()
        gate.set()
        while len(done) < 2:
            await asyncio.sleep(0.001)
    assert all(each[2] == threading.get_ident() for each in done)
    jobs.close()


async def test_a_bug_in_a_job_reaches_the_loop() -> None:
    loop = asyncio.get_running_loop()
    met: list[Any] = []
    loop.set_exception_handler(lambda _, context: met.append(context["exception"]))
    jobs = Jobs(loop, lambda ticket, result: met.append(result))
    jobs.run(("bug",), lambda: 1 // 0)
    async with asyncio.timeout(10):
        while not met:
            await asyncio.sleep(0.001)
    assert isinstance(met[0], ZeroDivisionError) and len(met) == 1
    jobs.close()


async def test_so_does_an_error_of_the_system_as_no_fault_of_a_connection() -> None:
    """Faults of connections are a line in the log; who waits for a job would wait for ever."""
    loop = asyncio.get_running_loop()
    met: list[Any] = []
    loop.set_exception_handler(lambda _, context: met.append(context["exception"]))

    def job() -> None:
        raise FileNotFoundError("it was here a moment ago")

    jobs = Jobs(loop, lambda ticket, result: met.append(result))
    jobs.run(("bug",), job)
    async with asyncio.timeout(10):
        while not met:
            await asyncio.sleep(0.001)
    assert not isinstance(met[0], OSError) and isinstance(met[0].__cause__, FileNotFoundError)
    jobs.close()


async def test_threads_that_merge_segments_step_back_after_the_job_that_made_them(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    met: list[Any] = []
    jobs = Jobs(loop, lambda ticket, result: met.append(result))
    index = TantivySegments(rules_of(), tmp_path / "index")

    def job() -> None:
        for number in range(3):
            index.commit([Change(key_of(n), b'{"a": "storm"}') for n in range(number, 300)], number + 1)

    own = os.getpriority(os.PRIO_PROCESS, 0)
    jobs.run(("inverted", "index", "commit"), job)
    async with asyncio.timeout(20):
        while not (met and nice_of("merge_thread") == {max(10, own)}):
            await asyncio.sleep(0.001)
    assert nice_of("python") <= {own}
    jobs.close()
    index.close()


def nice_of(name: str) -> set[int]:
    """The nice values of the threads of this process whose names begin so."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().startswith(name):
            found.add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    return found
