"""What the change log notes of a row before and after a write: bytes and flags (lsm/log.py)."""

from __future__ import annotations

from core.cell import Version
from core.row import Row, exists, newest_version
from lsm.log import EXISTED, EXISTS, LATE, SAME, Image


def runs_out(row: Row) -> bool:
    """Whether anything in the row has a time to live."""
    for cell in row.cells:  # noqa: SIM110 - most rows have none: a loop costs a third of a generator
        if cell.dead_from_us:
            return True
    return False


def flags_of(rows: tuple[Row, Row, Row], floor: Version, now_us: int) -> int:
    """What an image notes of a row before, after, and what came to it (lsm/log.py)."""
    before, after, addition = rows
    came = newest_version(addition)
    is_late = came < floor or came < newest_version(before)
    return (
        (EXISTED if exists(before, now_us) else 0)
        | (EXISTS if exists(after, now_us) else 0)
        | (LATE if is_late else 0)
        | (SAME if before == after else 0)
    )


def image_of(
    changes: str, suffix: bytes, before: bytes | None, after: bytes | None, flags: int = -1
) -> Image:
    """What of a row before and after the table's option asks for."""
    return Image(suffix, before if "old" in changes else None, after if "new" in changes else None, flags)
