"""The unmodified `cqlsh` against three real peers, used by who follows a tutorial and errs."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.environments import program, run
from tests.process.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

Shell = Callable[..., str]


@pytest.fixture(scope="module")
def cqlsh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Run a script; what cqlsh printed, errors too."""
    path = program(".venv-cqlsh", "cqlsh")
    cluster: Cluster = request.getfixturevalue("cluster")
    home = tmp_path_factory.mktemp("home")

    def shell(script: str, *arguments: str, peer: int = 0) -> str:
        address = cluster.peers[peer].address
        command = [path, address, str(cluster.cql), "--no-color", "--encoding=utf-8", *arguments]
        environment = {**os.environ, "HOME": str(home), "COLUMNS": "200"}
        done = run(command, input=f"{script}\n", env=environment, cwd=home, timeout=60)
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    shell("CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3};")
    return shell


def table_of(said: str) -> list[list[str]]:
    """The rows of the first table in an output, its header first."""
    lines = [line for line in said.splitlines() if "|" in line]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def test_the_first_statements_of_a_tutorial(cqlsh: Shell) -> None:
    said = cqlsh(
        """
        CREATE KEYSPACE IF NOT EXISTS store WITH REPLICATION = { 'class' : 'SimpleStrategy',
            'replication_factor' : '1' };
        CREATE TABLE IF NOT EXISTS store.shopping_cart (
            userid text PRIMARY KEY, item_count int, last_update_timestamp timestamp);
        INSERT INTO store.shopping_cart (userid, item_count, last_update_timestamp)
            VALUES ('9876', 2, toTimeStamp(now()));
        INSERT INTO store.shopping_cart (userid, item_count, last_update_timestamp)
            VALUES ('1234', 5, toTimeStamp(now()));
        SELECT * FROM store.shopping_cart;
        INSERT INTO store.shopping_cart (userid, item_count) VALUES ('4567', 20);
        UPDATE store.shopping_cart SET item_count = 21 WHERE userid = '4567';
        DELETE FROM store.shopping_cart WHERE userid = '9876';
        SELECT userid, item_count FROM store.shopping_cart;
        DROP KEYSPACE store;
        """
    )
    assert "(2 rows)" in said
    assert sorted(table_of(said)[-2:]) == [["1234", "5"], ["4567", "21"]]
    assert "rror" not in said


MISTAKES = [
    ("SELECT * FORM users;", "SyntaxException: line 1, column 10: .* did you mean FROM"),
    ("SELECT * FROM user;", "InvalidRequest: .*table user does not exist"),
    ("INSERT INTO users (id, name) VALUE (1, 'x');", "did you mean VALUES"),
    ("INSERT INTO users (id, name) VALUES ('x', 'x');", "Invalid STRING constant .x. for .*id.* of type int"),
    ("INSERT INTO users (name) VALUES ('x');", "missing: id"),
    ("UPDATE users SET name = 'x';", "WHERE"),
    ("UPDATE users SET name = 'x' WHERE name = 'y';", "missing: id"),
    ("SELECT * FROM users WHERE name = 'x';", "ALLOW FILTERING"),
    ("SELECT * FROM users ORDER BY name;", "partition key"),
    ("CREATE TABLE bad (id int, name varchar(20), PRIMARY KEY (id));", "types take no length"),
    ("CREATE TABLE bad (id integer PRIMARY KEY);", "did you mean int"),
    ("CREATE TABLE users (id int PRIMARY KEY);", "AlreadyExists: Table 'shop.users' already exists"),
    ("CREATE KEYSPACE other WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 3};",
     "ConfigurationException: .*there are dc1"),
    ("USE nowhere;", "Keyspace 'nowhere' does not exist"),
    ("DESCRIBE TABLE nothing;", "'nothing' not found in keyspace 'shop'"),
    ("DROP TABLE nothing;", "Table 'shop.nothing' doesn't exist"),
    ("DELETE FROM users;", "TRUNCATE"),
]  # fmt: skip


