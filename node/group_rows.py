"""Reading the rows of a member's parts, for a group that begins with a snapshot.

As long as the rows of some of its parts are not all given out, a member gets rows and nothing else: part
after part, the one with the lowest tokens first, at QUORUM, a page for each credit. A page can be
acknowledged like events: the cursor of a part says up to which row it was read, and a page stands for all
parts below its own, too. So whoever takes a part over goes on in the middle of it. A page that cannot be read
now is asked for again, for ever: the member lives meanwhile.

When the last row is given out, the stream goes on with events from where the logs stood when the group was
made, before any row was read: what happened to rows meanwhile comes as events, some of which the rows show
already, and the last image is the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from core import limits
from core.consistency import Level
from core.requests import Answer, RowsRead, ScanRequest
from core.streaming import ChangesPart
from lsm.keys import token_range_bounds
from streams.cursor import Cursor
from streams.groups import part_range

if TYPE_CHECKING:
    from node.inside import Inside
    from node.scans import Scans

PAGE_TIMEOUT_US: Final = 10 * limits.SECOND_US
AGAIN_US: Final = limits.SECOND_US // 2
ROWS_MAX: Final = 2**62


class GroupRows:
    """The rows of some parts; `standing` are the cursors of all parts that the member reads."""

    def __init__(
        self,
        scans: Scans,
        inside: Inside,
        tell: Callable[[ChangesPart], None],
        *,
        request_id: int,
        table: int,
        count: int,
        standing: dict[int, Cursor],
        fences: Mapping[int, int],
    ) -> None:
        """Nothing is read before `want`."""
        self._scans = scans
        self._inside = inside
        self._tell = tell
        self._request_id = request_id
        self._table = table
        self._count = count
        self._fences = fences
        self.standing = standing
        self._scan = 0
        self._is_wanted = False

    @property
    def left(self) -> list[int]:
        """The parts whose rows are not all given out."""
        return sorted(number for number, cursor in self.standing.items() if cursor.scanned is not None)

    def stop(self) -> None:
        """Nothing is told from now on."""
        self._scans.cancel(self._scan)
        self._scan = 0

    def want(self) -> None:
        """The client takes one page more, if none is being read."""
        if self._is_wanted:
            return
        self._is_wanted = True
        if not self._scan:
            self._begin()
        self._scans.want(self._scan, 1)

    def _begin(self) -> None:
        number = self.left[0]
        first, last = part_range(number, self._count)
        after = self.standing[number].scanned or token_range_bounds(self._table, first, last)[0]
        self._scan = scan = -self._inside.new_op()
        request = ScanRequest(self._table, after, ROWS_MAX, Level.QUORUM, last_token=last)
        deadline_us = self._inside.world.monotonic_us() + PAGE_TIMEOUT_US
        self._scans.scan(scan, request, deadline_us, partial(self._on_rows, scan, number))

    def _on_rows(self, scan: int, number: int, answer: Answer, last: bool) -> None:
        if scan != self._scan:
            return
        self._is_wanted = False
        if last:
            self._scan = 0
        if not isinstance(answer, RowsRead):
            self._inside.timer(AGAIN_US, "group_rows", self._request_id)
            return
        scanned = None if last else answer.after
        self.standing[number] = msgspec.structs.replace(self.standing[number], scanned=scanned)
        given = {part: cursor for part, cursor in self.standing.items() if part <= number}
        at = self.standing[number]
        places = tuple(sorted(place for cursor in given.values() for place in cursor.places))
        acks = tuple((part, self._fences[part]) for part in sorted(given))
        rows = tuple((item.key, item.row) for item in answer.rows)
        page = ChangesPart(self._table, at.since_us, places, whole=True, began_us=at.began_us)
        self._tell(
            msgspec.structs.replace(page, acks=acks, rows=rows, rows_us=answer.now_us, scanned=scanned)
        )
