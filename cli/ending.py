"""How the command line begins and ends, whatever the terminal and the locale are.

Text goes out in the terminal's own encoding; what that cannot say is escaped, as JSON escapes it, because a
listing that stops half-way for one name helps nobody, nor does JSON that is none. Arguments that the locale
could not decode are UTF-8 where they can be.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Final

from cli.output import Failure, print_failure

ESCAPED: Final = "sullae.escaped"
"""How what an encoding cannot say is written: \\uXXXX, for each unit of UTF-16."""


def run(app: Callable[[], object]) -> None:
    """Run the command and end with its exit status."""
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)
    sys.argv[1:] = [decoded(argument) for argument in sys.argv[1:]]
    try:
        app()
    except Failure as failure:
        _end(failure)
    except OSError as error:
        if error.filename is not None:
            _end(Failure(f"{error.filename}: {error.strerror or error}", code="bad_file"))
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        _close_output()
        _end(Failure(f"what was found cannot be written: {error.strerror}", code="cannot_write"))


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


def decoded(argument: str) -> str:
    """An argument as text: of bytes that the locale does not know, the UTF-8 that they are, if they are."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(argument).decode()
        except UnicodeDecodeError:
            shown = argument.encode(errors="backslashreplace").decode()
            _end(Failure(f"an argument is no text of this locale, nor UTF-8: {shown[:80]}", code="bad_text"))
    return argument


def _end(failure: Failure) -> None:
    print_failure(failure, as_json="--json" in sys.argv)
    sys.exit(failure.exit_status)


def _close_output() -> None:
    """Nothing more goes there: what is left in its buffer could not be written at exit either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
