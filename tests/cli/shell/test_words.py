"""The shell's own words without a server: arguments of the command, settings, help."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from cli import https
from cli.native.client import Client
from cli.native.connection import Access
from cli.output import Failure
from cli.shell.app import TlsAsked, endpoints_of, level_of, reached, tls_of
from cli.shell.commands import command_of, copy
from cli.shell.copying import parse_copy
from cli.shell.helping import TOPICS, help_text
from cli.shell.options import Options
from cli.shell.output import Output
from cli.shell.shell import Shell
from core.consistency import Level
from cql_lite.parser import parse, split
from server.certificates import make_certificates
from server.config import load_config


def shell() -> Shell:
    options = Options([("127.0.0.1", 1)])
    return Shell(options, Client(options.endpoints, Access()), Output(colour=False))


@pytest.mark.parametrize(
    ("hosts", "port", "expected"),
    [
        (None, None, [("127.0.0.1", 9042)]),
        ("a,b:1", 2, [("a", 2), ("b", 1)]),
        ("::1", None, [("::1", 9042)]),
        ("[::1]:5, h", None, [("::1", 5), ("h", 9042)]),
    ],
)
def test_contact_points(hosts: str | None, port: int | None, expected: list[tuple[str, int]]) -> None:
    assert endpoints_of(hosts, port) == expected


CONFIG = """cluster: c
peers:
  - {name: n1, address: 127.0.0.7}
  - {name: n2, address: "::1"}
ports: {rest: 1, cql: 2, peer: 3}
tls: {folder: certificates, clients: encrypted}
"""


@pytest.mark.parametrize(
    ("hosts", "port", "expected", "encrypted"),
    [
        (None, None, [("127.0.0.7", 2), ("::1", 2)], True),
        (None, 9, [("127.0.0.7", 9), ("::1", 9)], True),
        ("127.0.0.7", None, [("127.0.0.7", 2)], True),
        ("cassandra.example", None, [("cassandra.example", 9042)], False),
        ("cassandra.example", 9, [("cassandra.example", 9)], False),
    ],
)
def test_whom_to_call_and_how_is_said_by_the_configuration(
    tmp_path: Path, hosts: str | None, port: int | None, expected: list[tuple[str, int]], encrypted: bool
) -> None:
    config = tmp_path / "cluster.yml"
    config.write_text(CONFIG)
    make_certificates(tmp_path / "certificates", load_config(config))
    try:
        endpoints, context = reached(hosts, port, config, TlsAsked())
        assert (list(endpoints), context is not None) == (expected, encrypted)
        assert reached(hosts, port, config, TlsAsked(False))[1] is None
        blind = reached(hosts, port, config, TlsAsked(check=False))[1]
        assert blind is not None and blind.verify_mode == ssl.CERT_NONE
    finally:
        https.go_by(None)


def test_wrong_arguments_are_wrong_usage() -> None:
    none, both = Path("none.yml"), TlsAsked(False, ca=Path("ca.pem"))
    for wrong in (
        lambda: endpoints_of("a:x", None),
        lambda: reached("a", 0, none, TlsAsked()),
        lambda: level_of("most"),
        lambda: tls_of(both),
    ):
        with pytest.raises(Failure) as failure:
            wrong()
        assert failure.value.exit_status == 2


async def test_settings_are_set_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    one = shell()
    assert await one.run("CONSISTENCY each_quorum; SERIAL CONSISTENCY local_serial; TRACING on; PAGING 5")
    assert await one.run("FORMAT csv; expand on")
    assert (one.level, one.serial_level, one.tracing) == (Level.EACH_QUORUM, Level.LOCAL_SERIAL, True)
    assert (one.rows_per_page, one.format, one.expand) == (5, "csv", "on")
    assert await one.run(
        "PAGING off; PAGING; TRACING; EXPAND; FORMAT; CONSISTENCY; SERIAL CONSISTENCY; CAPTURE"
    )
    assert one.rows_per_page == 0
    assert "paging is off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CONSISTENCY qorum", "did you mean QUORUM?"),
        ("SERIAL CONSISTENCY ONE", "no serial level"),
        ("SERIAL", "SERIAL CONSISTENCY"),
        ("TRACING maybe", "ON or OFF"),
        ("PAGING 0", "one row at least"),
        ("FORMAT xml", "table, json, ndjson, csv"),
        ("SHOW TABLES", "DESCRIBE TABLES"),
        ("SHOW SESSION 2f0d4a52-71c7-4a6e-9f0b-6d2a5c0a9e11x", "no id of a trace"),
        ("SOURCE", "name of a file is missing"),
        ("SOURCE 'nowhere.cql'", "No such file"),
        ("CAPTURE '/nowhere/x'", "No such file"),
        ("LOGIN", "takes a user"),
        ("LOGIN kim", "nobody to ask"),
        ("SELECT 1", "nobody listens there"),
    ],
)
async def test_what_cannot_be_done_says_what_can(
    text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not await shell().run(text)
    assert said in capsys.readouterr().err


CQL_TOPICS = ("KEYSPACE", "TABLE", "SELECT", "INSERT", "UPDATE", "DELETE", "BATCH")


def examples(topic: str) -> list[str]:
    """The statements of a topic: all of it for CQL, else the indented lines without what explains them."""
    text = TOPICS[topic]
    if topic not in CQL_TOPICS:
        lines = [line[2:].partition("    ")[0] for line in text.split("\n") if line.startswith("  ")]
        text = "\n".join(line for line in lines if line.rstrip().endswith(";"))
    return [piece.text for piece in split(text)]


def test_each_example_of_help_is_a_statement_or_a_command() -> None:
    found = [example for topic in TOPICS for example in examples(topic)]
    assert len(found) > 30
    for example in found:
        command = command_of(example)
        if command is copy:
            parse_copy(example)
        elif command is None:
            parse(example)


def test_help_finds_topics_by_other_names_and_parts() -> None:
    assert help_text("create table") == help_text("TABLE") == TOPICS["TABLE"]
    assert "HELP COPY" in help_text("cop")
    assert "CONSISTENCY" in help_text("")
