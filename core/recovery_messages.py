"""Messages of recovering the metadata (node/recovery.py); see core/messages.py."""

from __future__ import annotations

import msgspec


class RecoverAsk(msgspec.Struct, frozen=True, array_like=True, tag=126):
    """May these members be given up? Answered with RecoverTold."""

    op: int
    lost: tuple[bytes, ...]


class RecoverTold(msgspec.Struct, frozen=True, array_like=True, tag=127):
    """The last epoch here, which of those asked about are not known to be gone, and why not ("": they may).
    """

    op: int
    epoch: int
    living: tuple[bytes, ...]
    objection: str