def test_mistakes_are_answered_in_words(cqlsh: Shell) -> None:
    """All in one session: it goes on after each."""
    create = "CREATE TABLE IF NOT EXISTS shop.users (id int PRIMARY KEY, name text);\nUSE shop;\n"
    said = cqlsh(
        create + "\n".join(text for text, _ in MISTAKES) + "\nSELECT count(*) FROM users WHERE id = 7;\n"
    )
    for text, expected in MISTAKES:
        assert re.search(expected, said), (text, said)
    assert "(1 rows)" in said


def test_describe(cqlsh: Shell) -> None:
    said = cqlsh(
        """
        CREATE TYPE shop.address (street text, number int);
        CREATE TABLE shop.described (a int, b text, home frozen<address>, tags set<text>, PRIMARY KEY (a, b))
            WITH CLUSTERING ORDER BY (b DESC) AND comment = 'it''s';
        CREATE INDEX by_tag ON shop.described (tags);
        DESCRIBE KEYSPACES;
        DESCRIBE CLUSTER;
        DESCRIBE INDEX shop.by_tag;
        USE shop;
        DESC TABLES;
        DESCRIBE TYPES;
        """
    )
    assert {"shop", "system", "system_schema", "described", "address"} <= set(said.split())
    assert "Murmur3Partitioner" in said
    assert "CREATE INDEX by_tag ON shop.described" in said
    table = cqlsh("DESCRIBE TABLE shop.described;")
    assert re.search(r"PRIMARY KEY \(a, b\)\n\) WITH CLUSTERING ORDER BY \(b DESC\)", table)
    assert "comment = 'it''s'" in table
    whole = cqlsh("DESCRIBE KEYSPACE shop;")
    assert "CREATE TYPE shop.address" in whole
    # What is described makes the same again.
    create = "CREATE KEYSPACE again WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1};"
    again = cqlsh(create + whole.partition(";")[2].replace("shop.", "again."))
    assert "rror" not in again
    said = cqlsh("DESCRIBE TABLE again.described;\nDROP KEYSPACE again;")
    assert said.replace("again.", "shop.") == table
    said = cqlsh("DESCRIBE SCHEMA;\nDESC shop.described;")
    assert said.count("CREATE TABLE shop.described") == 2


TYPES = {
    "id": ("int PRIMARY KEY", "1"), "t": ("text", "'a, \"b\"; 강'"), "b": ("boolean", "true"),
    "l": ("list<int>", "[1, 2]"), "s": ("set<text>", "{'x', 'y'}"), "m": ("map<text, int>", "{'k': 1}"),
    "at": ("timestamp", "'2024-02-29 12:34:56.789+0000'"), "day": ("date", "'2024-02-29'"),
    "ti": ("time", "'12:34:56.789'"), "u": ("uuid", "123e4567-e89b-42d3-a456-426614174000"),
    "d": ("decimal", "1.10"), "f": ("double", "0.1"), "v": ("varint", "123456789012345678901234567890"),
    "bl": ("blob", "0xcafe"), "ip": ("inet", "'127.0.0.1'"), "tu": ("tuple<int, text>", "(1, 'x')"),
    "bi": ("bigint", "-9223372036854775808"), "j": ("json", "'{\"a\": [1]}'"), "du": ("duration", "1mo2d3h"),
    "vec": ("vector<float, 3>", "[1.5, 2.5, 3.5]"),
}  # fmt: skip


