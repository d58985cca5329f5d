"""COPY table FROM | TO 'file': the statement, its options, and who does it.

    COPY [ks.]table [(column, ...)] FROM | TO 'file' | STDIN | STDOUT [WITH option = value [AND ...]]

The options are those of cqlsh as far as they make sense here; what cqlsh has the others for is done by one
process with many rows on their way. An option that is not known is an error, with the one that was perhaps
meant.
"""

from __future__ import annotations

import codecs
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli import load
from cli.output import Failure
from cli.shell import csv_text
from cli.shell.copy_styles import Styles
from cli.shell.errors import UsageError
from cql_lite import lexer
from cql_lite.lexer import Lexemes, unquoted
from ring.tokens import MAX_TOKEN, MIN_TOKEN

if TYPE_CHECKING:
    from cli.shell.schema import Column, Table
    from cli.shell.shell import Shell

CSV, TSV, NDJSON, PARQUET = "csv", "tsv", "ndjson", "parquet"
FORMATS: Final = (CSV, TSV, NDJSON, PARQUET)
_SUFFIXES: Final = {
    ".csv": CSV, ".tsv": TSV, ".ndjson": NDJSON, ".jsonl": NDJSON, ".json": NDJSON, ".parquet": PARQUET,
}  # fmt: skip
USAGE: Final = "COPY users TO 'users.csv' WITH HEADER = TRUE;"
FROM, TO = "FROM", "TO"
STDIN, STDOUT = "STDIN", "STDOUT"
_LATER: Final = {"MAXPARSEERRORS": "MAXERRORS", "MAXINSERTERRORS": "MAXERRORS", "NULLVAL": "NULL"}
"""Options of cqlsh that are spelt otherwise here."""
_TUNING: Final = frozenset(
    ["NUMPROCESSES", "CHUNKSIZE", "MINBATCHSIZE", "MAXBATCHSIZE", "INGESTRATE", "REPORTFREQUENCY", "RATEFILE"]
    + ["MAXATTEMPTS", "PREPAREDSTATEMENTS", "MAXREQUESTS", "PAGETIMEOUT"]
)
"""Options of cqlsh that say how it works, not what comes of it: taken and not needed."""


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The options; see HELP COPY."""

    format: str = ""
    header: bool = False
    dialect: csv_text.Dialect = field(default_factory=csv_text.Dialect)
    styles: Styles = field(default_factory=Styles)
    begin_token: int | None = None
    end_token: int | None = None
    page_size: int = 1_000
    rows_max: int = -1
    skip_rows: int = 0
    skip_columns: tuple[str, ...] = ()
    errors_max: int = 1_000
    rejects: str = ""
    ttl_s: int | None = None
    in_flight: int = 256
    resume: bool = True

    @property
    def identity(self) -> str:
        """What must be the same for a copy to go on."""
        return repr(
            (self.format, self.header, self.dialect, self.styles, self.begin_token, self.end_token)
        )


@dataclass(frozen=True, slots=True)
class CopyStatement:
    """COPY as it was given; `file` is a path, STDIN or STDOUT; no columns: all of them."""

    keyspace: str
    table: str
    columns: tuple[str, ...]
    direction: str
    file: str
    options: CopyOptions

    @property
    def is_pipe(self) -> bool:
        """Whether the rows come from standard input or go to standard output."""
        return self.file in (STDIN, STDOUT)


# --- reading the statement


class _Words:
    """The lexemes of a COPY, from left to right."""

    def __init__(self, text: str) -> None:
        lexemes = Lexemes(text)
        self._kinds = lexemes.kinds
        self._texts = lexemes.texts
        self._ups = lexemes.ups
        self._at = 1

    @property
    def up(self) -> str:
        return self._ups[self._at]

    @property
    def ended(self) -> bool:
        return self._kinds[self._at] == lexer.END or self.up == ";"

    def accept(self, up: str) -> bool:
        if self.up == up:
            self._at += 1
            return True
        return False

    def name(self, what: str) -> str:
        kind, text = self._kinds[self._at], self._texts[self._at]
        if kind not in (lexer.WORD, lexer.QUOTED):
            raise UsageError(f"COPY: expected {what}, but found {text or 'the end'!r}", USAGE)
        self._at += 1
        return unquoted(text) if kind == lexer.QUOTED else text.lower()

    def value(self, option: str) -> str:
        kind, text = self._kinds[self._at], self._texts[self._at]
        if text == "-":
            self._at += 1
            return "-" + self.value(option)
        if kind in (lexer.END, lexer.SYMBOL, lexer.BAD):
            raise UsageError(f"COPY: the value of {option} is missing", f"{option} = 'value'")
        self._at += 1
        return unquoted(text) if kind in (lexer.STRING, lexer.QUOTED) else text

    @property
    def is_text(self) -> bool:
        return self._kinds[self._at] in (lexer.STRING, lexer.QUOTED)


def parse_copy(text: str) -> CopyStatement:
    """The statement of a text; raises UsageError."""
    words = _Words(text)
    keyspace, table = "", words.name("a table")
    if words.accept("."):
        keyspace, table = table, words.name("a table")
    columns: list[str] = []
    if words.accept("("):
        columns.append(words.name("a column"))
        while words.accept(","):
            columns.append(words.name("a column"))
        if not words.accept(")"):
            raise UsageError("COPY: the columns end with )", USAGE)
    direction = words.up
    if direction not in (FROM, TO):
        raise UsageError("COPY: expected FROM or TO after the table and its columns", USAGE)
    words.accept(direction)
    pipe = STDIN if direction == FROM else STDOUT
    if not words.is_text and words.up != pipe:
        raise UsageError(f"COPY: expected a file name in quotes, or {pipe}", USAGE)
    file = words.value("the file") if words.is_text else pipe
    if file is pipe:
        words.accept(pipe)
    options = _options(words, file)
    if not words.ended:
        raise UsageError(f"COPY: expected WITH or the end, but found {words.up!r}", USAGE)
    return CopyStatement(keyspace, table, tuple(columns), direction, file, options)


def _options(words: _Words, file: str) -> CopyOptions:
    given: dict[str, str] = {}
    if words.accept("WITH"):
        while True:
            name = words.name("an option").upper()
            if not words.accept("="):
                raise UsageError(f"COPY: expected = after {name}", f"{name} = 'value'")
            given[name] = words.value(name)
            if not words.accept("AND"):
                break
    return options_of(given, file)


def options_of(given: dict[str, str], file: str) -> CopyOptions:
    """Options of their texts; raises UsageError for one that is not known, or whose value cannot be."""
    left = {name: value for name, value in given.items() if name not in _TUNING}
    kind = left.pop("FORMAT", "").lower() or kind_of(file)
    if kind not in FORMATS:
        raise UsageError(f"COPY: there is no format {kind}", f"there are {', '.join(FORMATS)}")
    delimiter = _char(left, "DELIMITER", "\t" if kind == TSV else ",")
    quote = _char(left, "QUOTE", '"')
    dialect = csv_text.Dialect(delimiter, quote, _char(left, "ESCAPE", quote), left.pop("NULL", ""))
    _check_encoding(left.pop("ENCODING", "utf-8"))
    options = CopyOptions(
        format=CSV if kind == TSV else kind,
        header=_flag(left, "HEADER", False),
        dialect=dialect,
        styles=_styles(left, kind),
        begin_token=_token(left, "BEGINTOKEN"),
        end_token=_token(left, "ENDTOKEN"),
        page_size=_number(left, "PAGESIZE", 1_000, least=1),
        rows_max=_number(left, "MAXROWS", -1),
        skip_rows=_number(left, "SKIPROWS", 0, least=0),
        skip_columns=tuple(part.strip() for part in left.pop("SKIPCOLS", "").split(",") if part.strip()),
        errors_max=_number(left, "MAXERRORS", 1_000),
        rejects=left.pop("ERRFILE", ""),
        ttl_s=_number(left, "TTL", 0, least=0) if "TTL" in left else None,
        in_flight=_number(left, "IN_FLIGHT", 256, least=1),
        resume=_flag(left, "RESUME", True),
    )
    _check_tokens(options)
    if left:
        _unknown(next(iter(left)))
    return options


def _styles(left: dict[str, str], kind: str) -> Styles:
    given = [name for name in ("BOOLSTYLE", "DATETIMEFORMAT", "DECIMALSEP", "THOUSANDSSEP") if name in left]
    if given and kind not in (CSV, TSV):
        raise UsageError(f"COPY: {given[0]} is for csv; {kind} has a form of its own for every value")
    yes, comma, no = left.pop("BOOLSTYLE", ",").partition(",")
    if (not yes.strip() or not no.strip() or yes.lower() == no.lower()) and "BOOLSTYLE" in given:
        raise UsageError(f"COPY: BOOLSTYLE is two words, not {yes}{comma}{no}", "BOOLSTYLE = 'yes,no'")
    decimal, thousands = (_mark(left, name) for name in ("DECIMALSEP", "THOUSANDSSEP"))
    if thousands and thousands == (decimal or "."):
        raise UsageError(
            f"COPY: {thousands} cannot end the whole part of a number and group its digits, too",
            "DECIMALSEP = ',' AND THOUSANDSSEP = '.'",
        )
    return Styles(yes.strip(), no.strip(), left.pop("DATETIMEFORMAT", ""), decimal, thousands)


def _mark(left: dict[str, str], name: str) -> str:
    value = left.pop(name, "")
    if len(value) > 1 or value.isalnum() or value in ("+", "-"):
        raise UsageError(f"COPY: {name} is one character that is no part of a number, not {value!r}")
    return value


def _token(left: dict[str, str], name: str) -> int | None:
    text = left.pop(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[+-]?\d{1,19}", text) or not MIN_TOKEN <= int(text) <= MAX_TOKEN:
        raise UsageError(f"COPY: {name} is a token, a whole number of 64 bits, not {text}")
    return int(text)


def _check_tokens(options: CopyOptions) -> None:
    begin = MIN_TOKEN if options.begin_token is None else options.begin_token
    end = MAX_TOKEN if options.end_token is None else options.end_token
    if begin >= end:
        raise UsageError("COPY: BEGINTOKEN is not before ENDTOKEN: no token is between them")


def _check_encoding(name: str) -> None:
    try:
        known = codecs.lookup(name).name
    except LookupError:
        known = name
    if known not in ("utf-8", "utf-8-sig", "ascii"):
        raise UsageError(f"COPY: files are UTF-8, not {name}", f"iconv -f {name} -t UTF-8 turns one into it")


def _unknown(name: str) -> None:
    from cli.shell.completion import COPY_OPTIONS

    close = difflib.get_close_matches(name, COPY_OPTIONS, 1)
    meant = _LATER.get(name) or (close[0] if close else "")
    hint = f"did you mean {meant}?" if meant else f"there are {', '.join(COPY_OPTIONS)}"
    raise UsageError(f"COPY: there is no option {name}", hint)


def kind_of(file: str) -> str:
    """The format that a name says."""
    suffixes = [suffix.lower() for suffix in Path(file).suffixes if suffix.lower() != ".gz"]
    return _SUFFIXES.get(suffixes[-1], CSV) if suffixes else CSV


def _char(left: dict[str, str], name: str, default: str) -> str:
    value = left.pop(name, default)
    value = {"\\t": "\t", "tab": "\t"}.get(value.lower(), value)
    if len(value) != 1:
        raise UsageError(f"COPY: {name} is one character, not {value!r}")
    return value


def _flag(left: dict[str, str], name: str, default: bool) -> bool:
    value = left.pop(name, str(default)).lower()
    if value not in ("true", "false"):
        raise UsageError(f"COPY: {name} is TRUE or FALSE, not {value}")
    return value == "true"


def _number(left: dict[str, str], name: str, default: int, *, least: int = -1) -> int:
    text = left.pop(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise UsageError(f"COPY: {name} is a whole number from {least}, not {text}")
    return value


# --- doing it


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """A COPY whose table and columns are known."""

    statement: CopyStatement
    table: Table
    columns: tuple[Column, ...]


async def copy(shell: Shell, text: str) -> None:
    """Run a COPY; raises UsageError and what requests raise."""
    statement = parse_copy(text)
    plan = await _planned(shell, statement)
    if statement.direction == TO:
        from cli.shell.copy_to import copy_to

        await copy_to(shell, plan)
    else:
        from cli.shell.copy_from import copy_from

        await copy_from(shell, plan)


async def _planned(shell: Shell, statement: CopyStatement) -> CopyPlan:
    keyspace = statement.keyspace or shell.client.keyspace
    if not keyspace:
        raise UsageError("COPY: no keyspace is in use", "USE one, or write keyspace.table")
    shell.schema_changed = True
    schema = await shell.refresh()
    table = schema.table(keyspace, statement.table)
    if table is None:
        owner = schema.keyspaces.get(keyspace)
        close = difflib.get_close_matches(statement.table, owner.tables if owner is not None else (), 1)
        hint = f"did you mean {close[0]}?" if close else "DESCRIBE TABLES; lists them"
        raise UsageError(f"COPY: there is no table {keyspace}.{statement.table}", hint)
    names = statement.columns or tuple(column.name for column in table.columns)
    columns = []
    for name in names:
        column = table.column(name)
        if column is None:
            known = ", ".join(one.name for one in table.columns)
            raise UsageError(f"COPY: {keyspace}.{table.name} has no column {name}", f"there are {known}")
        columns.append(column)
    return CopyPlan(statement, table, tuple(columns))


def note(path: Path, state: dict[str, Any]) -> None:
    """Note how far a copy is; raises UsageError where that cannot be written."""
    try:
        load.write_state(path, state)
    except Failure as failure:
        hint = "a copy notes beside its file how far it is; WITH RESUME = FALSE it does not"
        raise UsageError(f"COPY: {failure.text}", hint) from None
