"""The way into `sullae shell`: connect, then run what was given, what comes by a pipe, or a terminal.

Exit status: 0; 1 a statement failed, or nobody could be reached; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli import https
from cli.native.client import Client, Endpoint, NobodyError
from cli.native.connection import Access, LostError, RefusedError
from cli.output import Failure
from cli.places import cql_endpoints
from cli.rest import is_host
from cli.shell.errors import UsageError, told
from cli.shell.formatting import FORMATS, TABLE
from cli.shell.options import DEFAULT_HOST, DEFAULT_PORT, Options
from cli.shell.output import Output
from cli.shell.scripts import run_file
from cli.shell.shell import ExitError, Shell
from core.consistency import Level
from cql_lite import wire
from cql_lite.formatting import identifier

INTERRUPTED: Final = 130


def endpoints_of(hosts: str | None, port: int | None) -> list[Endpoint]:
    """Contact points: `a,b:9043,[::1]:9042`; a port of its own goes before that of the command."""
    found = []
    for text in (hosts or DEFAULT_HOST).split(","):
        host, own = text.strip(), ""
        if host.startswith("["):
            host, _, own = host[1:].partition("]")
            own = own.removeprefix(":")
        elif host.count(":") == 1:
            host, _, own = host.partition(":")
        if not is_host(host) or (own and not is_port(own)):
            raise Failure(
                f"{text!r} is no address of a peer", hint="127.0.0.1 or 127.0.0.1:9042", exit_status=2
            )
        found.append((host, int(own) if own else port or DEFAULT_PORT))
    return found


def is_port(text: str) -> bool:
    """Whether this is the number of a port."""
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) < 65536


@dataclass(frozen=True, slots=True)
class TlsAsked:
    """What the command says of TLS: None is nothing, and the configuration holds; files are the options'."""

    wanted: bool | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    check: bool = True


def tls_of(asked: TlsAsked) -> ssl.SSLContext | None:
    """The TLS that was asked for, or is the configuration's; raises Failure if a file is no good."""
    ca, cert, key, check = asked.ca, asked.cert, asked.key, asked.check
    if asked.wanted is None and not (ca or cert or key) and check:
        return https.for_cql()
    if asked.wanted is False:
        if ca or cert or key or not check:
            raise Failure("--no-ssl, and an option of TLS besides: which?", exit_status=2)
        return None
    default_ca, *default_pair = (Path(file) if file else None for file in https.files())
    authority = ca or default_ca
    shown, its_key = (cert, key) if cert is not None else default_pair
    try:
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        if shown is not None:
            context.load_cert_chain(shown, its_key)
    except (OSError, ssl.SSLError) as error:
        named = " ".join(str(file) for file in (authority, shown, its_key) if file is not None)
        raise Failure(f"TLS: {error.strerror or error} ({named})") from None
    if not check:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def reached(
    hosts: str | None, port: int | None, config: Path, asked: TlsAsked
) -> tuple[Sequence[Endpoint], ssl.SSLContext | None]:
    """Whom to call, and by what TLS; what was not said is as the configuration has it."""
    if port is not None and not 0 < port < 65536:
        raise Failure(f"{port} is no port", exit_status=2)
    endpoints = cql_endpoints(hosts, config, port)
    return endpoints, tls_of(asked)


def level_of(name: str) -> Level:
    """A consistency level by its name."""
    found = {level.name: level for level in Level}
    if name.upper() not in found:
        hint = f"there are {', '.join(found).lower()}"
        raise Failure(f"there is no consistency level {name}", hint=hint, exit_status=2)
    return found[name.upper()]


def checked_format(name: str) -> str:
    """A result format by its name."""
    if name.lower() not in FORMATS:
        raise Failure(f"there is no format {name}", hint=f"there are {', '.join(FORMATS)}", exit_status=2)
    return name.lower()


def run(options: Options) -> int:
    """Run the shell; its exit status."""
    try:
        return asyncio.run(_run(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


async def _run(options: Options) -> int:
    at_terminal = options.execute is None and options.file is None and sys.stdin.isatty()
    output = Output(colour=options.colour, remarks=options.format == TABLE)
    client = Client(options.endpoints, options.access)
    shell = Shell(options, client, output)
    client.on_event = shell.on_event
    try:
        await _connect(client, options)
        if at_terminal:
            from cli.shell.prompting import converse

            await converse(shell)
            return 0
        return 0 if await _given(shell, options) else 1
    except ExitError:
        return 0
    except UsageError as error:
        raise Failure(error.text, hint=error.hint) from None
    finally:
        client.close()
        output.release()


async def _given(shell: Shell, options: Options) -> bool:
    if options.execute is not None:
        return await shell.run(options.execute)
    return await run_file(shell, options.file if options.file is not None else Path("-"))


async def _connect(client: Client, options: Options) -> None:
    """Be connected, and in the keyspace asked for, or fail with words that help."""
    try:
        await client.connected()
        if options.keyspace:
            await client.request(wire.Query(f"USE {identifier(options.keyspace)}", wire.Parameters()))
    except NobodyError as nobody:
        lines = told(nobody)
        hint = "is the cluster up? `sullae up` starts one here; `sullae shell HOST PORT` asks elsewhere"
        text = str(nobody.tried[0]) if len(nobody.tried) == 1 else "\n".join(lines)
        raise Failure(text, hint=hint, code="unreachable") from None
    except RefusedError as refused:
        raise Failure(refused.error.message, code="refused") from None
    except LostError as lost:
        raise Failure(f"the connection was lost: {lost}", code="unreachable") from None


def access_of(username: str, password: str | None, tls: ssl.SSLContext | None, version: int) -> Access:
    """Who one is; the password is asked for where there is a terminal."""
    if username and password is None:
        import getpass

        password = getpass.getpass(f"Password of {username}: ") if sys.stdin.isatty() else ""
    return Access(tls, username, password or "", version)
