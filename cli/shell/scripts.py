"""Statements from files and pipes: read in pieces, so that a file of any size will do."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from cli.shell.commands import LINES
from cli.shell.errors import UsageError
from cql_lite.lexer import split

if TYPE_CHECKING:
    from cli.shell.shell import Shell

CHUNK_CHARS: Final = 64 * 1024


def chunks_of(file: IO[str], chunk_chars: int = CHUNK_CHARS) -> Iterator[str]:
    """A file in pieces of whole lines."""
    while lines := file.readlines(chunk_chars):
        yield "".join(lines)


def chunks_of_pipe(pipe: BufferedReader) -> Iterator[str]:
    """What comes by a pipe in whole lines, as it comes: who writes there may wait for an answer."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    held = ""
    while data := pipe.read1(CHUNK_CHARS):
        text, newline, held = (held + decoder.decode(data)).rpartition("\n")
        if newline:
            yield text + newline
    held += decoder.decode(b"", final=True)
    if held:
        yield held


def statements(chunks: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Each statement with the line where it begins; the last may lack its semicolon."""
    held, line = "", 1
    first = True
    for chunk in chunks:
        text = held + chunk
        if first:
            text = text.removeprefix("\ufeff")
            first = False
        pieces = split(text, LINES)
        rest = len(text)
        for piece in pieces:
            if not piece.ended:
                rest = piece.start
                break
            yield line + piece.at.line - 1, piece.text
        line += text.count("\n", 0, rest)
        held = text[rest:]
    for piece in split(held, LINES):
        yield line + piece.at.line - 1, piece.text


async def run_chunks(shell: Shell, chunks: Iterable[str], name: str) -> bool:
    """Run what a file or pipe says; whether all went well."""
    good = True
    for line, text in statements(chunks):
        if not await shell.attempt(text):
            good = False
            shell.output.say(f"  in the statement at {name}:{line}")
            if not shell.options.continue_on_error:
                break
    return good


async def run_file(shell: Shell, path: Path) -> bool:
    """Run a file; whether all went well; raises UsageError if it cannot be read."""
    try:
        if str(path) == "-":
            pipe = cast(BufferedReader, sys.stdin.buffer)
            return await run_chunks(shell, chunks_of_pipe(pipe), "standard input")
        with path.open(encoding="utf-8") as file:
            return await run_chunks(shell, chunks_of(file), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {reason}") from None
