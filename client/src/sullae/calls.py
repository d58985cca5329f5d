"""Requests and answers as values, the settings of a client, and how names become paths."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from sullae.errors import Invalid, SullaeError
from sullae.retrying import Backoff, Repeat

Consistency = Literal[
    "any", "one", "two", "three", "quorum", "all", "local_quorum", "each_quorum", "local_one", "serial",
    "local_serial",
]  # fmt: skip
"""How many replicas must answer; the cluster's default is quorum."""

Changes = Literal["none", "keys", "new", "old", "new_and_old"]
"""What the change stream of a bucket or collection tells of a write."""

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


@dataclass(frozen=True)
class Event:
    """One attempt of one request, told to the `on_event` that `connect` was given."""

    operation: str
    """Such as `kv.get` or `docs.find`."""
    target: str
    """The bucket, collection or keyspace, if there is one."""
    peer: str
    attempt: int
    """From 1."""
    status: int
    """The HTTP status; 0 if there was no answer."""
    seconds: float
    error: SullaeError | None
    will_retry: bool


@dataclass(frozen=True)
class Settings:
    """What a client does by default; `connect` takes these by name."""

    consistency: Consistency | None = None
    """For every request that does not say its own."""
    timeout_s: float = 10.0
    """For a whole operation, with all its attempts and pauses; 1 s more for each MiB that it sends."""
    scan_timeout_s: float = 60.0
    """The same for what looks at many documents: find, count, distinct, aggregate, search, CQL."""
    attempt_timeout_s: float = 3.0
    """For one attempt: what a peer is given to answer before another one is asked; 1 s more per MiB sent."""
    connect_timeout_s: float = 1.0
    attempts_max: int = 12
    backoff: Backoff = field(default_factory=Backoff)
    connections_per_peer: int = 64
    discover: bool = True
    """Ask the cluster for its members; without it only the peers that were given are used."""
    refresh_s: float = 30.0
    """How often they are asked for again."""
    prefer_replicas: bool = True
    """Ask a replica of the key, which saves the cluster a hop."""
    exact_numbers: bool = True
    """Numbers that no float holds exactly are read as `decimal.Decimal` and `int`; False: as floats."""
    ssl: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every request, for a proxy before the cluster."""
    on_event: Callable[[Event], None] | None = None
    """Called after every attempt, on the event loop; it must be quick and must not raise."""
    tracing: bool = True
    """Make OpenTelemetry spans, if opentelemetry-api is installed."""


@dataclass(frozen=True)
class Call:
    """One request."""

    operation: str
    method: str
    path: str
    """Percent-encoded, without query."""
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat: Repeat = Repeat.HARMLESS
    writes: bool = False
    target: str = ""
    key: str | None = None
    """The key or id it is about, to find replicas."""
    timeout_s: float | None = None
    is_scan: bool = False
    takes_timeout: bool = False
    """Whether the path takes `timeout_ms`."""
    goes_on: bool = False
    """Whether its answer comes bit by bit as it is done, so that only silence says that it does not go on.
    Then `timeout_s` is how long one part of it may take, and each attempt begins anew.
    """


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def etag(self) -> str:
        """The entity tag; empty if there is none."""
        return self.headers.get("ETag", "")


def path_of(*parts: str) -> str:
    """The path of these names; raises Invalid for text that is no Unicode."""
    return "/v1/" + "/".join(map(_segment, parts))


def document_path(collection: str, document_id: str) -> str:
    """The path of a document, whose id may begin like an operation's name."""
    path = path_of("docs", collection, document_id)
    if document_id.startswith("_"):
        at = len(path) - len(_segment(document_id))
        return path[:at] + "%5F" + path[at + 1 :]
    return path


def _segment(name: str) -> str:
    if not isinstance(name, str):
        raise Invalid(f"a key, an id or a name is text; found {name!r}"[:200], kind="bad-path")
    if name in (".", ".."):
        return name.replace(".", "%2E")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError:
        raise Invalid(f"{name!r} holds half of a surrogate pair", kind="bad-path") from None


def query_of(**given: Any) -> tuple[tuple[str, str], ...]:
    """The parameters that are not None; names may end in `_` where Python wants that."""
    return tuple((name.rstrip("_"), str(value)) for name, value in given.items() if value is not None)


def target_of(path: str, query: tuple[tuple[str, str], ...]) -> str:
    """Path and query."""
    return f"{path}?{urlencode(query)}" if query else path
