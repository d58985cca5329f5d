"""The terminal: a prompt with completion, colours and history, and what Ctrl-C means while a statement runs.

prompt_toolkit edits; Enter runs the text if all of its statements are complete, else begins a new line. While
a statement runs, SIGINT cancels its task: the shell stops waiting, and stays. Passwords do not go into the
history.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import completion_is_selected
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output as Screen
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

from cli.native.client import NobodyError
from cli.native.connection import LostError, RefusedError
from cli.shell.commands import LINES, command_of, login
from cli.shell.completion import complete
from cli.shell.errors import UsageError
from cli.shell.highlight import STYLES, CqlLexer
from cli.shell.shell import ExitError, Shell
from cql_lite.lexer import BAD, Lexemes, split

HISTORY_FILE: Final = "shell_history"
_GONE: Final = (LostError, NobodyError, RefusedError, TimeoutError)


def is_complete(text: str) -> bool:
    """Whether Enter runs this: every statement has its end, or is a command that ends with its line."""
    pieces = split(text, LINES)
    if not pieces or pieces[-1].ended:
        return True
    last = pieces[-1].text
    return "\n" not in last and not last.startswith("/*") and _ends_with_line(last)


def _ends_with_line(text: str) -> bool:
    return Lexemes(text).ups[0] in LINES


def lacking(text: str) -> str:
    """What an incomplete text lacks, in words."""
    last = split(text, LINES)[-1].text
    lexemes = Lexemes(last)
    for kind, piece in zip(lexemes.kinds, lexemes.texts, strict=True):
        if kind == BAD and piece in ("'", '"', "$"):
            return f"a closing {piece if piece != '$' else '$$'}"
        if kind == BAD and piece.startswith("/*"):
            return "the end of a comment"
    return "APPLY BATCH;" if lexemes.ups[:1] == ["BEGIN"] and "APPLY" not in lexemes.ups else "a semicolon"


class SchemaCompleter(Completer):
    """`completion.complete` with the shell's schema."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may come at the cursor."""
        shell = self._shell
        before = document.text_before_cursor
        if complete_event.text_inserted and not before[-1:].isalnum():
            return  # not unasked: there is nothing yet to go on
        found = complete(before, document.text_after_cursor, shell.schema, shell.client.keyspace)
        for candidate in found:
            yield Completion(candidate.text, -candidate.back, display_meta=candidate.kind)


class NoSecrets(FileHistory):
    """History in a file that only its owner reads, without passwords."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        super().__init__(str(path))

    def store_string(self, string: str) -> None:
        """Keep an entry for the next time."""
        if command_of(string) is not login and "password" not in string.lower():
            with contextlib.suppress(OSError):  # a full disk
                super().store_string(string)


def history_of(path: Path | None) -> History:
    """The history, in memory where no file can be had."""
    try:
        if path is None:
            state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
            path = Path(state).expanduser() / "sullae" / HISTORY_FILE
        return NoSecrets(path)
    except (OSError, RuntimeError):  # a user without a home, as in a container
        return InMemoryHistory()


def _bindings() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        at_end = not buffer.document.text_after_cursor.strip()
        if is_complete(buffer.text) and at_end:
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("enter", filter=completion_is_selected)
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.complete_state = None  # it is taken; the next Enter runs the statement

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class Prompt:
    """The prompt of one shell."""

    def __init__(self, shell: Shell, input: Input | None = None, output: Screen | None = None) -> None:  # noqa: A002 - as prompt_toolkit calls it
        self._shell = shell
        colour = shell.output.colour_wanted
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            history=history_of(shell.options.history),
            completer=SchemaCompleter(shell),
            complete_in_thread=False,
            complete_while_typing=True,
            lexer=CqlLexer() if colour else None,
            style=Style.from_dict({**STYLES, "prompt": "bold", "bottom-toolbar": "noreverse #888888"}),
            bottom_toolbar=self._toolbar if colour else None,
            include_default_pygments_style=False,
            key_bindings=_bindings(),
            prompt_continuation=lambda width, _number, _wrapped: " " * (width - 4) + "... ",
            enable_open_in_editor=True,
            editing_mode=EditingMode.VI if os.environ.get("EDITOR", "").endswith("vi") else EditingMode.EMACS,
            input=input,
            output=output,
        )
        self._ask: PromptSession[str] = PromptSession(input=input, output=output)

    def _toolbar(self) -> str:
        """What a person may want to know before Enter."""
        text = self._session.default_buffer.text
        if "\n" in text and not is_complete(text):
            return f" the statement goes on; it lacks {lacking(text)}. Ctrl-C drops it"
        shell = self._shell
        traced = " · tracing" if shell.tracing else ""
        captured = f" · results to {shell.output.capturing}" if shell.output.capturing else ""
        return f" {shell.client.where} · {shell.level.name}{traced}{captured}"

    async def read(self) -> str:
        """What was typed; raises EOFError at Ctrl-D, KeyboardInterrupt at Ctrl-C."""
        keyspace = self._shell.client.keyspace
        name = f"sullae:{keyspace}> " if keyspace else "sullae> "
        with patch_stdout(raw=True):
            return await self._session.prompt_async(FormattedText([("class:prompt", name)]))

    async def more(self) -> bool:
        """Whether the next page is wanted."""
        try:
            answer = await self._ask.prompt_async("--- more: Enter, or q to stop --- ")
        except (EOFError, KeyboardInterrupt):
            return False
        return not answer.strip().lower().startswith(("q", "n"))

    async def password(self, prompt: str) -> str:
        """A password, not shown; UsageError if none is given."""
        try:
            return await self._ask.prompt_async(prompt, is_password=True)
        except (EOFError, KeyboardInterrupt):
            raise UsageError("no password was given") from None


async def converse(shell: Shell, prompt: Prompt | None = None) -> None:
    """Read and run until the person leaves."""
    prompt = prompt or Prompt(shell)
    shell.interactive = True
    shell.more, shell.ask_password = prompt.more, prompt.password
    await _greet(shell)
    while True:
        refreshing = asyncio.create_task(_refresh(shell))
        try:
            text = await prompt.read()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        finally:
            refreshing.cancel()
        try:
            await interruptible(shell, shell.run(text))
        except ExitError:
            return


async def _refresh(shell: Shell) -> None:
    """Keep the schema fresh while the person types; without it there is less to complete."""
    while True:
        with contextlib.suppress(*_GONE):
            await shell.refresh()
        await asyncio.sleep(1)


async def _greet(shell: Shell) -> None:
    output = shell.output
    with contextlib.suppress(*_GONE):
        rows = await shell.client.rows("SELECT cluster_name, release_version FROM system.local")
        name, release = rows[0]
        output.say(f"Connected to {name} at {shell.client.where} (as Cassandra {release}).")
    output.say("HELP shows what there is to say; a statement ends with a semicolon; Tab completes.")


async def interruptible(shell: Shell, work: Coroutine[Any, Any, Any]) -> None:
    """Run work that Ctrl-C cancels."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if not task.cancelled() or (current is not None and current.cancelling()):
            raise
        shell.output.error(["cancelled; what the server had begun it may still finish"])
    finally:
        loop.remove_signal_handler(signal.SIGINT)
