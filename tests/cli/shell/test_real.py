"""The shell against three real peers: as a command, with COPY of every type, and when a peer dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.native.client import Client
from cli.native.connection import Access
from cli.shell.options import Options
from cli.shell.output import Output
from cli.shell.shell import Shell
from tests.process.cluster import Cluster, running

pytestmark = [pytest.mark.process, pytest.mark.slow]

EVERY = (
    "k int PRIMARY KEY, a ascii, b bigint, bl blob, bo boolean, d date, de decimal, dou double, du duration, "
    "f float, i inet, j json, s smallint, t text, ti time, ts timestamp, tu timeuuid, ty tinyint, "
    "u uuid, vi varint, v vector<float, 3>, l list<int>, se set<text>, m map<int, text>, "
    "tup tuple<int, text>, n frozen<list<frozen<map<text, int>>>>, ad addr, lt list<timestamp>"
)
SCHEMA = f"""
CREATE KEYSPACE shop WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}};
USE shop;
CREATE TYPE addr (street text, no int);
CREATE TABLE every ({EVERY});
CREATE TABLE copied ({EVERY});
CREATE TABLE counted (k int PRIMARY KEY, n counter);
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users (id, name) VALUES (1, '강');
INSERT INTO every (k, a, b, bl, bo, d, de, dou, du, f, i, j, s, t, ti, ts, tu, ty, u, vi, v, l, se, m, tup,
n, ad, lt)
VALUES (1, 'plain', -9223372036854775808, 0xff00, true, '-0044-03-15', -1234567890.0987654321, 1.5e300,
1y2mo3h, -0.5,
'2001:db8::1', '{{"a": [1.0, {{"b": "c,d"}}]}}', -32768, '강강술래, "q" ''
line2 ', '12:34:56.789012345', '2024-02-29 23:59:59.999+0000', f0e9c3a0-7c1e-11ee-8000-0123456789ab, 127,
123e4567-e89b-42d3-a456-426614174000, -100000000000000000000000000000000000000000, [1, -2.5, 0], [3, 1, 3],
{{'a', 'it''s, "x"'}}, {{1: 'one', 2: 'two'}}, (1, null), [{{'a': 1}}, {{'b': 2}}], {{street: 'x; y', no: 3}},
['2024-01-01', '2024-01-02 01:02:03.004']);
INSERT INTO every (k) VALUES (2);
INSERT INTO every (k, t, a) VALUES (3, '', '');
"""


class Command:
    """`sullae shell` as a process."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder

    def __call__(
        self, *arguments: str, text: str | None = None, status: int = 0
    ) -> subprocess.CompletedProcess[str]:
        place = ["127.0.0.1,127.0.0.2", str(self.cluster.cql)]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cli.main", "shell", *place, *arguments],
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            timeout=60,
            check=False,
        )
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        return done

    def rows(self, query: str) -> list[Any]:
        lines = self("-k", "shop", "--format", "ndjson", "-e", query).stdout.splitlines()
        return sorted((json.loads(line) for line in lines), key=json.dumps)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("shell")
    with running(folder / "cluster") as cluster:
        command = Command(cluster, folder)
        (folder / "schema.cql").write_text(SCHEMA)
        command("-f", "schema.cql")
        yield command


@pytest.fixture(autouse=True)
def all_up(shell: Command) -> None:
    """Each test begins with three peers."""
    if down := [peer.name for peer in shell.cluster.peers if not peer.running]:
        shell.cluster.up(*down)


def test_statements_of_an_option_a_file_and_a_pipe(shell: Command) -> None:
    insert = "INSERT INTO users (id, name) VALUES ({0}, '{1}')"
    shell("-k", "shop", "-e", f"{insert.format(1, '강')}; {insert.format(2, 'b')}")
    (shell.folder / "more.cql").write_text(
        f"-- a file\nUSE shop;\n{insert.format(3, 'c')};\nSOURCE 'again.cql'\n"
    )
    (shell.folder / "again.cql").write_text(f"CONSISTENCY ALL\n{insert.format(4, 'd')}")
    shell("-f", "more.cql")
    table = shell(text="USE shop;\nSELECT * FROM users WHERE id = 1;\n").stdout
    assert table == " id | name\n----+------\n  1 | 강\n\n(1 row)\n"
    assert [row["id"] for row in shell.rows("SELECT id FROM users")] == [1, 2, 3, 4]


def test_a_failed_statement_ends_a_script_unless_asked_to_go_on(shell: Command) -> None:
    script = (
        "SELECT * FORM users;\nINSERT INTO users (id, name) VALUES (9, 'x');\n"
        "SELECT id FROM users WHERE id = 9;"
    )
    (shell.folder / "wrong.cql").write_text(script)
    stopped = shell("-k", "shop", "-f", "wrong.cql", status=1)
    assert stopped.stdout == ""
    assert "did you mean FROM?" in stopped.stderr and "         ^" in stopped.stderr
    assert "wrong.cql:1" in stopped.stderr
    went_on = shell("-k", "shop", "--continue-on-error", "--format", "csv", "-f", "wrong.cql", status=1)
    assert went_on.stdout == "id\n9\n"
    shell("-k", "shop", "-e", "DELETE FROM users WHERE id = 9")
    assert "Keyspace 'nowhere' does not exist" in shell("-k", "nowhere", "-e", "exit", status=1).stderr
    shell("-f", "missing.cql", status=1)


@pytest.mark.parametrize("version", ["3", "4"])
def test_older_versions_of_the_protocol_say_the_same(shell: Command, version: str) -> None:
    query = ("-k", "shop", "--format", "json", "-e", "SELECT * FROM every; SHOW VERSION")
    old = shell("--protocol-version", version, *query).stdout
    assert f"native protocol v{version}" in old
    assert old.replace(f"protocol v{version}", "protocol v5") == shell(*query).stdout


