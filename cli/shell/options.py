"""What `sullae shell` was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.native.client import Endpoint
from cli.native.connection import Access
from cli.shell.formatting import TABLE
from core.consistency import Level

DEFAULT_PORT = 9042
DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Options:
    """See `sullae shell --help`; `execute` and `file` are statements to run instead of a terminal's."""

    endpoints: Sequence[Endpoint]
    access: Access = field(default_factory=Access)
    keyspace: str = ""
    execute: str | None = None
    file: Path | None = None
    format: str = TABLE
    consistency: Level = Level.ONE
    page_size: int | None = None
    expand: str | None = None
    timeout_s: float = 60.0
    continue_on_error: bool = False
    colour: bool | None = None
    history: Path | None = None
