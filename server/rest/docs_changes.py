"""Changes of the documents that meet a filter: each on its own, and only if it still meets it.

`"return"` beside `"multi": false` asks for the one that was changed, as it was or as it became: whoever takes
jobs from a collection learns which one it got.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from core.json_values import JsonError, Value, render
from core.requests import Invalid, Judged, RowsRead, WriteRequest
from documents import operations
from documents.collections import Collection
from documents.operations import NotMet, Operation
from query.document_filter import Filter, cost_of
from query.document_match import predicate
from query.document_projection import ID
from query.numbers import NotComputableError
from query.refusals import RefusedError
from server.rest.problems import ProblemError

_NOT_COMPUTED: Final = (RefusedError, NotComputableError, ArithmeticError, ValueError, RecursionError)
"""Anything else that an expression ends with is a bug, and told as one (node/paxos_round.py)."""

BEFORE: Final = "before"
AFTER: Final = "after"


class Image(msgspec.Struct, frozen=True):
    """A document that is given back."""

    id: str
    tag: str | None
    text: bytes


def image_of(body: Mapping[str, Value], known: tuple[str, ...]) -> str:
    """Which image of the one document is wanted, "" for none."""
    for name in ("sort", "return"):
        if body.get(name) is not None and body.get("multi", True):
            raise ProblemError("bad-body", f'{name} is of one document: say "multi": false')
    image = body.get("return")
    if image is not None and image not in known:
        raise ProblemError("bad-body", f"return is {' or '.join(known)}; found {str(image)[:60]!r}")
    return str(image or "")


class Counts:
    """How far a change of documents got, and the one that is given back."""

    def __init__(self, image: str) -> None:
        self.matched = 0
        self.changed = 0
        self.cursor: str | None = None
        self.found: Image | None = None
        self._image = image

    def add(self, operation: Operation, answer: Judged, is_met: bool) -> None:
        """One was decided; `is_met`: it met the filter then."""
        self.matched += is_met
        self.changed += answer.applied
        if not is_met or not self._image:
            return
        before = operations.found(operation.collection, answer.reads[0])
        assert before is not None, "what meets a filter is there"
        self.found = Image(before.id, before.tag, before.text)
        if self._image == AFTER:
            outcome = operation.outcome(answer)
            assert not isinstance(outcome, NotMet) and outcome.text is not None, "it was there"
            self.found = Image(before.id, outcome.tag, outcome.text)

    def rendered(self, members: Mapping[str, Any]) -> bytes:
        """The answer, with the document if one was to be given back."""
        text = render(members)
        if not self._image:
            return text
        shown = b"null"
        if self.found is not None:
            head = render({"id": self.found.id, "etag": self.found.tag})
            shown = head[:-1] + b',"document":' + self.found.text + b"}"
        return text[:-1] + b',"document":' + shown + b"}"


def judge(collection: Collection, condition: Filter) -> Callable[[tuple[RowsRead, ...]], bool]:
    """Whether the document that was read meets the filter."""
    meets, cost = predicate(condition), cost_of(condition)

    def holds(reads: tuple[RowsRead, ...]) -> bool:
        document = operations.found(collection, reads[0])
        if document is None or cost.problem(document.text) is not None:
            return False
        try:
            value = document.value
        except (JsonError, RecursionError):
            return False
        if isinstance(value, dict):
            value[ID] = document.id
        try:
            return meets(value)
        except _NOT_COMPUTED:  # an expression that cannot be computed of it any more
            return False

    return holds


def guarded(operation: Operation, meets: Callable[[tuple[RowsRead, ...]], bool]) -> Operation:
    """The operation, done only if the filter still holds when it is decided."""
    request = operation.request
    assert not isinstance(request, WriteRequest), "an operation on what exists is a conditional one"
    decide = request.decide

    def judged(reads: tuple[RowsRead, ...]) -> WriteRequest | Invalid | None:
        return decide(reads) if meets(reads) else None

    guarded = msgspec.structs.replace(request, decide=judged)
    return msgspec.structs.replace(operation, request=guarded)