def test_describe_and_the_shells_own_words(shell: Command) -> None:
    done = shell(
        "-k", "shop", "-e",
        "DESCRIBE TABLES\nDESC TABLE users\nSHOW VERSION\nSHOW HOST\nHELP COPY\nPAGING 7\nEXPAND ON\n"
        "SERIAL CONSISTENCY LOCAL_SERIAL\nSELECT * FROM users WHERE id = 1",
    )  # fmt: skip
    for said in ("  copied   counted  every", "CREATE TABLE shop.users (", "native protocol v5", "(dc1, r1)"):
        assert said in done.stdout
    assert "@ row 1\n id   | 1\n" in done.stdout
    assert "7 rows a page" in done.stderr and "LOCAL_SERIAL" in done.stderr
    assert shell("-e", "DESCRIBE TABLES").stdout.count("sessions") <= 1
    schema = shell("-e", "DESCRIBE SCHEMA").stdout
    assert "CREATE KEYSPACE shop" in schema and "system_traces" not in schema


def test_captured_results_go_to_a_file(shell: Command) -> None:
    done = shell(
        "-k", "shop", "-e", "CAPTURE 'out.txt'\nSELECT id FROM users WHERE id = 1;CAPTURE OFF\nSHOW HOST"
    )
    assert "connected to" in done.stdout and "id" not in done.stdout
    assert (shell.folder / "out.txt").read_text() == " id\n----\n  1\n\n(1 row)\n"


@pytest.mark.parametrize("name", ["every.csv", "every.csv.gz", "every.tsv", "every.ndjson", "every.parquet"])
def test_every_type_comes_back_from_a_copy(shell: Command, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    out = shell("-k", "shop", "-e", f"COPY every TO '{name}' WITH HEADER = TRUE; TRUNCATE copied;")
    assert "shop.every: 3 rows to" in out.stderr
    back = shell("-k", "shop", "-e", f"COPY copied FROM '{name}' WITH HEADER = TRUE;")
    assert "shop.copied: 3 rows from" in back.stderr
    assert shell.rows("SELECT * FROM copied") == shell.rows("SELECT * FROM every")
    assert not list(shell.folder.glob("*.rejects")) and not list(shell.folder.glob("*.copying"))


def test_rows_that_are_none_are_rejects_with_their_reason(shell: Command) -> None:
    (shell.folder / "bad.csv").write_text("70,ok\nx,no\n71\n72,ok\n")
    done = shell("-k", "shop", "-e", "COPY users (id, name) FROM 'bad.csv';", status=1)
    assert "2 rows from" in done.stderr and "2 lines rejected" in done.stderr
    rejects = [json.loads(line) for line in (shell.folder / "bad.csv.rejects").read_text().splitlines()]
    assert [(reject["line"], reject["text"]) for reject in rejects] == [(2, "x,no"), (3, "71")]
    assert [row["name"] for row in shell.rows("SELECT name FROM users WHERE id IN (70, 71, 72)")] == [
        "ok",
        "ok",
    ]
    (shell.folder / "bad.csv.rejects").unlink()
    shell("-k", "shop", "-e", "DELETE FROM users WHERE id IN (70, 72)")


def test_documents_are_written_and_searched_by_statements(shell: Command) -> None:
    shell("-e", "CREATE TABLE docs.notes (id text PRIMARY KEY, doc json)")
    for name, text in (("a", "우주 space"), ("b", "space horror"), ("c", "sea")):
        shell("-e", f"""INSERT INTO docs.notes (id, doc) VALUES ('{name}', '{{"t": "{text}"}}')""")
    match = "SELECT id, doc FROM docs.notes WHERE doc MATCH '{}' LIMIT 5"
    assert shell.rows(match.format("space -horror")) == [{"id": "a", "doc": '{"t": "우주 space"}'}]
    assert [row["id"] for row in shell.rows(match.format("우주"))] == ["a"]


def test_counters_through_pipes(shell: Command) -> None:
    shell("-k", "shop", "-e", "COPY counted FROM STDIN;", text="1,5\n2,7\n\\.\n9,9\n")
    out = shell("-k", "shop", "-e", "COPY counted (n, k) TO STDOUT;").stdout
    assert sorted(out.splitlines()) == ["5,1", "7,2"]


def test_the_timeline_of_a_trace(shell: Command) -> None:
    done = shell(
        "-k", "shop", "-e", "CONSISTENCY ALL; TRACING ON; SELECT * FROM users WHERE id = 1; TRACING OFF"
    )
    assert "Trace " in done.stdout and "coordinator 127.0.0.1" in done.stdout
    for peer in ("127.0.0.1 (coordinator)", "127.0.0.2 (replica)", "127.0.0.3 (replica)"):
        assert peer in done.stdout
    assert "1 rows and" in done.stdout


async def test_when_a_peer_dies_the_shell_goes_on_with_another(
    shell: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = shell.cluster
    options = Options([("127.0.0.2", cluster.cql)], Access(), keyspace="shop")
    client = Client(options.endpoints, options.access)
    one = Shell(options, client, Output(colour=False))
    assert await one.run("USE shop; SELECT name FROM users WHERE id = 1")
    assert client.where.startswith("127.0.0.2")
    cluster.kill("n2")
    assert await one.run("SELECT name FROM users WHERE id = 1")
    said = capsys.readouterr()
    assert said.out.count("강") == 2 and "now on 127.0.0." in said.err
    assert client.keyspace == "shop" and not client.where.startswith("127.0.0.2")
    client.close()
