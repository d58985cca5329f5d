"""Takes away what a run leaves behind, however the run ends.

A run makes things that outlive their maker: network namespaces, mounted images (each on a loop device), and
processes that may be stopped, so that they never notice that they are alone. Whoever ends a run with SIGKILL,
or loses patience with a clean-up and presses Ctrl-C once more, must not have to know that. So the run tells a
process of its own, in a session of its own, of each such thing before it makes it, and that process takes all
of them away when its standard input ends: by the run's `close`, or by the kernel.

One line each: `process PID`, `mount PATH`, `namespace NAME`. What is gone already is no fault.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

END_S = 20.0
TRIES = 3
"""A file may be mounted over and over while its disk is exchanged."""


class Janitor:
    """The end of the run's side; `close` waits until everything is taken away."""

    def __init__(self) -> None:
        top = Path(__file__).resolve().parents[2]
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "jepsen_like.real.janitor"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(top), os.environ.get("PYTHONPATH", "")])},
        )

    def knows(self, kind: str, what: object) -> None:
        """Something is about to be made, or was."""
        assert self._helper.stdin is not None
        with contextlib.suppress(OSError):  # it was killed: then nobody cleans up but `close` of each thing
            self._helper.stdin.write(f"{kind} {what}\n".encode())
            self._helper.stdin.flush()

    def close(self) -> None:
        """Everything is taken away."""
        assert self._helper.stdin is not None
        with contextlib.suppress(OSError):
            self._helper.stdin.close()
        self._helper.wait(END_S)


def watch(lines: Iterable[str]) -> None:
    """Until there are no more lines; then take away what they named, the latest first."""
    handles: list[int] = []
    mounts: dict[str, bool] = {}
    namespaces: dict[str, bool] = {}
    for line in lines:
        kind, _, what = line.rstrip("\n").partition(" ")
        if kind == "process":
            with contextlib.suppress(OSError):  # a handle, not a number that another process may have later
                handles.append(os.pidfd_open(int(what)))
        elif kind == "mount":
            mounts[what] = True
        elif kind == "namespace":
            namespaces[what] = True
    for handle in handles:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    for path in mounts:
        unmount(path)
    for name in namespaces:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def unmount(path: str) -> None:
    """Take away what is mounted there, once or more often, whoever uses it."""
    for _ in range(TRIES):
        if not os.path.ismount(path):
            return
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def main() -> None:
    """Nothing but the end of its input ends it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)


if __name__ == "__main__":
    main()
