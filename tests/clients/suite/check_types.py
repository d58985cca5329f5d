"""Every type through the drivers: bound, as text, as JSON, nested, null and unset, in each version."""

from __future__ import annotations

import datetime
import json
import uuid
from collections import namedtuple
from decimal import Decimal
from typing import Any

import pytest
from cassandra import InvalidRequest, ProtocolVersion
from cassandra.cluster import Session
from cassandra.query import UNSET_VALUE
from cassandra.util import Date, Duration, OrderedMapSerializedKey, SortedSet, Time, max_uuid_from_time

from tests.clients.suite.fixtures import KEYSPACE, connected

TIME_UUID = uuid.UUID("f0e9c3a0-7c1e-11ee-8000-0123456789ab")
UUID4 = uuid.UUID("123e4567-e89b-42d3-a456-426614174000")
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 999000)  # noqa: DTZ001 - drivers give UTC without saying so

# A type, values that the drivers bind and give back, and the first of them as CQL writes it.
TYPES: list[tuple[str, list[Any], str]] = [
    ("ascii", ["plain", "", "x" * 5000], "'plain'"),
    ("bigint", [-(2**63), 2**63 - 1, 0], "-9223372036854775808"),
    ("blob", [bytes(range(256)), b""], "0x" + bytes(range(256)).hex()),
    ("boolean", [True, False], "true"),
    ("date", [Date(datetime.date(2024, 2, 29)), Date(-719162), Date(0)], "'2024-02-29'"),
    ("decimal", [Decimal("-1234567890.0987654321"), Decimal("0"), Decimal("1E+50"), Decimal("1E-50"),
                 Decimal(10**200 + 1)], "-1234567890.0987654321"),
    ("double", [1.5e300, -0.0, float("inf")], "1.5e300"),
    ("duration", [Duration(14, 3, 5_000_000_000), Duration(-1, -2, -3), Duration(0, 0, 0)], "1y2mo3d5s"),
    ("float", [-0.5, float("-inf")], "-0.5"),
    ("inet", ["2001:db8::1", "127.0.0.1", "255.255.255.255"], "'2001:db8::1'"),
    ("int", [2**31 - 1, -(2**31)], "2147483647"),
    ("smallint", [-32768, 32767], "-32768"),
    ("text", ["강강술래", "", "a\nb\0c", "😀"], "'강강술래'"),
    ("time", [Time("12:34:56.789012345"), Time(0), Time(86_399_999_999_999)], "'12:34:56.789012345'"),
    ("timestamp", [MOMENT, datetime.datetime(1900, 1, 1)], "'2024-02-29 23:59:59.999+0000'"),  # noqa: DTZ001
    ("timeuuid", [TIME_UUID, max_uuid_from_time(1e9)], str(TIME_UUID)),
    ("tinyint", [127, -128], "127"),
    ("uuid", [UUID4, uuid.UUID(int=0)], str(UUID4)),
    ("varchar", ["v", ""], "'v'"),
    ("varint", [-(10**50), 0, 127, 128, -128, -129, 2**4000], "-1" + "0" * 50),
    ("vector<float, 3>", [[1.0, -2.5, 0.0]], "[1.0, -2.5, 0.0]"),
    ("list<int>", [[3, 1, 3]], "[3, 1, 3]"),
    ("set<text>", [SortedSet(["a", "b"])], "{'b', 'a'}"),
    ("map<int, text>", [{1: "one", 2: "two"}], "{1: 'one', 2: 'two'}"),
    ("tuple<int, text>", [(1, None), (None, "x")], "(1, null)"),
    ("frozen<list<frozen<map<text, int>>>>", [[{"a": 1}, {"b": 2}], []], "[{'a': 1}, {'b': 2}]"),
    ("map<uuid, frozen<set<date>>>", [{UUID4: SortedSet([Date(1), Date(2)])}],
     f"{{{UUID4}: {{'1970-01-03', '1970-01-02'}}}}"),
    ("set<frozen<tuple<int, frozen<list<text>>>>>", [SortedSet([(1, ["a"]), (2, [])])],
     "{(1, ['a']), (2, [])}"),
    ("list<timestamp>", [[MOMENT]], "['2024-02-29T23:59:59.999Z']"),
    ("map<inet, decimal>", [{"10.0.0.1": Decimal("1.10")}], "{'10.0.0.1': 1.10}"),
    ("frozen<map<text, frozen<map<text, varint>>>>", [{"a": {"b": 2**70}}],
     "{'a': {'b': 1180591620717411303424}}"),
    ("map<text, duration>", [{"a": Duration(1, 2, 3)}], "{'a': 1mo2d3ns}"),
    ("frozen<vector<int, 2>>", [[1, 2]], "[1, 2]"),
    ("vector<text, 2>", [["a", "bc" * 100]], "['a', '%s']" % ("bc" * 100)),
]  # fmt: skip
KEYS = ["ascii", "bigint", "blob", "boolean", "date", "decimal", "double", "float", "inet", "int", "smallint"]
KEYS += ["text", "time", "timestamp", "timeuuid", "tinyint", "uuid", "varchar", "varint", "tuple<int, text>"]


