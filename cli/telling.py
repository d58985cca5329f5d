"""What `sullae up` says: events as JSON lines, or sentences with the peers' log lines between them.

Whoever listened may be gone (a closed terminal, a pipe to `head`). That must not keep peers from being
watched and stopped in order, so what cannot be said is dropped. The logs have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

from rich.text import Text

from cli import output

COLOURS: Final = ("cyan", "magenta", "green", "blue", "yellow")
STYLES: Final = {"": "", "warning": "yellow", "error": "red", "critical": "bold red"}
SHOWN_LEVELS: Final = frozenset(["", "warning", "error", "critical"])
"""Levels shown to whoever did not ask for all; "" is a line that is not ours, such as a traceback's."""


class Telling:
    """Safe for threads: a line is one print."""

    def __init__(self, names: Sequence[str], *, as_json: bool, verbose: bool) -> None:
        """`names` are the peers, each of which gets a colour."""
        self.as_json = as_json
        self.console = output.console()
        self._verbose = verbose
        self._colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}

    def tell(self, event: str, text: str, **facts: Any) -> None:
        """Something happened: the sentence for people, with facts for programs."""
        with contextlib.suppress(OSError):
            if self.as_json:
                output.print_json({"event": event, "text": text, **facts})
            else:
                self.console.print(text)

    def add(self, text: str, style: str = "") -> None:
        """More about what was told, for people only."""
        if not self.as_json:
            with contextlib.suppress(OSError):
                self.console.print(text, style=style)

    def peers(self, rows: Sequence[Sequence[str]]) -> None:
        """The table of who listens where, for people only."""
        if not self.as_json:
            with contextlib.suppress(OSError):
                output.print_table(("peer", "REST", "pid", "log"), rows, ("pid",))

    def shows(self, level: str) -> bool:
        """Whether log lines of this level are shown."""
        return not self.as_json and (self._verbose or level in SHOWN_LEVELS)

    def line_of(self, name: str, level: str, text: str) -> None:
        """A line of a peer's log."""
        if not self.shows(level):
            return
        for line in text.splitlines():
            shown = Text(f"{name} ", style=self._colours[name])
            shown.append(f"{level} {line}".lstrip(), style=STYLES.get(level, "dim"))
            with contextlib.suppress(OSError):
                self.console.print(shown)
