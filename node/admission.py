"""Admission: how many requests, and bytes of them, a node works on at once.

Over it is `Overloaded`, at once.
"""

from __future__ import annotations

from core.gathering import GatherRequest
from core.requests import (
    BatchRequest,
    BulkRequest,
    ConditionalRequest,
    Overloaded,
    Request,
    RestoreRequest,
    WriteRequest,
)
from core.settings import Settings

REQUEST_OVERHEAD_BYTES = 512


def request_bytes(request: Request) -> int:
    """About what a request holds in memory."""
    if isinstance(request, WriteRequest):
        size = REQUEST_OVERHEAD_BYTES
        for row in request.rows:
            for write in row.writes:
                if write.value is not None:
                    size += len(write.value)
        return size
    if isinstance(request, BatchRequest | BulkRequest):
        return REQUEST_OVERHEAD_BYTES + sum(request_bytes(write) for write in request.writes)
    if isinstance(request, ConditionalRequest):
        return REQUEST_OVERHEAD_BYTES + request.bytes_held
    if isinstance(request, RestoreRequest):
        return REQUEST_OVERHEAD_BYTES + sum(
            len(data) for partition in request.partitions for _, data in partition.rows
        )
    if isinstance(request, GatherRequest):
        return REQUEST_OVERHEAD_BYTES + request.bytes_held
    return REQUEST_OVERHEAD_BYTES


class Admission:
    """Requests in work: a count and a sum of bytes, both bounded."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is in work."""
        self._requests_max = settings.requests_in_flight_max
        self._bytes_max = settings.request_bytes_in_flight_max
        self._sizes: dict[int, int] = {}
        self.bytes = 0

    @property
    def requests(self) -> int:
        """Requests in work."""
        return len(self._sizes)

    def enter(self, request_id: int, request: Request) -> Overloaded | None:
        """Take a request in, or say why not."""
        if len(self._sizes) >= self._requests_max:
            return Overloaded(
                f"this peer works on {self._requests_max} requests already: try again, or another peer"
            )
        size = request_bytes(request)
        if self.bytes + size > self._bytes_max and self._sizes:
            return Overloaded(
                f"this peer holds {self.bytes} bytes of requests already: try again, or another peer"
            )
        assert request_id not in self._sizes, "a request id was used twice"
        self._sizes[request_id] = size
        self.bytes += size
        return None

    def leave(self, request_id: int) -> bool:
        """A request is answered or abandoned; False if it has been already."""
        size = self._sizes.pop(request_id, None)
        if size is None:
            return False
        self.bytes -= size
        return True
