"""`sullae node NAME`: one peer of the configuration, in this process, until it is told to stop."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

from cli.output import Failure
from cli.places import data_of, peer_of, read_config

PR_SET_PDEATHSIG: Final = 1
"""See prctl(2)."""

LOG_FORMATS: Final = ("text", "json")


def run_node(
    name: str, config_path: Path, data: Path, *, insecure: bool, log_format: str | None, parent: int | None
) -> int:
    """Run the peer called `name` until SIGINT or SIGTERM; the process's exit status.

    `parent` is the process that watches over this one: when it ends, however it ends, this one stops too.
    """
    if log_format not in (None, *LOG_FORMATS):
        raise Failure(f"--log-format is {' or '.join(LOG_FORMATS)}, not {log_format}", code="bad_option")
    if parent is not None:
        stop_with(parent)
    config = read_config(config_path)
    peer = peer_of(config, name)
    from server.process import run_peer

    chosen = log_format or ("text" if sys.stderr.isatty() else "json")
    return run_peer(config, name, data_of(peer, data), insecure, chosen)


def stop_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent ends, so that no peer is left behind (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise Failure("the process that started this peer is gone", code="orphan")
