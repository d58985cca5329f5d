"""The client's end of a CQL connection, without I/O: requests in, bytes out; bytes in, responses out.

    stream = protocol.send(wire.Query(...))
    transport.write(protocol.data_to_send())
    for reply in protocol.receive(data): ...        # reply.stream says whose it is

The codecs are those of the server (`cql_lite/frames.py`, `cql_lite/wire.py`) in the other direction. With
version 5 everything after the answer to STARTUP is in segments, both ways. A stream of a request that nobody
waits for any more stays taken until its answer came, since the protocol has no way to cancel.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from core.limits import CQL_ENVELOPE_BYTES_MAX
from cql_lite import frames, wire
from cql_lite.frames import FrameReader, FrameWriter, MalformedError

STREAMS_MAX: Final = 1_024
EVENT_STREAM: Final = -1


class Reply(NamedTuple):
    """A response with what came along; an event has the stream -1."""

    stream: int
    response: wire.Response
    tracing_id: bytes | None = None
    warnings: tuple[str, ...] = ()


class ClientProtocol:
    """One connection's state; `version` is what every message says."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._reader = FrameReader(responses=True)
        self._writer = FrameWriter(responses=False)
        self._free = list(range(STREAMS_MAX - 1, -1, -1))
        self._out: list[bytes] = []
        self._starting = -1

    @property
    def full(self) -> bool:
        """Whether every stream is taken."""
        return not self._free

    def send(
        self, request: wire.Request, *, tracing: bool = False, payload: wire.Payload | None = None
    ) -> int:
        """Queue a request; the stream that its answer will have. There must be a free one."""
        flags, before = wire.write_prelude(self.version, None, (), payload)
        body = before + wire.encode_request(request, self.version)
        if len(body) > CQL_ENVELOPE_BYTES_MAX:
            raise MalformedError(f"a request of {len(body)} bytes is too large", fatal=False)
        stream = self._free.pop()
        flags |= frames.TRACING if tracing else 0
        self._out.append(self._writer.send(self.version, flags, stream, request.opcode, body=body))
        if isinstance(request, wire.Startup):
            self._starting = stream
        return stream

    def data_to_send(self) -> bytes:
        """All bytes that are ready, once."""
        out, self._out = self._out, []
        return b"".join(out)

    def receive(self, data: bytes) -> list[Reply]:
        """The responses that are complete; raises MalformedError, after which nothing more can be read."""
        self._reader.feed(data)
        found: list[Reply] = []
        while (envelope := self._reader.next()) is not None:
            prelude = wire.read_prelude(envelope.flags, envelope.body, response=True)
            body = envelope.body[prelude.end :]
            response = wire.decode_response(envelope.opcode, body, envelope.version)
            stream = envelope.stream
            if stream >= 0:
                self._free.append(stream)
                if stream == self._starting:
                    self._started(response)
            found.append(Reply(stream, response, prelude.tracing_id, prelude.warnings))
        return found

    def _started(self, response: wire.Response) -> None:
        self._starting = -1
        if self.version >= 5 and not isinstance(response, wire.Error):
            self._reader.begin_segments(compressed=False)
            self._writer.begin_segments(compressed=False)
