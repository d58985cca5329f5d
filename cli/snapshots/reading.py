"""A snapshot's peers, opened side by side: the schema they agreed on, and their rows merged.

Each peer's database is put together in a scratch directory from the folder's files: table files as links
where that is possible, the few small files that RocksDB writes to as copies. Replicas may differ by what was
on its way when the snapshot was taken; merging their rows, as reading does, leaves what any of them held.

For a moment between two snapshots the earlier one's rows are taken, and of the change logs of the later one
the mutations up to that moment (`mutations`): cells of rows and cells of mutations merge alike.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import msgspec

from cli.output import Failure
from cli.snapshots.folder import Folder
from core.errors import StoreError
from core.metadata import Epoch
from core.mutation import Mutation, decode_mutation
from core.row import (
    OPERATION_SUFFIX,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
    merge_headers,
    merge_rows,
)
from lsm import keys
from lsm.log import REPAIRED, ChangeLog
from lsm.rocks import DATABASE, DURABLE, RocksEngine
from node.metadata_log import EPOCH_PREFIX
from node.metadata_state import State, apply
from server.snapshots.taking import IMMUTABLE, Manifest

ENTRIES: Final = 1_000
Record = tuple[bytes, bytes]


class Opened:
    """The databases of a snapshot's peers. Close it."""

    def __init__(self, folder: Folder, manifests: Sequence[Manifest], scratch: Path) -> None:
        """`scratch` is an empty directory; raises Failure for what cannot be opened."""
        self.engines: dict[str, RocksEngine] = {}
        try:
            for manifest in manifests:
                path = scratch / manifest.about.peer_id
                self.engines[manifest.about.peer_id] = _open(folder, manifest, path)
        except BaseException:
            self.close()
            raise
        self.state = max(
            (_state_of(engine) for engine in self.engines.values()), key=lambda state: state.epoch
        )

    def close(self) -> None:
        """Close all."""
        for engine in self.engines.values():
            engine.close()

    def rows(self, table: int) -> Iterator[Record]:
        """(key, value) of all rows and headers of a table in key order, merged; without operation ids."""
        prefix = keys.table_prefix(table)
        scans = [engine.scan(prefix, keys.successor(prefix)) for engine in self.engines.values()]
        try:
            for key, group in groupby(heapq.merge(*scans), key=itemgetter(0)):
                suffix = key[keys.prefix_end(key) :]
                if not suffix.startswith(OPERATION_SUFFIX):
                    yield key, _merged(suffix, {value: True for _, value in group})
        except (StoreError, ValueError, msgspec.DecodeError) as error:
            raise Failure(f"the snapshot cannot be read: {error}", code="damaged") from error

    def logs(self) -> dict[str, ChangeLog]:
        """The change log of each peer, by the peer's id."""
        return {peer: ChangeLog(engine) for peer, engine in self.engines.items()}


def mutations(log: ChangeLog, after: int, until_us: int) -> Iterator[Mutation]:
    """The mutations above an offset that were admitted up to a moment, in the log's order."""
    while True:
        page = log.entries(after, ENTRIES)
        if not page:
            return
        wanted = [offset for offset, entry in page if entry.kind < REPAIRED and entry.admitted_us <= until_us]
        while wanted:
            found = log.mutations(wanted, 1 << 20)
            yield from (decode_mutation(data) for _, data in found)
            wanted = [offset for offset in wanted if found and offset > found[-1][0]]
        after = page[-1][0]


def _open(folder: Folder, manifest: Manifest, path: Path) -> RocksEngine:
    database = path / DATABASE
    database.mkdir(parents=True)
    for file in manifest.files:
        try:
            folder.bring(file.hash, database / file.name, linked=file.name.endswith(IMMUTABLE))
        except FileNotFoundError:
            text = f"{file.hash} is missing in {folder.place} ({file.name} of {manifest.about.peer})"
            raise Failure(text, code="damaged") from None
    (path / DURABLE).touch()
    try:
        return RocksEngine.open(path, lambda: time.monotonic_ns() // 1000, compact=False)
    except (StoreError, OSError) as error:
        text = f"the part of {manifest.about.peer} cannot be opened: {error}"
        raise Failure(
            text, hint="sullae snapshot verify tells which files are damaged", code="damaged"
        ) from error


def _state_of(engine: RocksEngine) -> State:
    """What a peer's metadata log comes to."""
    state = State()
    prefix = keys.system_key(EPOCH_PREFIX)
    decoder = msgspec.msgpack.Decoder(Epoch)
    for _, value in engine.scan(prefix, keys.successor(prefix)):
        epoch = decoder.decode(value)
        if epoch.number != state.epoch + 1:
            break
        state = apply(state, epoch)
    return state


def _merged(suffix: bytes, values: dict[bytes, bool]) -> bytes:
    """What several replicas hold under one key, as one; most often they hold the same bytes."""
    found = iter(values)
    first = next(found)
    if len(values) == 1:
        return first
    if suffix == keys.HEADER_SUFFIX:
        header = decode_header(first)
        for other in found:
            header = merge_headers(header, decode_header(other))
        return encode_header(header)
    row = decode_row(first)
    for other in found:
        row = merge_rows(row, decode_row(other))
    return encode_row(row)
