"""The log of a range goes where its rows go, also what no replica applies any more.

Who is given a range merges its rows, and then takes over the logs of those who had it. What was admitted at
or below the floor is not written here, since what it wrote is among the rows already, or dead and purged. A
reader of changes from their beginning wants it all the same: it is logged under its id as one that changes
nothing, with the row as it is, so that the last image of a row stays what the row is. What of it has run out
is judged as of all that this log has told, not of when the mutation was admitted (lsm/expiring.py): else a
row that was told to be gone would be there again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.cell import NO_VERSION
from core.commands import Applied, Outcome
from core.mutation import Mutation
from core.row import EMPTY_ROW, OPERATION_SUFFIX, covered, encode_row, normal
from lsm import keys
from lsm.images import flags_of, image_of
from lsm.log import SUPERSEDED, ChangeLog
from lsm.reading import stored_header, stored_row

if TYPE_CHECKING:
    from lsm.expiring import Expiring
    from lsm.writing import Info


def log_moved(
    expiring: Expiring, log: ChangeLog, mutation: Mutation, data: bytes, *, where: tuple[Info, bytes]
) -> tuple[Outcome, int]:
    """Log a mutation (its bytes are `data`) that moved here; its rows stay. `where` are what is known of its
    table and the prefix of its partition.
    """
    info, prefix = where
    engine = expiring.engine
    images = []
    puts: list[tuple[bytes, bytes | None]] = []
    header = None
    if info.has_clustering:
        found = engine.get(prefix + keys.HEADER_SUFFIX)
        header = None if found is None else stored_header(prefix + keys.HEADER_SUFFIX, found)
    for suffix, addition in mutation.rows if info.changes != "none" else ():
        if suffix[:1] == OPERATION_SUFFIX:
            continue
        held = engine.get(prefix + suffix)
        row = EMPTY_ROW if held is None else stored_row(prefix + suffix, held)
        floor = NO_VERSION if header is None else covered(header, suffix)
        if floor != NO_VERSION:
            row = normal(row.deletion, row.cells, floor)
            held = None if row == EMPTY_ROW else encode_row(row)
        stored = prefix + suffix, row, held
        now_us = expiring.before_write(puts, stored, info.changes, mutation.admitted_us)
        flags = flags_of((row, row, addition), floor, now_us)
        images.append(image_of(info.changes, suffix, held, held, flags))
    log.stage(puts, SUPERSEDED, mutation, data, images, id_key=keys.mutation_id_key(mutation.id))
    try:
        sequence = engine.write(puts)
    except BaseException:
        log.abort()
        raise
    log.commit()
    return Applied(None, fresh=True), sequence
