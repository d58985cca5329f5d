"""What a program can see of the client's work: events of attempts, and spans of OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import sullae
from tests.client.fake import always, client, cut, in_turn, ok, peers, problem


class Tracer:
    """Keeps spans, as opentelemetry.trace would make them."""

    def __init__(self) -> None:
        self.spans: list[SimpleNamespace] = []

    @contextmanager
    def start_as_current_span(self, name: str, *, kind: str, attributes: dict[str, Any]) -> Iterator[Any]:
        span = SimpleNamespace(name=name, kind=kind, attributes={**attributes}, error=None)
        span.set_attribute = span.attributes.__setitem__
        self.spans.append(span)
        try:
            yield span
        except BaseException as error:
            span.error = error
            raise


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    tracer = Tracer()
    package, trace = ModuleType("opentelemetry"), ModuleType("opentelemetry.trace")
    trace.get_tracer = lambda name: tracer  # type: ignore[attr-defined]
    trace.SpanKind = SimpleNamespace(CLIENT="client")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "opentelemetry", package)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", trace)
    return tracer


async def test_an_operation_is_a_span_whatever_attempts_it_took(tracer: Tracer) -> None:
    async with peers(in_turn(cut, ok)) as [peer], client(peer, tracing=True) as db:
        await db.kv("photos").put("k", b"v")
    [span] = tracer.spans
    assert (span.name, span.kind, span.error) == ("sullae kv.put", "client", None)
    assert span.attributes["db.system.name"] == "sullae"
    assert span.attributes["db.collection.name"] == "photos"
    assert span.attributes["server.address"] == peer.url


async def test_a_span_has_the_error_that_left_it(tracer: Tracer) -> None:
    async with peers(always(lambda: problem("bad-key", 400))) as [peer], client(peer, tracing=True) as db:
        with pytest.raises(sullae.Invalid):
            await db.kv("photos").put("k", b"v")
    assert isinstance(tracer.spans[0].error, sullae.Invalid)
    assert tracer.spans[0].attributes["sullae.attempts"] == 1


async def test_spans_can_be_turned_off(tracer: Tracer) -> None:
    async with peers(always(ok)) as [peer], client(peer, tracing=False) as db:
        await db.kv("photos").put("k", b"v")
    assert tracer.spans == []


async def test_every_attempt_is_told() -> None:
    told: list[sullae.Event] = []
    script = in_turn(lambda: problem("unavailable", 503), cut, ok)
    async with peers(script) as [peer], client(peer, on_event=told.append) as db:
        await db.collection("photos").patch("k", {"$inc": {"n": 1}})
    about = ("docs.patch", "photos", peer.url)
    assert [(event.operation, event.target, event.peer) for event in told] == [about] * 3
    assert [event.attempt for event in told] == [1, 2, 3]
    assert [event.will_retry for event in told] == [True, True, False]
    assert [type(event.error) for event in told] == [sullae.Unavailable, sullae.OutcomeUnknown, type(None)]
    assert [event.status for event in told] == [503, 0, 204]
    assert all(event.seconds >= 0 for event in told)
