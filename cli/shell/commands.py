"""The shell's own commands: CONSISTENCY, TRACING, SOURCE... Each is a function of the shell and its words.

They end with their line (COPY alone needs its semicolon, as it may be long), and are told from CQL by their
first word.
"""

from __future__ import annotations

import difflib
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.shell import tracing
from cli.shell.errors import UsageError, file_called
from cli.shell.formatting import AUTO, FORMATS, OFF, ON
from cli.shell.helping import help_text
from core.consistency import Level
from cql_lite import lexer
from cql_lite.lexer import Lexemes, unquoted

if TYPE_CHECKING:
    from cli.shell.shell import Shell

Command = Callable[["Shell", str], Awaitable[None]]
SOURCE_DEPTH_MAX: Final = 16
PAGE_ROWS_MAX: Final = 2**31 - 1
"""What the protocol can ask for."""
_OFF: Final = ("OFF", "FALSE", "NO")
_ON: Final = ("ON", "TRUE", "YES")
_SERIAL: Final = (Level.SERIAL, Level.LOCAL_SERIAL)


def words_of(text: str) -> list[str]:
    """The words of a command after its name; what is in quotes is one, without them."""
    lexemes = Lexemes(text)
    found = []
    for kind, word in zip(lexemes.kinds, lexemes.texts, strict=True):
        if kind not in (lexer.END, lexer.BAD) and word != ";":
            found.append(unquoted(word) if kind in (lexer.STRING, lexer.QUOTED) else word)
    return found[1:]


def rest_of(text: str) -> str:
    """What follows a command's name, as it was written; quotes around all of it are taken off."""
    rest = text.strip().rstrip(";").partition(" ")[2].strip()
    if len(rest) > 1 and rest[0] == rest[-1] and rest[0] in "'\"":
        return rest[1:-1].replace(rest[0] * 2, rest[0])
    return rest


def _switch(words: Sequence[str], name: str, now: bool) -> bool | None:
    """ON, OFF, or None if only the state is asked for."""
    if not words:
        return None
    word = words[0].upper()
    if len(words) > 1 or word not in (*_ON, *_OFF):
        raise UsageError(f"{name} is ON or OFF, not {' '.join(words)}", f"now it is {'ON' if now else 'OFF'}")
    return word in _ON


# --- settings


async def consistency(shell: Shell, text: str) -> None:
    """CONSISTENCY [level]."""
    words = words_of(text)
    if words:
        shell.level = _level(words[0])
    shell.output.say(f"consistency is {shell.level.name}")


def _level(word: str) -> Level:
    found = {level.name: level for level in Level}
    if word.upper() not in found:
        close = difflib.get_close_matches(word.upper(), found, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(found)}"
        raise UsageError(f"there is no consistency level {word}", hint)
    return found[word.upper()]


async def serial(shell: Shell, text: str) -> None:
    """SERIAL CONSISTENCY [SERIAL | LOCAL_SERIAL]."""
    words = words_of(text)
    if not words or words[0].upper() != "CONSISTENCY":
        raise UsageError("the command is SERIAL CONSISTENCY", "SERIAL CONSISTENCY LOCAL_SERIAL;")
    if len(words) > 1:
        level = _level(words[1])
        if level not in _SERIAL:
            raise UsageError(f"{level.name} is no serial level", "there are SERIAL and LOCAL_SERIAL")
        shell.serial_level = level
    shell.output.say(f"serial consistency is {shell.serial_level.name}")


async def trace(shell: Shell, text: str) -> None:
    """TRACING [ON | OFF]."""
    wanted = _switch(words_of(text), "TRACING", shell.tracing)
    if wanted is not None:
        shell.tracing = wanted
    shell.output.say(f"tracing is {'on' if shell.tracing else 'off'}")


async def expand(shell: Shell, text: str) -> None:
    """EXPAND [ON | OFF | AUTO]."""
    words = words_of(text)
    if words and words[0].upper() == "AUTO":
        shell.expand = AUTO
    else:
        wanted = _switch(words, "EXPAND", shell.expand == ON)
        if wanted is not None:
            shell.expand = ON if wanted else OFF
    meaning = {ON: "one value a line", OFF: "tables", AUTO: "tables; one value a line where too wide"}
    shell.output.say(f"expand is {shell.expand}: {meaning[shell.expand]}")


async def paging(shell: Shell, text: str) -> None:
    """PAGING [ON | OFF | rows]."""
    words = words_of(text)
    if words and re.fullmatch("[0-9]+", words[0]) and len(words) == 1:
        if not words[0].strip("0"):
            raise UsageError("a page has one row at least", "PAGING OFF; shows all at once")
        if len(words[0]) > len(str(PAGE_ROWS_MAX)) or int(words[0]) > PAGE_ROWS_MAX:
            raise UsageError(f"a page has {PAGE_ROWS_MAX:,} rows at most", "PAGING OFF; shows all at once")
        shell.page_size = int(words[0])
    else:
        wanted = _switch(words, "PAGING", shell.rows_per_page > 0)
        if wanted is not None:
            shell.page_size = None if wanted else 0
    rows = shell.rows_per_page
    shell.output.say(f"paging is on, {rows} rows a page" if rows else "paging is off")


