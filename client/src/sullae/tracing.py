"""Spans of OpenTelemetry around operations, if opentelemetry-api is installed; else nothing at no price."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sullae.calls import Call


class Span(Protocol):
    """What is told to a span."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Note something."""


class _NoSpan:
    """Takes notes for nobody."""

    def set_attribute(self, key: str, value: Any) -> None:
        """Nothing."""


_NO_SPAN = _NoSpan()


class Tracing:
    """Makes a span per operation: `sullae kv.get`, a client's, with the conventions for databases."""

    def __init__(self, *, wanted: bool) -> None:
        self._tracer: Any = None
        self._kind: Any = None
        if wanted:
            try:
                trace = importlib.import_module("opentelemetry.trace")
            except ImportError:
                return
            self._tracer = trace.get_tracer("sullae")
            self._kind = trace.SpanKind.CLIENT

    @contextmanager
    def span(self, call: Call) -> Iterator[Span]:
        """A span that lasts as long as the block; an exception that leaves it is recorded."""
        if self._tracer is None:
            yield _NO_SPAN
            return
        attributes = {"db.system.name": "sullae", "db.operation.name": call.operation}
        if call.target:
            attributes["db.collection.name"] = call.target
        with self._tracer.start_as_current_span(
            f"sullae {call.operation}", kind=self._kind, attributes=attributes
        ) as span:
            yield span
