"""Sessions over REST: jepsen_like/workloads/session.py with the header `Sullae-Session`."""

from __future__ import annotations

import urllib.parse
from typing import Any

from core.cell import NO_VERSION, Version
from core.consistency import Level
from core.session import Token, decode_tokens, encode_token
from jepsen_like.checkers import Problem
from jepsen_like.door import CONTENT_TYPE, End
from jepsen_like.history import FAIL, INFO, OK, Operation
from jepsen_like.real.door import Answer, version_of
from jepsen_like.real.workloads import door_of, insisted
from jepsen_like.session import SECOND, Session
from jepsen_like.workloads.session import LEVELS, SESSIONS, Client, SessionWorkload
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

    def _create(self, client: Client) -> None:
        self._made += 1
        name = f"made{self._made}"
        operation = self._begin(client, "create", name)

        def made(end: End) -> None:
            if end.status == OK:
                client.made.append(name)
            self._finish(client, operation, end, None)

        body = {} if self._factor is None else {"replication_factor": self._factor}
        self._send(client, operation, ("PUT", f"/v1/buckets/{name}", body), INFO, made)

    def _write(self, client: Client, kind: str, place: tuple[str, str], peer: int = -1) -> None:
        self._next += 1
        operation = self._begin(client, kind, place, peer)

        def written(end: End) -> None:
            version = NO_VERSION
            if end.status == OK:
                version = version_of(end.result.etag)
                client.floors[place] = max(client.floors.get(place, NO_VERSION), version)
            self._finish(client, operation, end, version)

        self._send(client, operation, ("PUT", self._path(place), self._next), INFO, written)

    def _read(
        self, client: Client, kind: str, place: tuple[str, str], peer: int = -1, again: bool = False
    ) -> None:
        operation = self._begin(client, kind, place, peer)

        def read(end: End) -> None:
            answer: Answer = end.result
            if answer.status == 404:
                end = self._missing(operation, answer)
            version = version_of(answer.etag) if answer.status == 200 else NO_VERSION
            if end.status == OK:
                self._judge(client, place, operation, version)
                self._final_left -= again
            elif again:
                self.session.cluster.scheduler.after(SECOND, self._read, client, kind, place, peer, True)
            self._finish(client, operation, end, version)

        self._send(client, operation, ("GET", self._path(place), None), FAIL, read)

    def _missing(self, operation: Operation, answer: Answer) -> End:
        """No such key is an answer; no such bucket is what the session knows better."""
        if answer.problem == "no-such-key":
            return End(OK, None, "")
        self._problems.append(Problem("unseen_schema", f"{operation!r}: {answer.problem} there"))
        return End(FAIL, None, answer.problem)

    def _judge(self, client: Client, place: tuple[str, str], operation: Operation, version: Version) -> None:
        floor = client.floors.get(place, NO_VERSION)
        if version < floor:
            self._problems.append(Problem("back", f"{operation!r} shows {version}, after {floor}"))
        client.floors[place] = max(floor, version)

    def _path(self, place: tuple[str, str]) -> str:
        level: Level = LEVELS[self.session.random.randrange(len(LEVELS))]
        key = urllib.parse.quote(place[1], safe="")
        return f"/v1/kv/{place[0]}/{key}?consistency={level.name.lower()}"

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

    def _finish(self, client: Client, operation: Operation, end: End, result: Any) -> None:
        self._end(client, operation, end._replace(result=result if end.status == OK else None))
