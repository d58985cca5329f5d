"""What can go wrong, as exceptions that say what a program may do next.

    SullaeError
      RequestError           the cluster understood, and says no: asking again changes nothing
        Invalid              malformed, or not possible as asked (400, 405, 415, 422, ...)
        NotFound             no such bucket, collection, document, index (404)
        NotPermitted         (403)
        NotModified          what `if_none_match` named is still what is there (304)
        Conflict             what is there does not allow it (409)
          PreconditionFailed `if_match` or `if_none_match` does not hold (412); `.etag` is what is there
        TooLarge             (413)
      Unavailable            not done: too few replicas live, or nobody serves now; later it may work
        Overloaded           not done: too much to do
      ConnectionFailed       not done: no peer could be reached, or none answered a read
      ReadTimeout            a read that replicas did not answer in time
      OutcomeUnknown         a write that may or may not have been done: read, or write again
      ServerError            a bug in a peer, or an answer that is none
      BulkError              some operations of a bulk writer failed; `.failures` says which

The client tries again where that is safe, so each of them comes after it did what it could. All but
`OutcomeUnknown`, `ServerError` and `BulkError` say of a write that it was not done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


class SullaeError(Exception):
    """Whatever this library raises. `kind` is the problem's stable word, such as `no-such-bucket`."""

    def __init__(
        self,
        detail: str,
        *,
        kind: str = "",
        status: int = 0,
        peer: str = "",
        members: Mapping[str, Any] | None = None,
    ) -> None:
        """`members` are what the problem says beside its type, title, status and detail."""
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.peer = peer
        self.members = dict(members or {})

    def __str__(self) -> str:
        about = ", ".join(part for part in (self.kind, f"asked at {self.peer}" if self.peer else "") if part)
        return f"{self.detail} ({about})" if about else self.detail


class RequestError(SullaeError):
    """The cluster understood, and says no."""


class Invalid(RequestError):
    """Malformed, or not possible as asked."""


class NotFound(RequestError):
    """There is no such bucket, collection, document or index."""


class NotPermitted(RequestError):
    """This may not be done."""


class NotModified(RequestError):
    """What `if_none_match` named is still what is there."""


class Conflict(RequestError):
    """What is there does not allow it."""


class PreconditionFailed(Conflict):
    """A condition does not hold; nothing was written."""

    @property
    def etag(self) -> str | None:
        """The entity tag of what is there; None if nothing is."""
        found = self.members.get("etag")
        return found if isinstance(found, str) else None


class TooLarge(RequestError):
    """More bytes, levels or pieces than are taken."""


class Unavailable(SullaeError):
    """Not done: too few replicas live, or nobody serves now."""


class Overloaded(Unavailable):
    """Not done: too much to do."""


class ConnectionFailed(SullaeError):
    """Not done: no peer could be reached, or the one that was asked to read went away."""


class ReadTimeout(SullaeError):
    """Too few replicas answered a read in time."""


class OutcomeUnknown(SullaeError):
    """A write that may or may not have been done."""


class ServerError(SullaeError):
    """A bug in a peer, or an answer that is none."""


@dataclass(frozen=True)
class BulkFailure:
    """One operation of a bulk writer that was not done, or may not have been: which, on what, and why."""

    operation: str
    key: str
    error: SullaeError


class BulkError(SullaeError):
    """Some operations of a bulk writer failed."""

    def __init__(self, failures: Sequence[BulkFailure], done: int) -> None:
        first = failures[0]
        super().__init__(
            f"{len(failures)} of {len(failures) + done} operations failed, first the {first.operation} "
            f"of {first.key[:100]!r}: {first.error}",
            kind="bulk",
        )
        self.failures = tuple(failures)
        self.done = done


_BY_STATUS: Final[dict[int, type[SullaeError]]] = {
    304: NotModified,
    403: NotPermitted,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    413: TooLarge,
    429: Overloaded,
    502: ConnectionFailed,
    503: Unavailable,
    504: ReadTimeout,
}
_BY_KIND: Final[dict[str, type[SullaeError]]] = {
    "overloaded": Overloaded,
    "outcome-unknown": OutcomeUnknown,
    "too-deep": TooLarge,
    "too-many-cells": TooLarge,
}
_STANDARD: Final = frozenset(["type", "title", "status", "detail"])


def error_of(status: int, problem: Mapping[str, Any], peer: str = "") -> SullaeError:
    """The exception that a problem (RFC 9457) is; `problem` may be empty, if the answer was none of ours."""
    kind = str(problem.get("type", ""))
    detail = str(problem.get("detail") or problem.get("title") or f"the answer has the status {status}")
    members = {name: value for name, value in problem.items() if name not in _STANDARD}
    found = _BY_KIND.get(kind) or _BY_STATUS.get(status)
    if found is None:
        found = Invalid if 400 <= status < 500 else ServerError
    return found(detail, kind=kind, status=status, peer=peer, members=members)
