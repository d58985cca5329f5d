"""What the log changed, as it is now: for indexes that follow this peer's log.

A follower does not need what each entry did. It needs to know which rows are no longer what it has, and what
they are now: a row that changed ten times is read once, and reading more than the entries say does no harm.
Headers of partitions are not rows: tables that have them are not followed this way.
"""

from __future__ import annotations

from core.commands import ChangedRows, LogRows
from core.mutation import decode_touched
from core.ports import Engine
from lsm import keys
from lsm.commit import Unsynced
from lsm.log import EVENT, REPAIRED, ChangeLog, LogEntry


def changed_rows(
    engine: Engine, log: ChangeLog, unsynced: Unsynced, wanted: LogRows
) -> tuple[ChangedRows, int]:
    """The rows, each once, and on which sequence number of the engine they depend.

    The log is taken to end where it is durable, if that is known: so one waits for a sync only of what was
    written again since. Raises CorruptionError for damaged entries.
    """
    end = log.end if log.durable is None else log.durable
    after_of = dict(wanted.tables)
    rows: dict[bytes, bytes | None] = {}
    size, last = 0, max(wanted.after, log.first - 1)
    begun = last
    for table, key in log.touched(last, max(0, min(wanted.entries_max, end - last))):
        if size >= wanted.bytes_max:
            break
        last += 1
        after = after_of.get(table)
        if key and after is not None and last > after and key not in rows:
            data = rows[key] = engine.get(key)
            size += len(key) + len(data or b"")
    left = wanted.entries_max - (last - begun)
    records = log.records(last, left) if last < end and left else iter(())
    for offset, entry, record in records:  # most who ask are told that there is nothing new
        if size >= wanted.bytes_max or offset > end:
            break
        last = offset
        after = after_of.get(entry.table)
        if after is None or offset <= after:
            continue
        for key in _touched(log, offset, entry, record):
            if key not in rows:
                data = rows[key] = engine.get(key)
                size += len(key) + len(data or b"")
    found = ChangedRows(tuple(rows.items()), last, log.first, end)
    if log.durable is None:
        return found, engine.written()
    return found, max(map(unsynced.newest, rows), default=0)


def _touched(log: ChangeLog, offset: int, entry: LogEntry, record: bytes) -> list[bytes]:
    if entry.kind == EVENT:
        data = log.body(offset, record)
        if data is None:
            return []
        mutation = decode_touched(data)
        prefix = keys.partition_prefix(mutation.table, mutation.token, mutation.partition)
        return [prefix + suffix for suffix, _ in mutation.rows]
    repaired = log.repaired(offset) if entry.kind == REPAIRED else None
    return [] if repaired is None else [repaired[0]]
