"""What is wrong with commands whose bytes decoded: they may come from a damaged peer, or a newer one.

Each check gives the reason in words, or "" if there is nothing wrong.
"""

from __future__ import annotations

from typing import Final

import msgspec

from core.commands import Slice
from core.mutation import Mutation, decode_mutation
from core.row import OPERATION_SUFFIX
from lsm import keys

ROW_SUFFIXES: Final = (keys.STATIC_SUFFIX, keys.ROW_SUFFIX, OPERATION_SUFFIX)


def mutation_fault(mutation: Mutation) -> str:
    """Why a mutation that decoded cannot be stored all the same; "" if it can."""
    if not (0 <= mutation.start < 2**64 and 0 <= mutation.sequence < 2**64 and 0 <= mutation.attempt < 2**16):
        return "mutation id out of range"
    if not 0 <= mutation.table < 2**32:
        return "table id out of range"
    least, most = keys.TOKEN_MIN, keys.TOKEN_MAX
    if not (least <= mutation.token <= most and least <= mutation.admitted_us <= most):
        return "token or time out of range"
    rows = mutation.rows
    for suffix, _ in rows:
        if not suffix.startswith(ROW_SUFFIXES):
            return "not the key suffix of a row"
    if len(rows) > 1 and len({suffix for suffix, _ in rows}) < len(rows):
        return "one row twice"
    return ""


def proposal_fault(proposal: bytes, has_clustering: bool) -> str:
    """Why this could never be committed, were it decided, nor anything after it; "" if it can."""
    try:
        mutation = decode_mutation(proposal)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"proposal does not decode: {error}"
    if mutation.header is not None and not has_clustering:
        return "a partition header for a table without clustering columns"
    return mutation_fault(mutation)


def partition_fault(table: int, partition: bytes) -> str:
    """Why this is not the key prefix of a partition of this table; "" if it is."""
    if not 0 <= table < 2**32 or not partition.startswith(keys.table_prefix(table)):
        return "the partition lies in another table"
    try:
        return "" if keys.prefix_end(partition) == len(partition) else "not a partition prefix"
    except ValueError as error:
        return str(error)


def slice_fault(wanted: Slice) -> str:
    """Why this is not a slice of rows of its table; "" if it is."""
    if not 0 <= wanted.table < 2**32:
        return "table id out of range"
    prefix = wanted.partition or keys.table_prefix(wanted.table)
    if not prefix.startswith(keys.table_prefix(wanted.table)):
        return "the partition lies in another table"
    try:
        if wanted.partition and keys.prefix_end(wanted.partition) != len(wanted.partition):
            return "not a partition prefix"
        if wanted.point:
            suffix = keys.split_row_key(wanted.first)[3]
            return "" if suffix and wanted.first.startswith(prefix) else "not a row of it"
    except ValueError as error:
        return str(error)
    if not wanted.first.startswith(prefix) or wanted.end > keys.successor(prefix):
        return "the slice reaches beyond its table or partition"
    return "" if wanted.rows_max > 0 else "no rows asked for"
