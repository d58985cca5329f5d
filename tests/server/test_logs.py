"""The log of a peer, where it cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import IO

import pytest

PROGRAM = """
import sys
from server import logs
from server.process import _exit_now

logs.configure(sys.argv[1], "info")
journal = logs.logger("n1")
for _ in range(500):
    journal.info("a line of a log " * 10)
journal.critical("the disk failed", code="disk_failed")
print("went on", flush=True)
if sys.argv[2] == "in_order":
    logs.finish()
else:
    _exit_now(74)
"""


def full() -> IO[bytes]:
    return open("/dev/full", "wb")


def unread() -> IO[bytes]:
    reads, writes = os.pipe()
    os.close(reads)
    return os.fdopen(writes, "wb")


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("place", [full, unread])
@pytest.mark.parametrize(("end", "status"), [("in_order", 0), ("at_once", 74)])
def test_a_log_that_cannot_be_written_stops_nothing_and_keeps_nothing_from_ending(
    log_format: str, place: Callable[[], IO[bytes]], end: str, status: int
) -> None:
    with place() as file:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, log_format, end],
            stdout=subprocess.PIPE,
            stderr=file,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stdout) == (status, b"went on\n")


def test_what_could_not_be_written_does_not_keep_the_next_line_back() -> None:
    program = (
        "import os; from server import logs; logs.configure('json', 'info'); journal = logs.logger('n1')\n"
        "kept = os.dup(2); full = os.open('/dev/full', os.O_WRONLY); os.dup2(full, 2)\n"
        "journal.info('first'); os.dup2(kept, 2); journal.info('second')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert '"event": "second"' in done.stderr.splitlines()[-1]
