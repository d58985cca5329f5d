"""Jobs in threads: results on the event loop, bugs where bugs end the process."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from server.jobs import Jobs


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
