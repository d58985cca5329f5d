"""Structured logs on standard error: a JSON object a line, or text for people.

A line that cannot be written (the disk of the log is full, its reader is gone) stops nothing: a peer serves,
and ends in order, without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    """Have imports in this block fail for this package, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


with _absent("rich"):  # it would be imported for coloured tracebacks: 4 MiB of every peer, which prints none
    import structlog

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}


class _Lines:
    """What structlog hands whole lines to."""

    _lock = threading.Lock()

    def msg(self, line: str) -> None:
        """Write a line, or what of it can be written: the rest goes out before the next."""
        with self._lock, contextlib.suppress(OSError):
            print(line, file=sys.stderr, flush=True)

    debug = info = warning = error = critical = msg


def finish() -> None:
    """Write what is left, or give it up: what stays unwritten would be this process's exit status."""
    try:
        sys.stderr.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def configure(log_format: str, level: str) -> None:
    """Have all logs of this process, those of libraries too, written in `log_format` (json or text)."""
    renderer: Any = structlog.processors.JSONRenderer()
    if log_format != "json":
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Lines,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(LEVELS[level], logging.WARNING), force=True)


def logger(peer: str) -> Any:
    """The log of the peer called `peer`."""
    return structlog.get_logger().bind(peer=peer)