def test_copy_to_a_file_and_from_it(cqlsh: Shell, tmp_path: Path) -> None:
    definition = ", ".join(f"{name} {of}" for name, (of, _) in TYPES.items())
    names = ", ".join(TYPES)
    values = ", ".join(value for _, value in TYPES.values())
    file = tmp_path / "out.csv"
    cqlsh(
        f"CREATE TABLE shop.copied ({definition}); INSERT INTO shop.copied ({names}) VALUES ({values});\n"
        "INSERT INTO shop.copied (id, t) VALUES (2, 'alone');"
    )
    copied = [name for name in TYPES if name != "du"]  # cqlsh writes durations that it cannot read
    said = cqlsh(f"COPY shop.copied ({', '.join(copied)}) TO '{file}' WITH HEADER = true;")
    assert "2 rows exported to 1 files" in said
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted(row["id"] for row in rows) == ["1", "2"]
    before = cqlsh(f"SELECT JSON {', '.join(copied)} FROM shop.copied;")
    said = cqlsh(
        f"TRUNCATE shop.copied;\nCOPY shop.copied ({', '.join(copied)}) FROM '{file}' WITH HEADER = true;"
    )
    assert "2 rows imported from 1 files" in said
    assert cqlsh(f"SELECT JSON {', '.join(copied)} FROM shop.copied;") == before
    many = tmp_path / "many.csv"
    many.write_text("".join(f"{number},{number * 2}\n" for number in range(2000)))
    said = cqlsh(
        f"CREATE TABLE shop.many (k int PRIMARY KEY, v int);\nCOPY shop.many (k, v) FROM '{many}';\n"
        "SELECT count(*) FROM shop.many;"
    )
    assert "2000 rows imported" in said
    assert re.search(r"^ +2000$", said, re.MULTILINE)


def test_tracing_shows_who_did_what(cqlsh: Shell) -> None:
    said = cqlsh(
        """
        CREATE TABLE shop.traced (k int PRIMARY KEY, v int);
        CONSISTENCY QUORUM
        TRACING ON
        INSERT INTO shop.traced (k, v) VALUES (1, 1);
        SELECT * FROM shop.traced WHERE k = 1;
        """
    )
    assert said.count("Tracing session:") == 2
    assert len(set(re.findall(r"\| (127\.0\.0\.\d) \|", said))) >= 2, "peers besides the coordinator"
    assert said.count("Request complete |") == 2
    assert "Mutation applied" in said
    session = re.search(r"Tracing session: (\S+)", said)
    assert session is not None
    assert "Mutation applied" in cqlsh(f"SHOW SESSION {session[1]}", peer=1), "any peer tells it"


def test_the_shell_s_own_commands(cqlsh: Shell, tmp_path: Path) -> None:
    script = tmp_path / "script.cql"
    script.write_text(
        "INSERT INTO shop.own (k, v) VALUES (3, 'three');\nSELECT v FROM shop.own WHERE k = 3;\n"
    )
    said = cqlsh(
        f"""
        CREATE TABLE shop.own (k int PRIMARY KEY, v text);
        INSERT INTO shop.own (k, v) VALUES (1, 'one');
        INSERT INTO shop.own (k, v) VALUES (2, '강');
        SOURCE '{script}'
        EXPAND ON
        SELECT * FROM shop.own WHERE k = 2;
        EXPAND OFF
        CONSISTENCY ALL
        CONSISTENCY
        SERIAL CONSISTENCY LOCAL_SERIAL
        INSERT INTO shop.own (k, v) VALUES (1, 'x') IF NOT EXISTS;
        SHOW VERSION
        SHOW HOST
        PAGING 2
        SELECT k FROM shop.own;
        CAPTURE '{tmp_path}/captured'
        SELECT v FROM shop.own WHERE k = 1;
        CAPTURE OFF
        LOGIN anybody 'secret'
        SELECT v FROM shop.own WHERE k = 1;
        """
    )
    assert "three" in said
    assert re.search(r"@ Row 1\n-+\+-+\n k \| 2\n v \| 강\n", said)
    assert "Current consistency level is ALL." in said
    assert "Serial consistency level set to LOCAL_SERIAL." in said
    assert re.search(r"\[applied\] \| k \| v\s*\n.*\n +False \| 1 \| one", said)
    assert "Native protocol v5" in said
    assert "Connected to test at" in said
    assert "(3 rows)" in said
    assert "one" in (tmp_path / "captured").read_text()
    assert "rror" not in said


@pytest.mark.parametrize("version", ["3", "4"])
def test_older_protocols(cqlsh: Shell, version: str) -> None:
    said = cqlsh(
        "SHOW VERSION\nSELECT key FROM system.local;\nDESCRIBE KEYSPACES;", "--protocol-version", version
    )
    assert f"Native protocol v{version}" in said
    assert "local" in said
