"""`$facet`: several pipelines over the same documents, and one document that has the results of all.

Each peer does its share of every facet, and their states travel together, so a facet costs what its pipeline
would cost alone; what they hold counts together. After a stage that has seen all documents they are run where
that one is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from query.accumulators import Memory
from query.document_values import Value
from query.pipeline_stages import Below, Results, Sink


class Facet(NamedTuple):
    """One facet's chain of stages: what documents are pushed to, where it ends, and what takes a part's
    state (None: the documents that are in it are pushed).
    """

    first: Sink
    end: Any
    absorb: Callable[[Value], bool] | None = None


class Divisible(Protocol):
    """What a facet is made of: a pipeline."""

    def facet_part(self, memory: Memory, below: Below) -> Facet:
        """A peer's share."""

    def facet_whole(self, memory: Memory, below: Below) -> Facet:
        """What takes the shares, and ends in results."""

    def facet_alone(self, memory: Memory, below: Below) -> Facet:
        """All of it in one place."""


class Faceted:
    """The stage; without a `sink` there is only the state."""

    def __init__(self, facets: Mapping[str, Facet], sink: Sink | None) -> None:
        self._facets = facets
        self._wanted = dict.fromkeys(facets, True)
        self._sink = sink

    def push(self, document: Value) -> bool:
        """Give a document to every facet that wants more."""
        for name, facet in self._facets.items():
            if self._wanted[name]:
                self._wanted[name] = facet.first.push(document)
        return any(self._wanted.values())

    def state(self) -> Value:
        """The state of each facet."""
        return {name: facet.end.state() for name, facet in self._facets.items()}

    def absorb(self, state: Value) -> bool:
        """Take the states of another's facets."""
        assert isinstance(state, dict)
        for name, facet in self._facets.items():
            if facet.absorb is not None:
                facet.absorb(state[name])
                continue
            for document in state[name]:
                if not self._wanted[name]:
                    break
                self._wanted[name] = facet.first.push(document)
        return True

    def end(self) -> None:
        """Hand on the one document."""
        assert self._sink is not None, "a part of facets has only its state"
        found: dict[str, Value] = {}
        for name, facet in self._facets.items():
            facet.first.end()
            assert isinstance(facet.end, Results)
            found[name] = facet.end.documents
        self._sink.push(found)
        self._sink.end()


def faceted(
    pipelines: Mapping[str, Divisible],
) -> tuple[
    Callable[[Memory, Below, Sink], Sink], Callable[[Memory, Below, int | None, Sink | None], Faceted]
]:
    """How the stage is made alone, and divided."""

    def divided(memory: Memory, below: Below, top: int | None, sink: Sink | None) -> Faceted:
        del top
        if sink is None:
            return Faceted({name: one.facet_part(memory, below) for name, one in pipelines.items()}, None)
        return Faceted({name: one.facet_whole(memory, below) for name, one in pipelines.items()}, sink)

    def alone(memory: Memory, below: Below, sink: Sink) -> Sink:
        return Faceted({name: one.facet_alone(memory, below) for name, one in pipelines.items()}, sink)

    return alone, divided
