"""Slow work beside the event loop: how a job is done, for server/ and sim/ alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.commands import Failed, Why
from core.errors import CorruptionError, DiskFullError, StoreError


def result_of(job: Callable[[], Any]) -> Any:
    """What a job returns; Failed for a fault of the disk that it raises."""
    try:
        return job()
    except DiskFullError as error:
        return Failed(Why.DISK_FULL, str(error))
    except CorruptionError as error:
        return Failed(Why.CORRUPT, str(error))
    except StoreError as error:
        return Failed(Why.STALLED, str(error))
