"""How slow work is done, for server/ and sim/ alike, and what a fault of a disk is told as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.commands import Failed, Why
from core.errors import CorruptionError, DiskFullError, StoreError


def refusal(error: StoreError) -> Failed:
    """What whoever asked is told of a fault of the disk after which the store goes on."""
    if isinstance(error, DiskFullError):
        return Failed(Why.DISK_FULL, str(error))
    return Failed(Why.CORRUPT if isinstance(error, CorruptionError) else Why.STALLED, str(error))


def result_of(job: Callable[[], Any]) -> Any:
    """What a job returns; Failed for a fault of the disk that it raises."""
    try:
        return job()
    except StoreError as error:
        return refusal(error)