def plain(value: Any) -> Any:
    """A driver's value in a form that compares."""
    if isinstance(value, (OrderedMapSerializedKey, dict)):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, SortedSet)):
        return [plain(part) for part in value]
    return value


@pytest.mark.parametrize("version", [3, 4, 5])
def check_every_type_bound_in_each_version(session: Session, version: int) -> None:
    types = [each for each in TYPES if version > 4 or "duration" not in each[0]]
    columns = ", ".join(f"c{index} {of}" for index, (of, _, _) in enumerate(types))
    session.execute(f"CREATE TABLE bound_v{version} (k int PRIMARY KEY, {columns})")
    with connected(KEYSPACE, protocol_version=version) as mine:
        names = ", ".join(f"c{index}" for index in range(len(types)))
        insert = mine.prepare(
            f"INSERT INTO bound_v{version} (k, {names}) VALUES ({', '.join('?' * (len(types) + 1))})"
        )
        select = mine.prepare(f"SELECT {names} FROM bound_v{version} WHERE k = ?")
        for k in range(max(len(values) for _, values, _ in types)):
            row = [values[k % len(values)] for _, values, _ in types]
            mine.execute(insert, (k, *row))
            found = mine.execute(select, (k,)).one()
            for (of, _, _), value, got in zip(types, row, found, strict=True):
                empty = isinstance(value, (list, dict)) and not value and "frozen" not in of
                assert plain(got) == (None if empty else plain(value)), of
        mine.execute(insert, (99, *(None for _ in types)))
        assert all(value is None for value in mine.execute(select, (99,)).one())


def check_every_type_as_text_and_as_json(session: Session) -> None:
    columns = ", ".join(f"c{index} {of}" for index, (of, _, _) in enumerate(TYPES))
    session.execute(f"CREATE TABLE written (k int PRIMARY KEY, {columns})")
    names = ", ".join(f"c{index}" for index in range(len(TYPES)))
    literals = ", ".join(text for _, _, text in TYPES)
    session.execute(f"INSERT INTO written (k, {names}) VALUES (1, {literals})")
    row = session.execute(f"SELECT {names} FROM written WHERE k = 1").one()
    for (of, values, _), got in zip(TYPES, row, strict=True):
        assert plain(got) == plain(values[0]), of
    # What SELECT JSON says, INSERT JSON takes.
    said = session.execute("SELECT JSON * FROM written WHERE k = 1").one()[0]
    assert set(json.loads(said)) == {"k", *names.split(", ")}
    session.execute("INSERT INTO written JSON %s", (said.replace('"k": 1,', '"k": 2,'),))
    again = session.execute(f"SELECT {names} FROM written WHERE k = 2").one()
    for (of, values, _), got in zip(TYPES, again, strict=True):
        assert plain(got) == plain(values[0]), of


@pytest.mark.parametrize("of", KEYS)
def check_types_as_keys_in_both_orders(session: Session, of: str) -> None:
    values = next(values for known, values, _ in TYPES if known == of)
    name = "keyed_" + "".join(letter for letter in of if letter.isalpha())
    session.execute(
        f"CREATE TABLE {name} (p {of}, up {of}, down {of}, v int, PRIMARY KEY (p, up, down)) "
        "WITH CLUSTERING ORDER BY (up ASC, down DESC)"
    )
    values = [value for value in values if value not in ("", b"")]
    insert = session.prepare(f"INSERT INTO {name} (p, up, down, v) VALUES (?, ?, ?, ?)")
    for index, value in enumerate(values):
        session.execute(insert, (values[0], value, values[0], index))
        session.execute(insert, (values[0], values[0], value, 100 + index))
    one = session.prepare(f"SELECT v FROM {name} WHERE p = ? AND up = ? AND down = ?")
    for index, value in enumerate(values[1:], start=1):
        assert session.execute(one, (values[0], value, values[0])).one().v == index
    ordered = [plain(row.up) for row in session.execute(f"SELECT up FROM {name}")]
    backwards = session.prepare(f"SELECT up FROM {name} WHERE p = ? ORDER BY up DESC, down ASC")
    assert [plain(row.up) for row in session.execute(backwards, (values[0],))] == ordered[::-1]
    if of in ("bigint", "decimal", "int", "smallint", "tinyint", "varint", "double", "float", "timestamp"):
        assert ordered == sorted(ordered)


