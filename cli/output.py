"""How commands speak: tables and sentences for people, JSON for programs, one way to fail.

What a command found goes to standard output, what it has to say about its work to standard error; so output
can be piped. A command that cannot do what was asked raises `Failure`; `cli.main` prints it and ends with its
exit status. Rich is imported only where something is drawn, because importing it costs more than most
commands take.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

KIB: Final = 1024
WORST_EXIT: Final = 1
TABLE_COLUMNS_MAX: Final = 10_000
"""So wide may a table be, whatever the terminal: cut it would say less than wrapped by the terminal."""
ANSWERED_NO_EXIT: Final = 4
"""Exit status where the answer itself is no: there is no such key, a check found a problem."""


class Failure(Exception):
    """A command cannot do what was asked.

    `text` says what is wrong, `hint` what to do about it, `code` is a stable word for programs.
    """

    def __init__(
        self, text: str, *, hint: str = "", code: str = "failed", exit_status: int = WORST_EXIT
    ) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint
        self.code = code
        self.exit_status = exit_status


def print_json(value: Any) -> None:
    """One JSON document on one line of standard output."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """A sentence to the person at the terminal, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_failure(failure: Failure, *, as_json: bool) -> None:
    """Say why a command failed: JSON on standard output where JSON was asked for, else text."""
    if as_json:
        print_json({"error": {"code": failure.code, "text": failure.text, "hint": failure.hint}})
        return
    say(f"sullae: {failure.text}")
    if failure.hint:
        say(f"  {failure.hint}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A table without frames; the columns named in `right` are numbers."""
    from rich.console import ConsoleDimensions
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    made = console()
    made.size = ConsoleDimensions(TABLE_COLUMNS_MAX, 25)
    made.print(table)


def console(*, stderr: bool = False) -> Console:
    """A console that never wraps: what does not fit is for the terminal, or the pipe, to handle."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, stderr=stderr, markup=False)


def bytes_text(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < KIB:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= KIB
    return f"{count:.1f} TiB"


def duration_text(seconds: float) -> str:
    """0.0042 -> '4.2 ms', 3725 -> '1 h 2 min'."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def count_text(count: int, one: str, many: str = "") -> str:
    """'1 peer', '3,201 peers'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def own_command(*arguments: str) -> str:
    """This very command with other arguments, to be copied and pasted into a shell."""
    called = Path(sys.argv[0])
    found = shutil.which("sullae")
    if found is not None and Path(found).resolve() == called.resolve():
        name = "sullae"
    elif called.name == "sullae":
        name = str(relative(called))
    else:
        name = f"{relative(Path(sys.executable))} -m cli.main"
    return " ".join([name, *map(shlex.quote, arguments)])


def relative(path: Path) -> Path:
    """`path` as seen from the working directory, if it lies in it."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except ValueError:
        return path
