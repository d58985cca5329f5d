"""Splitting scripts: statements of CQL end with semicolons, those of the shell with their lines."""

from __future__ import annotations

import io
from typing import Any

import pytest

from cli.shell.commands import LINES
from cli.shell.prompting import is_complete, lacking
from cli.shell.scripts import chunks_of, chunks_of_pipe, statements
from cql_lite.lexer import split

SCRIPT = """-- a comment; with a semicolon
CONSISTENCY ONE
SELECT *
  FROM t; help copy;
/* several
lines; */ BEGIN BATCH
  INSERT INTO t (a) VALUES ('x;
y');
APPLY BATCH;
DESCRIBE TABLES
COPY t TO 'f.csv'
  WITH HEADER = TRUE;
SELECT 1"""

EXPECTED = [
    (2, "CONSISTENCY ONE"),
    (3, "SELECT *\n  FROM t"),
    (4, "help copy"),
    (6, "BEGIN BATCH\n  INSERT INTO t (a) VALUES ('x;\ny');\nAPPLY BATCH"),
    (10, "DESCRIBE TABLES"),
    (11, "COPY t TO 'f.csv'\n  WITH HEADER = TRUE"),
    (13, "SELECT 1"),
]


@pytest.mark.parametrize("chunk_chars", [1, 20, 1000])
def test_a_file_is_read_in_any_pieces(chunk_chars: int) -> None:
    assert list(statements(chunks_of(io.StringIO(SCRIPT), chunk_chars))) == EXPECTED


def test_a_pipe_is_read_as_it_comes() -> None:
    class Slow(io.RawIOBase):
        """Some bytes at a time, across characters and lines."""

        def __init__(self, data: bytes) -> None:
            self._data = data
            self.given = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part = self._data[self.given : self.given + 3]
            buffer[: len(part)] = part
            self.given += len(part)
            return len(part)

    raw = Slow(SCRIPT.replace("x;", "강;").encode())
    found = statements(chunks_of_pipe(io.BufferedReader(raw)))
    assert next(found) == EXPECTED[0]
    assert raw.given < 60  # the first statement did not wait for the last
    assert [text for _, text in found] == [text.replace("x;", "강;") for _, text in EXPECTED[1:]]


def test_a_byte_order_mark_and_windows_lines_are_no_harm() -> None:
    script = "\ufeffCONSISTENCY ONE\r\nSELECT 1;\r\n"
    assert list(statements(chunks_of(io.StringIO(script)))) == [(1, "CONSISTENCY ONE"), (2, "SELECT 1")]


def test_commands_of_the_shell_end_with_their_line_or_a_semicolon() -> None:
    text = "HELP\nTRACING ON; SELECT 1; exit"
    assert [(piece.text, piece.ended) for piece in split(text, LINES)] == [
        ("HELP", True),
        ("TRACING ON", True),
        ("SELECT 1", True),
        ("exit", False),
    ]
    # Without the words of a shell a line end means nothing.
    assert [piece.text for piece in split("HELP\nSELECT 1")] == ["HELP\nSELECT 1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("  -- nothing", True),
        ("SELECT 1;", True),
        ("SELECT 1", False),
        ("SELECT 'a;", False),
        ("SELECT 1; SELECT 2", False),
        ("help", True),
        ("exit", True),
        ("describe tables", True),
        ("SELECT 1; exit", True),
        ("COPY t TO 'x'", False),
        ("COPY t TO 'x';", True),
        ("/* begun", False),
        ("BEGIN BATCH INSERT INTO t (a) VALUES (1);", False),
        ("?", True),
    ],
)
def test_enter_runs_what_is_complete(text: str, expected: bool) -> None:
    assert is_complete(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1", "a semicolon"),
        ("INSERT INTO t (a) VALUES ('it's');", "a closing '"),
        ('SELECT "a FROM t;', 'a closing "'),
        ("SELECT $$ a;", "a closing $$"),
        ("SELECT 1 /* b;", "the end of a comment"),
        ("BEGIN BATCH DELETE FROM t WHERE k = 1;", "APPLY BATCH;"),
        ("BEGIN BATCH DELETE FROM t WHERE k = 1; APPLY BATCH", "a semicolon"),
    ],
)
def test_what_an_incomplete_text_lacks_is_told(text: str, expected: str) -> None:
    assert not is_complete(text)
    assert lacking(text) == expected