def check_null_unset_and_empty(session: Session) -> None:
    session.execute("CREATE TABLE sparse (k int PRIMARY KEY, a int, b int, t text, l list<int>)")
    insert = session.prepare("INSERT INTO sparse (k, a, b, t, l) VALUES (?, ?, ?, ?, ?)")
    session.execute(insert, (1, 1, 2, "t", [1]))
    session.execute(insert, (1, None, UNSET_VALUE, "", []))
    assert session.execute("SELECT a, b, t, l FROM sparse WHERE k = 1").one() == (None, 2, "", None)
    session.execute(insert, [2])  # what is not bound is unset
    assert session.execute("SELECT k, a FROM sparse WHERE k = 2").one() == (2, None)
    update = session.prepare("UPDATE sparse SET a = ?, b = ? WHERE k = ?")
    session.execute(update, (UNSET_VALUE, 9, 1))
    assert session.execute("SELECT a, b FROM sparse WHERE k = 1").one() == (None, 9)
    with pytest.raises((InvalidRequest, ValueError)):
        session.execute(update, (1, 1, UNSET_VALUE))
    with pytest.raises(InvalidRequest, match="null"):
        session.execute(insert, (None, 1, 1, "", []))


def check_user_types_as_classes(session: Session) -> None:
    session.execute("CREATE TYPE address (street text, number int, tags frozen<set<text>>)")
    session.execute("CREATE TYPE person (name text, home frozen<address>)")
    session.execute(
        "CREATE TABLE people (k int PRIMARY KEY, who frozen<person>, loose address, "
        "all_of list<frozen<address>>)"
    )

    class Address:
        def __init__(self, street: str, number: int, tags: Any = None) -> None:
            self.street, self.number, self.tags = street, number, tags

    person = namedtuple("person", "name home")
    with connected(KEYSPACE) as mine:
        mine.cluster.register_user_type(KEYSPACE, "address", Address)
        mine.cluster.register_user_type(KEYSPACE, "person", person)
        insert = mine.prepare("INSERT INTO people (k, who, loose, all_of) VALUES (?, ?, ?, ?)")
        home = Address("강", 7, {"a"})
        mine.execute(insert, (1, person("Ada", home), home, [home, Address("b", 8)]))
        row = mine.execute("SELECT who, loose, all_of FROM people WHERE k = 1").one()
        assert isinstance(row.who, person)
        assert isinstance(row.who.home, Address)
        assert (row.who.name, row.who.home.street, set(row.who.home.tags)) == ("Ada", "강", {"a"})
        assert (row.loose.number, [each.street for each in row.all_of]) == (7, ["강", "b"])
        mine.execute("UPDATE people SET loose.number = 9 WHERE k = 1")
        assert mine.execute("SELECT loose.number FROM people WHERE k = 1").one()[0] == 9
        mine.execute("ALTER TYPE address ADD extra int")
    unregistered = session.execute("SELECT loose FROM people WHERE k = 1").one().loose
    assert (unregistered.street, unregistered.number, unregistered.extra) == ("강", 9, None)
    with connected(KEYSPACE) as mine:
        mine.execute("INSERT INTO people (k, loose) VALUES (%s, {street: %s, number: %s})", (2, "x", 1))
        assert mine.execute("SELECT * FROM people WHERE k = 2").one().loose.street == "x"


def check_counters_and_documents(session: Session) -> None:
    session.execute("CREATE TABLE hits (k int, day date, n counter, m counter, PRIMARY KEY (k, day))")
    add = session.prepare("UPDATE hits SET n = n + ?, m = m - ? WHERE k = ? AND day = ?")
    for _ in range(10):
        session.execute(add, (3, 1, 1, Date(5)))
    assert session.execute("SELECT n, m FROM hits WHERE k = 1 AND day = %s", (Date(5),)).one() == (30, -10)
    session.execute("CREATE TABLE documents (k text PRIMARY KEY, doc json)")
    put = session.prepare("INSERT INTO documents (k, doc) VALUES (?, ?)")
    text = '{"a": {"b": 1.10}, "강": [true, null, 1e400]}'
    session.execute(put, ("x", text))
    assert session.execute("SELECT doc FROM documents").one().doc == text, "to drivers a document is a text"
    session.execute(session.prepare("UPDATE documents SET doc['a']['b'] = ? WHERE k = ?"), ("[2]", "x"))
    assert json.loads(session.execute("SELECT doc['a'] FROM documents").one()[0]) == {"b": [2]}
    with pytest.raises(InvalidRequest, match="JSON"):
        session.execute(put, ("y", "{"))


def check_values_that_do_not_fit_are_refused(session: Session) -> None:
    session.execute("CREATE TABLE strict (k int PRIMARY KEY, i int, a ascii, v vector<float, 2>, u timeuuid)")
    for column, literal in [
        ("i", "'x'"),
        ("i", "2147483648"),
        ("a", "'é'"),
        ("v", "[1.0]"),
        ("u", str(UUID4)),
    ]:
        with pytest.raises(InvalidRequest, match=column):
            session.execute(f"INSERT INTO strict (k, {column}) VALUES (1, {literal})")
    assert ProtocolVersion.V5 in ProtocolVersion.SUPPORTED_VERSIONS
