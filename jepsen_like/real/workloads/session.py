"""Sessions over REST: jepsen_like/workloads/session.py with the header `Sullae-Session`."""

from __future__ import annotations

import urllib.parse
from typing import Any

from core.cell import NO_VERSION
from core.consistency import Level
from core.session import Token, decode_tokens, encode_token
from jepsen_like.checkers import Problem
from jepsen_like.door import CONTENT_TYPE, End, Then
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.real.door import Answer, version_of
from jepsen_like.real.workloads import door_of, insisted
from jepsen_like.session import Session
from jepsen_like.workloads.session import SESSIONS, Client, SessionWorkload
from kv.buckets import BucketSpec


class RealSessionWorkload(SessionWorkload):
    """See the top of the file."""

    def setup(self, session: Session) -> bool:
        """One bucket that all share."""
        self.session = session
        factor = session.cluster.options.replication
        self._factor = None if factor == 3 else factor
        bucket = session.make_bucket(BucketSpec("sessions", self._factor))
        self._peers = len(session.cluster.machines)
        self._token = Token()
        self._clients = [Client(self._token) for _ in range(SESSIONS)]
        return bucket is not None and all(self._is_known_by(peer) for peer in range(self._peers))

    def _is_known_by(self, peer: int) -> bool:
        """Once it has the bucket: who did not make it has no token that says so."""
        request, door = ("GET", "/v1/buckets/sessions", None), door_of(self.session)
        return insisted(self.session, lambda _, then: door.http(peer, request, FAIL, then))

    def _make(self, client: Client, operation: Operation, then: Then) -> None:
        body = {} if self._factor is None else {"replication_factor": self._factor}
        request = ("PUT", f"/v1/buckets/{operation.key}", body)
        self._send(client, operation, request, INFO, lambda end: then(end._replace(result=None)))

    def _put(self, client: Client, operation: Operation, level: Level, then: Then) -> None:
        def written(end: End) -> None:
            then(end._replace(result=version_of(end.result.etag) if end.status == OK else None))

        self._send(client, operation, ("PUT", _path(operation, level), self._next), INFO, written)

    def _get(self, client: Client, operation: Operation, level: Level, then: Then) -> None:
        def read(end: End) -> None:
            answer: Answer = end.result
            if answer.status == 404:
                end = self._missing(operation, answer)
            version = version_of(answer.etag) if answer.status == 200 else NO_VERSION
            then(end._replace(result=version if end.status == OK else None))

        self._send(client, operation, ("GET", _path(operation, level), None), FAIL, read)

    def _missing(self, operation: Operation, answer: Answer) -> End:
        """No such key is an answer; no such bucket is what the session knows better."""
        if answer.problem == "no-such-key":
            return End(OK, None, "")
        self._problems.append(Problem("unseen_schema", f"{operation!r}: {answer.problem} there"))
        return End(FAIL, None, answer.problem)

    def _send(
        self, client: Client, operation: Operation, request: tuple[str, str, Any], unknown: str, then: Any
    ) -> None:
        """In the client's session: what the answer says of it is for the next request."""

        def done(end: End) -> None:
            found = decode_tokens(end.result.session) if end.result.session else None
            client.token = client.token if found is None else found
            then(end)

        headers = {"Sullae-Session": encode_token(client.token)}
        if "/kv/" in request[1]:
            headers["Content-Type"] = CONTENT_TYPE
        door_of(self.session).http(operation.peer, request, unknown, done, headers)


def _path(operation: Operation, level: Level) -> str:
    bucket, key = operation.key
    return f"/v1/kv/{bucket}/{urllib.parse.quote(key, safe='')}?consistency={level.name.lower()}"
