"""Colours for CQL while it is typed: which stretch of a text is what. A pure function of the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer

from cli.shell.commands import COMMANDS
from cli.shell.words import KEYWORDS
from cql_lite import types
from cql_lite.parse_base import RESERVED

_WORDS: Final = frozenset(word for words in KEYWORDS.values() for word in words.split()) | RESERVED
_TYPES: Final = frozenset(types.SCALARS) | {"list", "set", "map", "tuple", "vector", "frozen"}
_PIECE: Final = re.compile(
    r"""(?P<comment>--[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z))
      | (?P<string>'(?:[^']|'')*(?:'|\Z)|\$\$.*?(?:\$\$|\Z))
      | (?P<quoted>"(?:[^"]|"")*(?:"|\Z))
      | (?P<number>\b0[xX][0-9a-fA-F]*\b|\b[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}\b|\b\d[\w.]*)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<marks>[-+*/%=<>!(){}\[\],;.:?]+)""",
    re.VERBOSE | re.DOTALL,
)
STYLES: Final = {
    "cql.comment": "#888888 italic",
    "cql.string": "ansigreen",
    "cql.quoted": "",
    "cql.number": "ansicyan",
    "cql.keyword": "bold ansiblue",
    "cql.type": "ansimagenta",
    "cql.command": "bold ansiyellow",
    "cql.call": "ansibrightblue",
}


def spans(text: str) -> list[tuple[str, str]]:
    """The text in stretches, each with its style class ("" for none)."""
    found: list[tuple[str, str]] = []
    at, begins = 0, True
    for match in _PIECE.finditer(text):
        if match.start() > at:
            found.append(("", text[at : match.start()]))
        kind, piece = match.lastgroup or "", match[0]
        found.append((_style(kind, piece, begins, text[match.end() :]), piece))
        at = match.end()
        if kind != "comment":
            begins = piece.endswith(";")
    if at < len(text):
        found.append(("", text[at:]))
    return found


def _style(kind: str, piece: str, begins: bool, rest: str) -> str:
    if kind in ("comment", "string", "number"):
        return f"cql.{kind}"
    if kind != "word":
        return ""
    if begins and piece.upper() in COMMANDS:
        return "cql.command"
    if piece.upper() in _WORDS:
        return "cql.keyword"
    if piece.lower() in _TYPES:
        return "cql.type"
    return "cql.call" if rest.startswith("(") else ""


class CqlLexer(Lexer):
    """`spans` as prompt_toolkit wants them: line by line."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """The stretches of a line."""
        lines: list[StyleAndTextTuples] = [[]]
        for style, piece in spans(document.text):
            shown = f"class:{style}" if style else ""
            for number, part in enumerate(piece.split("\n")):
                if number:
                    lines.append([])
                lines[-1].append((shown, part))
        return lambda number: lines[number] if number < len(lines) else []
