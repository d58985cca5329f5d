"""Where results go: standard output, or the file of CAPTURE; and what is said beside them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import IO

from cli.shell.errors import UsageError

_RED, _DIM, _RESET = "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Output:
    """Lines out. Results can be captured in a file, remarks and errors go to the terminal always."""

    def __init__(self, *, colour: bool | None = None, remarks: bool = True) -> None:
        """`remarks` are for people: how long it took, how many rows."""
        terminal = sys.stdout.isatty()
        self.colour_wanted = terminal and "NO_COLOR" not in os.environ if colour is None else colour
        self.terminal = terminal
        self.remarks = remarks
        self.capturing: Path | None = None
        self._file: IO[str] | None = None

    @property
    def colour(self) -> bool:
        """Whether results are coloured: never in a file."""
        return self.colour_wanted and self._file is None

    @property
    def width(self) -> int:
        """The terminal's width, 0 if results go elsewhere."""
        if not self.terminal or self._file is not None:
            return 0
        return shutil.get_terminal_size().columns

    def line(self, text: str) -> None:
        """A line of a result."""
        print(text, file=self._file if self._file is not None else sys.stdout)

    def remark(self, text: str) -> None:
        """What a person may like to know about a result; it follows it."""
        if self.remarks:
            if self._file is None:
                print(f"{_DIM}{text}{_RESET}" if self.colour_wanted else text)
            else:
                print(text, file=self._file)

    def say(self, text: str) -> None:
        """Something about the shell itself."""
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)

    def error(self, lines: list[str]) -> None:
        """What went wrong."""
        sys.stdout.flush()
        red = self.colour_wanted and sys.stderr.isatty()
        for index, line in enumerate(lines):
            print(f"{_RED}{line}{_RESET}" if red and not index else line, file=sys.stderr)
        sys.stderr.flush()

    def flush(self) -> None:
        """Have what was written be seen."""
        (self._file if self._file is not None else sys.stdout).flush()

    def capture(self, path: Path) -> None:
        """Results go to the end of this file from now on."""
        if self._file is not None:
            raise UsageError(f"results go to {self.capturing} already", "CAPTURE OFF first")
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from None
        self.capturing = path

    def release(self) -> None:
        """Results go to standard output again."""
        file, self._file, self.capturing = self._file, None, None
        if file is not None:
            file.close()
