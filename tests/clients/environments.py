"""Clients that nobody here wrote, each in the environment it wants, and what they may ask of the tests.

`cassandra-driver` and `scylla-driver` both install the package `cassandra`, and `cqlsh` brings a driver of
its own; so each has an environment: `.venv` itself, `.venv-scylla` and `.venv-cqlsh`, which `make clients`
makes of the lists in this folder. Where one is absent the tests that need it are skipped and say why.

The suite of a driver runs as a process of that environment. What only the tests can do, to kill a peer and
to start it again, it asks for on a socket: a line like `kill n2`, answered with `done`.
"""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.process.cluster import Cluster

TOP = Path(__file__).resolve().parents[2]
SUITE_TIMEOUT_S = 240.0
POLL_S = 0.05


def program(environment: str, name: str) -> str:
    """A program of an environment beside `.venv`; skips the test if it is not there."""
    found = TOP / environment / "bin" / name
    if not (TOP / environment / ".installed").exists() or not found.exists():
        pytest.skip(f"there is no {environment}: `make clients` makes it from PyPI")
    return str(found)


def driver_python(driver: str) -> str:
    """The Python that has this driver; skips the test if there is none."""
    if driver == "cassandra-driver":
        pytest.importorskip("cassandra", reason="cassandra-driver is not installed")
        return sys.executable
    return program(".venv-scylla", "python")


class _Asked(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        cluster: Cluster = self.server.cluster  # type: ignore[attr-defined]
        actions = {"kill": cluster.kill, "up": cluster.up, "pause": cluster.pause, "resume": cluster.resume}
        for line in self.rfile:
            what, name = line.decode().split()
            actions[what](name)
            self.wfile.write(b"done\n")


def serve(cluster: Cluster, path: Path, going_on: Callable[[], bool]) -> None:
    """Do what a suite asks of the peers while it goes on.

    In the thread that called, which must live as long as the cluster: the kernel ends a peer when the thread
    that started it ends.
    """
    with socketserver.UnixStreamServer(str(path), _Asked) as server:
        server.cluster = cluster  # type: ignore[attr-defined]
        server.timeout = POLL_S
        while going_on():
            server.handle_request()


def run_suite(python: str, cluster: Cluster, folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the driver suite in an environment; its exit status and what it said."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(TOP),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SULLAE_PEERS": ",".join(f"{peer.name}={peer.address}" for peer in cluster.peers),
        "SULLAE_CQL_PORT": str(cluster.cql),
        "SULLAE_CONTROL": str(folder / "control"),
    }
    suite = Path(__file__).with_name("suite")
    command = [python, "-P", "-m", "pytest", "-c", str(suite / "suite.ini"), f"--rootdir={suite}"]
    report, end_s = folder / "report.txt", time.monotonic() + SUITE_TIMEOUT_S
    with report.open("w") as said:
        process = subprocess.Popen(
            [*command, *arguments, str(suite)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            serve(cluster, folder / "control", lambda: process.poll() is None and time.monotonic() < end_s)
        finally:
            process.kill()
            status = process.wait()
    return status, report.read_text()


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it says on both of its outputs comes as one text."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL if "input" not in options else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,
    )