async def result_format(shell: Shell, text: str) -> None:
    """FORMAT [table | json | ndjson | csv]."""
    words = words_of(text)
    if words:
        if words[0].lower() not in FORMATS:
            raise UsageError(f"there is no format {words[0]}", f"there are {', '.join(FORMATS)}")
        shell.format = words[0].lower()
    shell.output.say(f"format is {shell.format}")


# --- looking


async def show(shell: Shell, text: str) -> None:
    """SHOW VERSION | HOST | SESSION id."""
    words = words_of(text)
    what = words[0].upper() if words else ""
    if what == "VERSION":
        await _show_version(shell)
    elif what == "HOST":
        await _show_host(shell)
    elif what == "SESSION" and len(words) > 1:
        try:
            session = uuid.UUID("".join(words[1:]))
        except ValueError:
            raise UsageError(f"{''.join(words[1:])} is no id of a trace") from None
        await tracing.show(shell.client, session, shell.output)
    else:
        instead = {
            "TABLES": "DESCRIBE TABLES;",
            "KEYSPACES": "DESCRIBE KEYSPACES;",
            "DATABASES": "DESCRIBE KEYSPACES;",
        }
        hint = f"you may want {instead[what]}" if what in instead else ""
        raise UsageError("the command is SHOW VERSION, SHOW HOST or SHOW SESSION id", hint)


_LOCAL: Final = "SELECT cluster_name, release_version, cql_version, data_center, rack FROM system.local"


async def _show_version(shell: Shell) -> None:
    rows = await shell.client.rows(_LOCAL)
    from importlib import metadata

    connection = await shell.client.connected()
    _, release, cql, *_ = rows[0]
    shell.output.line(
        f"sullae shell {metadata.version('sullae-server')} | server as Cassandra {release} | CQL {cql} "
        f"| native protocol v{connection.version}"
    )


async def _show_host(shell: Shell) -> None:
    cluster, _, _, datacentre, rack = (await shell.client.rows(_LOCAL))[0]
    shell.output.line(f"connected to {cluster} at {shell.client.where} ({datacentre}, {rack})")


async def helping(shell: Shell, text: str) -> None:
    """HELP [topic]."""
    topic = " ".join(words_of(text))
    shell.output.line(help_text(topic))


# --- files


async def source(shell: Shell, text: str) -> None:
    """SOURCE 'file'."""
    path = _path(text, "SOURCE 'file.cql'")
    if shell.source_depth >= SOURCE_DEPTH_MAX:
        raise UsageError(f"files that SOURCE each other {SOURCE_DEPTH_MAX} deep: {path}")
    from cli.shell.scripts import run_file

    shell.source_depth += 1
    try:
        good = await run_file(shell, path)
    finally:
        shell.source_depth -= 1
    if not good:
        raise UsageError(
            f"{path}: stopped at the error above"
            if not shell.options.continue_on_error
            else f"{path}: some statements failed"
        )


def _path(text: str, usage: str) -> Path:
    rest = rest_of(text)
    if not rest:
        raise UsageError("the name of a file is missing", usage)
    return file_called(rest)


async def capture(shell: Shell, text: str) -> None:
    """CAPTURE ['file' | OFF]."""
    rest = rest_of(text)
    if not rest:
        where = shell.output.capturing
        shell.output.say(f"results go to {where}" if where else "results are not captured")
    elif rest.upper() == "OFF":
        shell.output.release()
    else:
        shell.output.capture(_path(text, "CAPTURE 'file'"))
        shell.output.say(f"results go to {shell.output.capturing}; CAPTURE OFF ends that")


async def copy(shell: Shell, text: str) -> None:
    """COPY table FROM | TO 'file'."""
    from cli.shell.copying import copy as run

    await run(shell, text)


# --- the session


async def login(shell: Shell, text: str) -> None:
    """LOGIN user [password]."""
    words = words_of(text)
    if not 1 <= len(words) <= 2:
        raise UsageError("LOGIN takes a user and perhaps a password", "LOGIN alice;")
    password = words[1] if len(words) == 2 else None
    if password is None:
        if shell.ask_password is None:
            raise UsageError("the password is missing, and there is nobody to ask", "LOGIN user 'password';")
        password = await shell.ask_password(f"Password of {words[0]}: ")
    await shell.client.log_in(words[0], password)
    shell.output.say(f"logged in as {words[0]}")


async def clear(shell: Shell, _text: str) -> None:
    """CLEAR."""
    if shell.output.terminal:
        shell.output.line("\x1b[2J\x1b[3J\x1b[H")


async def leave(_shell: Shell, _text: str) -> None:
    """EXIT or QUIT."""
    from cli.shell.shell import ExitError

    raise ExitError


COMMANDS: Final[dict[str, Command]] = {
    "CONSISTENCY": consistency,
    "SERIAL": serial,
    "TRACING": trace,
    "EXPAND": expand,
    "PAGING": paging,
    "FORMAT": result_format,
    "SHOW": show,
    "HELP": helping,
    "?": helping,
    "SOURCE": source,
    "CAPTURE": capture,
    "COPY": copy,
    "LOGIN": login,
    "CLEAR": clear,
    "CLS": clear,
    "EXIT": leave,
    "QUIT": leave,
}
LINES: Final = frozenset([*COMMANDS, "DESCRIBE", "DESC"]) - {"COPY"}
"""First words of what ends with its line."""


def command_of(text: str) -> Command | None:
    """The command that a statement is, None if it is CQL."""
    ups = Lexemes(text[:200]).ups
    return COMMANDS.get(ups[0]) if ups else None
