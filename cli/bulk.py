"""Batches of puts to the `_bulk` of a bucket or a collection, repeated until every line has a final outcome.

A line is acknowledged, or refused for good (a 4xx outcome), or it failed for now: no peer reachable, too few
replicas alive, overload, a timeout whose outcome is unknown. What failed for now is sent again, to the next
peer, with growing pauses, until `patience_s` has passed without a single line succeeding. Putting the same
value twice is harmless, which is why unknown outcomes may simply be repeated.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cli.output import Failure
from cli.records import Record
from cli.rest import REFUSED_AT, Peer, UnreachableError, refusal, segment

PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 2.0
FAILED_FOR_NOW: Final = frozenset([408, 425, 429, 500, 502, 503, 504])


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that the cluster will not take, and why."""

    record: Record
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where records go: a bucket of values or, with `documents`, a collection of documents."""

    name: str
    documents: bool = False

    def __str__(self) -> str:
        return f"{'collection' if self.documents else 'bucket'} {self.name}"

    @property
    def settings_path(self) -> str:
        """Where it is made."""
        return f"/v1/{'collections' if self.documents else 'buckets'}/{segment(self.name)}"

    @property
    def bulk_path(self) -> str:
        """Where it is filled."""
        return f"/v1/{'docs' if self.documents else 'kv'}/{segment(self.name)}/_bulk"

    def put_line(self, record: Record) -> bytes:
        """A record as a line of a bulk request: its JSON goes in as it is, and is stored as it is."""
        key = json.dumps(record.key, ensure_ascii=False).encode()
        names = (b'"id":', b',"document":') if self.documents else (b'"key":', b',"json":')
        return b'{"op":"put",' + names[0] + key + names[1] + record.value + b"}\n"


class BulkWriter:
    """Puts batches through one connection; begins with the peer at `first`, so several share the work."""

    def __init__(
        self,
        urls: Sequence[str],
        place: Place,
        *,
        query: str,
        first: int,
        patience_s: float,
        stop: threading.Event,
    ) -> None:
        """`query` goes behind the path of every request ("" or "?..."); `stop` ends the waiting."""
        self._peers = [Peer(url) for url in urls]
        self._place = place
        self._path = place.bulk_path + query
        self._at = first % len(urls)
        self._patience_s = patience_s
        self._stop = stop

    def close(self) -> None:
        """Close all connections."""
        for peer in self._peers:
            peer.close()

    def put(self, batch: Sequence[Record]) -> list[Refused]:
        """Put all records; those that were refused for good.

        Raises `Failure` when patience is at its end or when stopped; what was put then is not known.
        """
        left = list(batch)
        refused: list[Refused] = []
        whys: dict[int, str] = {}  # of each peer its latest: who refuses has more to say than who is down
        pause_s, deadline_s = PAUSE_FIRST_S, time.monotonic() + self._patience_s
        while left:
            again, whys[self._at] = self._try(left, refused)
            if len(again) < len(left):
                pause_s, deadline_s = PAUSE_FIRST_S, time.monotonic() + self._patience_s
            left = again
            if not left:
                break
            if self._stop.is_set():
                raise Failure("stopped", code="stopped")
            if time.monotonic() > deadline_s:
                why = "; ".join(dict.fromkeys(whys[at] for at in sorted(whys)))
                raise Failure(f"no write has succeeded for {self._patience_s:.0f} s: {why}", code="no_peer")
            self._at = (self._at + 1) % len(self._peers)
            self._stop.wait(pause_s)
            pause_s = min(PAUSE_MAX_S, 2 * pause_s)
        return refused

    def _try(self, batch: list[Record], refused: list[Refused]) -> tuple[list[Record], str]:
        """Send a batch once; the records that failed for now, and why the last of them did."""
        body = b"".join(self._place.put_line(record) for record in batch)
        try:
            answer = self._peers[self._at].request(
                "POST", self._path, body, {"Content-Type": "application/x-ndjson"}
            )
        except UnreachableError as error:
            return batch, str(error)
        if answer.status in FAILED_FOR_NOW:
            return batch, refusal(answer).text
        if answer.status >= REFUSED_AT:
            raise refusal(answer)
        again, why = [], "the answer ended early"
        outcomes = outcomes_by_line(answer.body)
        for number, record in enumerate(batch):
            status, detail = outcomes.get(number, (503, why))
            if status in FAILED_FOR_NOW:
                again.append(record)
                why = detail
            elif status >= REFUSED_AT:
                refused.append(Refused(record, f"{detail} ({status})"))
        return again, why


def outcomes_by_line(body: bytes) -> dict[int, tuple[int, str]]:
    """Status and detail of each line of the request, counted from 0. A last line cut short is left out."""
    found = {}
    for number, line in enumerate(line for line in body.split(b"\n") if line.strip()):
        try:
            outcome: dict[str, Any] = json.loads(line)
            found[number] = int(outcome["status"]), str(outcome.get("detail") or outcome.get("title") or "")
        except (ValueError, KeyError, TypeError):
            break
    return found
