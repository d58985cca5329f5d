"""What may come next: a pure function of the text before and after the cursor, the schema, the keyspace.

Not a grammar: the words just before the cursor say what kind of thing follows (a keyspace, a table, a column
of the table that the statement names, a type, a level), and where nothing is known, the keywords of that
statement. Keywords come in the case in which one types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cli.shell.commands import COMMANDS, LINES
from cli.shell.formatting import FORMATS
from cli.shell.helping import TOPICS
from cli.shell.schema import Column, Schema, Table
from cli.shell.words import DESCRIBED, KEYWORDS, STATEMENTS
from core.consistency import Level
from cql_lite import lexer, types
from cql_lite.formatting import identifier
from cql_lite.lexer import Lexemes, split, unquoted

KEYWORD, COMMAND, KEYSPACE, TABLE, COLUMN, TYPE, FUNCTION, VALUE, FILE = (
    "keyword", "command", "keyspace", "table", "column", "type", "function", "value", "file",
)  # fmt: skip
CANDIDATES_MAX: Final = 500


class Candidate(NamedTuple):
    """A completion: it replaces the last `back` characters before the cursor."""

    text: str
    kind: str
    back: int


_ARGUMENTS: Final[dict[str, Sequence[str]]] = {
    "CONSISTENCY": tuple(level.name for level in Level),
    "SERIAL": ("CONSISTENCY", "SERIAL", "LOCAL_SERIAL"),
    "TRACING": ("ON", "OFF"),
    "EXPAND": ("ON", "OFF", "AUTO"),
    "PAGING": ("ON", "OFF"),
    "FORMAT": FORMATS,
    "SHOW": ("VERSION", "HOST", "SESSION"),
    "HELP": tuple(TOPICS),
    "?": tuple(TOPICS),
}
COPY_OPTIONS: Final = (
    "HEADER", "DELIMITER", "QUOTE", "ESCAPE", "NULL", "FORMAT", "PAGESIZE", "MAXROWS", "SKIPROWS", "SKIPCOLS",
    "MAXERRORS", "ERRFILE", "TTL", "IN_FLIGHT", "RESUME", "BOOLSTYLE", "DATETIMEFORMAT", "DECIMALSEP",
    "THOUSANDSSEP", "BEGINTOKEN", "ENDTOKEN",
)  # fmt: skip
FUNCTIONS: Final = (
    "count", "min", "max", "sum", "avg", "token", "ttl", "writetime", "cast", "now", "uuid", "toDate",
    "toTimestamp", "toUnixTimestamp", "minTimeuuid", "maxTimeuuid", "currentTimestamp", "currentDate",
    "currentTime", "currentTimeUUID", "toJson", "fromJson", "blobAsText", "textAsBlob",
)  # fmt: skip
_TABLE_OPTIONS: Final = (
    "CLUSTERING ORDER BY", "comment", "default_time_to_live", "gc_grace_seconds", "compaction", "compression",
    "caching", "speculative_retry",
)  # fmt: skip
_PARAMETRIC: Final = ("list<", "set<", "map<", "tuple<", "frozen<", "vector<")
_NAMING: Final = frozenset(["FROM", "INTO", "UPDATE", "TABLE", "ON", "TRUNCATE", "COPY"])
"""Words after which a table is named."""
_WORD: Final = re.compile(r'(?:("(?:[^"]|"")*"|\w+)\.)?("?\w*)$')
_OPEN_FILE: Final = re.compile(r"(?is)^\s*(?:SOURCE|CAPTURE|COPY\s.*?\b(?:FROM|TO))\s+'([^']*)$")
_OPEN_CLASS: Final = re.compile(r"(?i)\{\s*'class'\s*:\s*'(\w*)$")
_STRATEGIES: Final = ("NetworkTopologyStrategy", "SimpleStrategy")


def complete(before: str, after: str, schema: Schema, keyspace: str) -> list[Candidate]:
    """What may stand at the cursor, best first."""
    pieces = split(before, LINES)
    statement = before[pieces[-1].start :] if pieces and not pieces[-1].ended else ""
    if pieces and pieces[-1].ended and before[-1:] not in (";", "\n", " "):
        statement = before[pieces[-1].start :]
    file = _OPEN_FILE.match(statement)
    if file:
        return _files(file[1])
    strategy = _OPEN_CLASS.search(statement)
    if strategy:
        typed = strategy[1].lower()
        fitting = [name for name in _STRATEGIES if name.lower().startswith(typed)]
        return [Candidate(name, VALUE, len(typed)) for name in fitting]
    match = _WORD.search(statement)
    qualifier, typed = (match[1] or "", match[2]) if match else ("", "")
    head = statement[: match.start()] if match else statement
    lexemes = Lexemes(head)
    if lexer.BAD in lexemes.kinds:
        return []  # within a text
    context = _Context(lexemes, Lexemes(after), schema, keyspace, _bare(qualifier))
    found = context.candidates()
    wanted = typed.lower().lstrip('"')
    lower = typed.islower()
    chosen: dict[str, Candidate] = {}
    for text, kind in found:
        if text.lower().lstrip('"').startswith(wanted) and text != typed:
            shown = text.lower() if kind in (KEYWORD, COMMAND) and lower else text
            chosen.setdefault(shown, Candidate(shown, kind, len(typed)))
    return list(chosen.values())[:CANDIDATES_MAX]


def _bare(name: str) -> str:
    return unquoted(name) if name.startswith('"') else name.lower()


Found = Iterable[tuple[str, str]]


def _as(kind: str, texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(text, kind) for text in texts]


class _Context:
    """The words before the cursor, without the one being typed."""

    def __init__(
        self, before: Lexemes, after: Lexemes, schema: Schema, keyspace: str, qualifier: str
    ) -> None:
        self._ups = before.ups[:-1]
        self._before = before
        self._after = after
        self._schema = schema
        self._keyspace = keyspace
        self._qualifier = qualifier
        self._first = self._ups[0] if self._ups else ""
        self._last = self._ups[-1] if self._ups else ""

    def candidates(self) -> list[tuple[str, str]]:
        """All that may come, best first."""
        if self._qualifier:
            return self._qualified()
        if not self._ups:
            return _as(KEYWORD, STATEMENTS) + _as(COMMAND, (name for name in COMMANDS if name != "?"))
        if self._first in _ARGUMENTS:
            return _as(COMMAND, _ARGUMENTS[self._first])
        if self._first in ("DESCRIBE", "DESC"):
            return self._described()
        if self._last == "USE" or (self._last == "KEYSPACE" and self._first != "CREATE"):
            return self._keyspaces()
        if self._first == "COPY" and "WITH" in self._ups:
            return _as(KEYWORD, COPY_OPTIONS if self._last in ("WITH", "AND") else ("AND", "TRUE", "FALSE"))
        if self._wants_table():
            return self._tables()
        if self._wants_type():
            return self._types()
        return self._in_statement()

    # --- names

    def _keyspaces(self) -> list[tuple[str, str]]:
        return _as(KEYSPACE, (identifier(name) for name in self._schema.keyspaces))

    def _tables(self) -> list[tuple[str, str]]:
        own = self._schema.keyspaces.get(self._keyspace)
        tables = _as(TABLE, (identifier(name) for name in own.tables)) if own is not None else []
        return tables + _as(KEYSPACE, (f"{identifier(name)}." for name in self._schema.keyspaces))

    def _types(self) -> list[tuple[str, str]]:
        own = self._schema.keyspaces.get(self._keyspace)
        udts = [identifier(name) for name in own.types] if own is not None else []
        return _as(TYPE, [*types.SCALARS, *_PARAMETRIC, *udts])

    def _qualified(self) -> list[tuple[str, str]]:
        """After `keyspace.`."""
        owner = self._schema.keyspaces.get(self._qualifier)
        if owner is None:
            return []
        names = _as(TABLE, map(identifier, owner.tables)) + _as(TYPE, map(identifier, owner.types))
        return names + _as(FUNCTION, map(identifier, owner.functions))

    def _described(self) -> list[tuple[str, str]]:
        if self._last == "KEYSPACE":
            return self._keyspaces()
        if self._last == "TABLE":
            return self._tables()
        own = self._schema.keyspaces.get(self._keyspace)
        if self._last == "TYPE":
            return _as(TYPE, map(identifier, own.types)) if own is not None else []
        if self._last == "INDEX":
            return _as(VALUE, map(identifier, own.indexes)) if own is not None else []
        if len(self._ups) > 1:
            return []
        return _as(KEYWORD, DESCRIBED) + self._tables()

    # --- where we are

    def _wants_table(self) -> bool:
        if self._last == "EXISTS" and self._first in ("DROP", "ALTER"):
            return "TABLE" in self._ups
        if self._last not in _NAMING or (self._last == "TABLE" and self._first == "CREATE"):
            return False
        return self._last != "UPDATE" or len(self._ups) == 1 or self._first == "BEGIN"

    def _wants_type(self) -> bool:
        """After a new column's name, and within angle brackets."""
        ups, kinds = self._ups, self._before.kinds
        if self._last == "<" or (self._last == "," and _open(ups, "<", ">")):
            return True
        defines = ups[:2] in (["CREATE", "TABLE"], ["CREATE", "TYPE"]) and _open(ups, "(", ")")
        adds = self._first == "ALTER" and "ADD" in ups
        named = len(ups) > 1 and kinds[len(ups) - 1] in (lexer.WORD, lexer.QUOTED)
        return named and (defines or adds) and ups[-2] in ("(", ",", "ADD") and self._last != "PRIMARY"

    def _table(self) -> Table | None:
        """The table that the statement names, wherever it does."""
        for lexemes in (self._before, self._after):
            for index, up in enumerate(lexemes.ups):
                if up in _NAMING:
                    found = self._named(lexemes, index + 1)
                    if found is not None:
                        return found
        return None

    def _named(self, lexemes: Lexemes, index: int) -> Table | None:
        texts = lexemes.texts[index : index + 3]
        if len(texts) == 3 and texts[1] == ".":
            return self._schema.table(_bare(texts[0]), _bare(texts[2]))
        return self._schema.table(self._keyspace, _bare(texts[0])) if texts and texts[0] else None

    def _fitting(self, table: Table) -> Sequence[Column]:
        """The columns that may stand here: keys are not set or dropped, and nothing is inserted twice."""
        ups, columns = self._ups, table.columns
        sets = self._first == "UPDATE" and "SET" in ups and "WHERE" not in ups
        if sets or (self._first == "ALTER" and "DROP" in ups):
            return [column for column in columns if column not in table.key]
        if self._first == "SELECT" and "ORDER" in ups:
            return [column for column in columns if column.kind == "clustering" or "vector<" in column.type]
        if self._first == "INSERT" and "VALUES" not in ups and "(" in ups:
            begun = ups.index("(")
            named = [_bare(text) for text in self._before.texts[begun:] if text]
            return [column for column in columns if column.name not in named]
        return columns

    def _in_statement(self) -> list[tuple[str, str]]:
        keywords = _as(KEYWORD, KEYWORDS.get(self._first, "").split())
        if self._first == "CREATE" and self._last == "WITH":
            options = ("replication", "durable_writes") if "KEYSPACE" in self._ups else _TABLE_OPTIONS
            return _as(KEYWORD, options)
        table = self._table()
        columns = _as(COLUMN, (identifier(column.name) for column in self._fitting(table))) if table else []
        functions = []
        if self._first in ("SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN"):
            functions = _as(FUNCTION, (f"{name}(" for name in FUNCTIONS))
        if self._last in _OPERATORS:
            return columns + functions + keywords
        return keywords + columns + functions


_OPERATORS: Final = frozenset(
    [
        "SELECT",
        "WHERE",
        "AND",
        "SET",
        "IF",
        "BY",
        ",",
        "(",
        "DELETE",
        "DISTINCT",
        "JSON",
        "DROP",
        "RENAME",
        "+",
        "-",
    ]
)
"""After these a column is likelier than a keyword."""


def _open(ups: Sequence[str], opening: str, closing: str) -> bool:
    return ups.count(opening) > ups.count(closing)


def _files(typed: str) -> list[Candidate]:
    """Files whose name begins so."""
    try:
        path = Path(typed).expanduser()
        folder, prefix = (path, "") if typed.endswith("/") or not typed else (path.parent, path.name)
        entries = sorted(folder.iterdir())
    except (OSError, RuntimeError, ValueError):
        return []  # ~nobody, and what no file is called
    return [
        Candidate(entry.name + ("/" if entry.is_dir() else ""), FILE, len(prefix))
        for entry in entries
        if entry.name.startswith(prefix) and (prefix or not entry.name.startswith("."))
    ][:CANDIDATES_MAX]
