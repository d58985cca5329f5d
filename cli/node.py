"""`sullae node NAME`: one peer of the configuration, in this process, until it is told to stop.

The command line's library, with all that it brings, would stay in a peer's memory for nothing; so when the
arguments are read and nothing is found wrong with them, the process becomes this module alone
(`python -m cli.node node NAME ...`, which is what `sullae up` starts at once).
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Final

from cli.output import Failure, print_failure
from cli.places import data_of, peer_of, read_config

PR_SET_PDEATHSIG: Final = 1
"""See prctl(2)."""

LOG_FORMATS: Final = ("text", "json")


def become_node(
    name: str, config_path: Path, data: Path, *, insecure: bool, log_format: str | None, parent: int | None
) -> int:
    """Check the arguments, then replace this process by one that does `run_node` with them."""
    if log_format not in (None, *LOG_FORMATS):
        raise Failure(f"--log-format is {' or '.join(LOG_FORMATS)}, not {log_format}", code="bad_option")
    peer_of(read_config(config_path), name)
    if __debug__ and sys.executable:  # else `run_node` says what is wrong with -O
        sys.stdout.flush()
        sys.stderr.flush()
        command = node_command(
            name, config_path, data, insecure=insecure, log_format=log_format, parent=parent
        )
        os.execv(sys.executable, command)
    return run_node(name, config_path, data, insecure=insecure, log_format=log_format, parent=parent)


def node_command(
    name: str, config_path: Path, data: Path, *, insecure: bool, log_format: str | None, parent: int | None
) -> list[str]:
    """What runs a peer in a process of its own."""
    # -P: a folder named like one of our packages in the working directory must not be taken for it
    command = [sys.executable, "-P", "-m", "cli.node", "node", name]
    command += ["--config", str(config_path), "--data", str(data)]
    command += ["--insecure"] if insecure else []
    command += ["--log-format", log_format] if log_format else []
    return [*command, "--parent", str(parent)] if parent is not None else command


def main(arguments: list[str]) -> int:
    """Run a peer with the arguments of `node_command`."""
    parser = argparse.ArgumentParser(prog="sullae")
    parser.add_argument("command", choices=("node",))
    parser.add_argument("name")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--log-format", choices=LOG_FORMATS)
    parser.add_argument("--parent", type=int)
    given = parser.parse_args(arguments)
    try:
        return run_node(
            given.name,
            given.config,
            given.data,
            insecure=given.insecure,
            log_format=given.log_format,
            parent=given.parent,
        )
    except Failure as failure:
        print_failure(failure, as_json=False)
        return failure.exit_status


def run_node(
    name: str, config_path: Path, data: Path, *, insecure: bool, log_format: str | None, parent: int | None
) -> int:
    """Run the peer called `name` until SIGINT or SIGTERM; the process's exit status.

    `parent` is the process that watches over this one: when it ends, however it ends, this one stops too.
    """
    if parent is not None:
        stop_with(parent)
    config = read_config(config_path)
    peer = peer_of(config, name)
    from server import logs
    from server.process import run_peer

    chosen = log_format or ("text" if sys.stderr.isatty() else "json")
    again = partial(cannot_start, name, config_path, insecure)
    try:
        return run_peer(config, name, data_of(peer, data), insecure, chosen, cannot_restart=again)
    finally:
        logs.finish()


def cannot_start(name: str, config_path: Path, insecure: bool) -> str:
    """Why a peer would not start with the configuration and certificates of now; nothing if it would.

    One that runs asks before it stops to start again: a line of cluster.yml must not cost a peer.
    """
    from server import logs
    from server.certificate_files import CertificateError
    from server.security import tls_of, unsafe

    try:
        config = read_config(config_path)
        peer_of(config, name)
        tls_of(config, name, logs.logger(name))
        return unsafe(config, insecure)
    except Failure as failure:
        return failure.text
    except CertificateError as error:
        return str(error)


def stop_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent ends, so that no peer is left behind (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise Failure("the process that started this peer is gone", code="orphan")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
