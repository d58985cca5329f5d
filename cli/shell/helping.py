"""HELP: topics with examples, each of which works as it stands (in a keyspace with the tables it names)."""

from __future__ import annotations

import difflib
from typing import Final

TOPICS: Final[dict[str, str]] = {
    "CONSISTENCY": """\
CONSISTENCY [level]          how many replicas must answer; QUORUM at first
  CONSISTENCY;               which it is
  CONSISTENCY LOCAL_QUORUM;
Levels: ANY (writes), ONE, TWO, THREE, QUORUM, ALL, LOCAL_QUORUM, EACH_QUORUM, LOCAL_ONE, and for reading what
conditional updates decided: SERIAL, LOCAL_SERIAL.""",
    "SERIAL CONSISTENCY": """\
SERIAL CONSISTENCY [SERIAL | LOCAL_SERIAL]
Who agrees on conditional updates (IF ...): all datacentres, or ours.""",
    "TRACING": """\
TRACING [ON | OFF]           after each statement, a timeline: coordinator, replicas asked, what each took,
                             rows and tombstones read
  TRACING ON;
  SELECT * FROM users WHERE id = 1;
SHOW SESSION id              looks at a trace again""",
    "EXPAND": """\
EXPAND [ON | OFF | AUTO]     one value a line instead of a table; AUTO: where it would be too wide""",
    "PAGING": """\
PAGING [ON | OFF | rows]     how many rows are fetched, and at a terminal shown, at once
  PAGING 20;""",
    "FORMAT": """\
FORMAT [table | json | ndjson | csv]           how rows are printed
  FORMAT ndjson;""",
    "SOURCE": """\
SOURCE 'file'                runs the statements of a file
  SOURCE 'schema.cql';""",
    "CAPTURE": """\
CAPTURE ['file' | OFF]       appends results to a file instead of showing them
  CAPTURE 'users.txt';
  SELECT * FROM users;
  CAPTURE OFF;""",
    "COPY": """\
COPY table [(columns)] TO 'file' [WITH option = value AND ...];
COPY table [(columns)] FROM 'file' [WITH option = value AND ...];
The name says the format: .csv, .tsv, .ndjson, .parquet (with .gz: compressed); STDIN and STDOUT will do, too.
A copy that was interrupted goes on when the same command is given again. Lines that are no rows, or that the
server refuses, go to FILE.rejects with the reason.
  COPY users TO 'users.csv' WITH HEADER = TRUE;
  COPY users (id, name) FROM 'users.csv' WITH HEADER = TRUE AND NULL = '-';
  COPY users FROM '2024-*.csv, 2025-*.csv' WITH DATETIMEFORMAT = '%d.%m.%Y' AND BOOLSTYLE = 'yes,no';
Options: FORMAT, HEADER (csv: FALSE), DELIMITER (','), QUOTE, ESCAPE ('"'), NULL (''), PAGESIZE, MAXROWS,
SKIPROWS, SKIPCOLS, MAXERRORS (1000; -1: any number), ERRFILE, TTL, IN_FLIGHT (rows sent at once, 256),
RESUME (TRUE); of csv BOOLSTYLE, DATETIMEFORMAT, DECIMALSEP, THOUSANDSSEP; of TO BEGINTOKEN, ENDTOKEN.""",
    "SHOW": """\
SHOW VERSION                 versions of shell, server, CQL and protocol
SHOW HOST                    which peer of which cluster this is
SHOW SESSION id              a trace""",
    "DESCRIBE": """\
DESCRIBE KEYSPACES           DESCRIBE TABLES            DESCRIBE TYPES       DESCRIBE CLUSTER
DESCRIBE KEYSPACE [name]     DESCRIBE TABLE name        DESCRIBE TYPE name   DESCRIBE INDEX name
DESCRIBE SCHEMA              DESCRIBE name
What there is, as the statements that make it. DESC will do for DESCRIBE.""",
    "LOGIN": """\
LOGIN user ['password']      be somebody else; the password is asked for if it is not given""",
    "CLEAR": "CLEAR                        empties the terminal",
    "EXIT": "EXIT, QUIT, Ctrl-D           leaves",
    "KEYS": """\
Enter          runs the statement if it is complete, else begins a new line
Alt-Enter      begins a new line
Tab            completes
Up, Ctrl-R     earlier statements
Ctrl-C         cancels the statement that runs, or the line that is being typed
Ctrl-D         leaves""",
    "KEYSPACE": """\
CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3};
CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3};
USE shop;
DROP KEYSPACE shop;""",
    "TABLE": """\
CREATE TABLE users (id int PRIMARY KEY, name text, emails set<text>);
CREATE TABLE events (day date, at timestamp, what text, PRIMARY KEY (day, at))
  WITH CLUSTERING ORDER BY (at DESC);
ALTER TABLE users ADD born date;
TRUNCATE users;
DROP TABLE users;""",
    "SELECT": """\
SELECT * FROM users WHERE id = 1;
SELECT name, ttl(name), writetime(name) FROM users WHERE id IN (1, 2);
SELECT at, what FROM events WHERE day = '2024-02-29' AND at > '2024-02-29 12:00' LIMIT 10;
SELECT count(*) FROM users;
SELECT * FROM users WHERE name = 'Kim' ALLOW FILTERING;""",
    "INSERT": """\
INSERT INTO users (id, name, emails) VALUES (1, 'Kim', {'kim@example.org'});
INSERT INTO users (id, name) VALUES (2, 'O''Hara') IF NOT EXISTS;
INSERT INTO users JSON '{"id": 3, "name": "Lee"}';
INSERT INTO users (id, name) VALUES (4, 'Park') USING TTL 86400;""",
    "UPDATE": """\
UPDATE users SET name = 'Choi' WHERE id = 1;
UPDATE users SET emails = emails + {'choi@example.org'} WHERE id = 1;
UPDATE users SET name = 'Jung' WHERE id = 1 IF name = 'Choi';
UPDATE visits SET count = count + 1 WHERE page = '/';""",
    "DELETE": """\
DELETE FROM users WHERE id = 1;
DELETE emails['kim@example.org'] FROM users WHERE id = 1;
DELETE FROM events WHERE day = '2024-02-29' AND at < '2024-02-29 12:00';""",
    "BATCH": """\
BEGIN BATCH
  INSERT INTO users (id, name) VALUES (5, 'Seo');
  UPDATE users SET name = 'Han' WHERE id = 6;
APPLY BATCH;""",
    "TYPES": """\
ascii bigint blob boolean counter date decimal double duration float inet int json smallint text time
timestamp timeuuid tinyint uuid varchar varint;
list<...> set<...> map<..., ...> tuple<...> vector<float, n> frozen<...>
  text 'it''s'     blob 0xff00     uuid 123e4567-e89b-12d3-a456-426614174000     duration 1h30m
  date '2024-02-29'     time '12:34:56.789'     timestamp '2024-02-29 12:34:56+0900'     inet '192.0.2.1'
  list [1, 2]     set {1, 2}     map {'a': 1}     tuple (1, 'a')""",
}
_ALIASES: Final = {
    "DESC": "DESCRIBE", "QUIT": "EXIT", "CLS": "CLEAR", "SERIAL": "SERIAL CONSISTENCY", "TYPE": "TYPES",
    "CREATE KEYSPACE": "KEYSPACE", "CREATE TABLE": "TABLE", "CREATE": "TABLE", "USE": "KEYSPACE",
    "ALTER": "TABLE", "DROP": "TABLE", "TRUNCATE": "TABLE", "ALTER TABLE": "TABLE",
}  # fmt: skip
_CQL: Final = ("KEYSPACE", "TABLE", "SELECT", "INSERT", "UPDATE", "DELETE", "BATCH", "TYPES")


def help_text(topic: str) -> str:
    """The help on a topic, or the list of topics."""
    if not topic:
        return _contents()
    name = topic.upper().strip(" ;")
    name = _ALIASES.get(name, name)
    found = TOPICS.get(name)
    if found is not None:
        return found
    close = [known for known in TOPICS if known.startswith(name)] or difflib.get_close_matches(
        name, TOPICS, 1
    )
    hint = f"; did you mean HELP {' or '.join(close)}?" if close else ""
    return f"there is no help on {topic}{hint}\n{_contents()}"


def _contents() -> str:
    own = [name for name in TOPICS if name not in _CQL]
    return (
        f"Of the shell:  {', '.join(own)}\n"
        f"Of CQL:        {', '.join(_CQL)}\n"
        "HELP and one of these shows examples. A statement ends with a semicolon."
    )
