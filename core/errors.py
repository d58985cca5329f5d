"""What can go wrong, in three kinds that are never mixed.

1. Expected outcomes are values: `Unavailable(required=2, alive=1)`, `Timeout(...)`; see core/requests.py.
2. Faults of a peer or a disk are this small tree of exceptions:

       SullaeError
         StoreError                 the local store
           CorruptionError          bytes that are not what was written; names the file or the key
           DiskFullError            no space: nothing was written; reads go on
           StallError               the engine sheds writes (compaction is behind); nothing was written
           DurabilityError          a sync failed: what was written is *unknown*; the process must end
           AmnesiaError             the log is shorter than what was acknowledged: this store must be rebuilt
           FormatError              the directory was written by an unknown version, or is in use
             MisplacedError         it is of another peer, or of another cluster
         ProtocolError              malformed bytes from a client or a peer: costs one connection
         RequestError               what a user asked for cannot be done; the text says what to do

3. Our own bugs are assertions and stop the node.

Where a stranger's expression is computed of a stranger's data, what nobody thought of (`UNFORESEEN`) costs
the request alone: a peer that ended of it would take with it the next one, which is asked instead.
"""

from __future__ import annotations

from typing import Final

UNFORESEEN: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What computing may end with, in libraries too, where nobody thought of these values."""


def unforeseen(error: Exception) -> str:
    """That something could not be computed, for people."""
    return f"this cannot be computed of what is there ({type(error).__name__}: {str(error)[:200]})"


class SullaeError(Exception):
    """The root of our exceptions."""


class StoreError(SullaeError):
    """The local store failed."""


class CorruptionError(StoreError):
    """Stored bytes are damaged. Never served, never read as absent."""


class DiskFullError(StoreError):
    """There is no space left; the refused write left nothing."""


class StallError(StoreError):
    """The engine is behind and refuses writes for now."""


class DurabilityError(StoreError):
    """A sync failed: outcomes are unknown, and the process ends rather than go on."""


class AmnesiaError(StoreError):
    """Acknowledged writes are missing from the log."""


class FormatError(StoreError):
    """Not a directory that this peer, or this version, may open."""


class MisplacedError(FormatError):
    """A sound directory, of another peer or another cluster."""


class ProtocolError(SullaeError):
    """Malformed input; the connection it came on is closed."""


class RequestError(SullaeError):
    """A request that cannot be done as asked; `str()` says what is wrong and what to do."""
