"""Secondary indexes through CQL: statements about them, and that they answer what filtering answers."""

from __future__ import annotations

from typing import Any

import pytest

import lsm.store
from core.finding import FindRequest
from core.schema import PARTITION, REGULAR, Column, Index, IndexTarget, Table, TableOptions
from cql_lite import describe, wire
from cql_lite.types import INT
from lsm import finding
from sim.real import node_of
from tests.cql_lite.whole import Cql, cluster_of, settle

COLUMNS = (
    "p int, q text, c int, s int STATIC, v int, t text, l list<int>, e set<text>, m map<text, int>, "
    "f frozen<list<int>>, u uuid, d decimal, PRIMARY KEY ((p, q), c)"
)
INDEXES = (
    "i_v ON {0} (v)", "i_t ON {0} (t)", "i_l ON {0} (values(l))", "i_e ON {0} (e)", "i_mk ON {0} (keys(m))",
    "i_mv ON {0} (m)", "i_me ON {0} (entries(m))", "i_f ON {0} (full(f))", "i_s ON {0} (s)", "i_c ON {0} (c)",
    "i_q ON {0} (q)", "i_d ON {0} (d)",
)  # fmt: skip


@pytest.fixture(scope="module")
def cql() -> Cql:
    """Five peers; a table with indexes on nearly everything, half of its rows older than these."""
    client = Cql(cluster_of(peers=5))
    client.run("USE ks")
    client.run(f"CREATE TABLE indexed ({COLUMNS})")
    client.run(f"CREATE TABLE plain ({COLUMNS})")
    settle(client.cluster)
    for number in range(40):
        _insert(client, number)
    for index in INDEXES:
        client.run("CREATE INDEX " + index.format("indexed"))
    settle(client.cluster)
    for number in range(40, 60):
        _insert(client, number)
    for table in ("indexed", "plain"):
        client.run(f"UPDATE {table} SET v = 77, m['a'] = 9, t = 'Other' WHERE p = 1 AND q = 'q1' AND c = 1")
        client.run(f"DELETE FROM {table} WHERE p = 2 AND q = 'q2' AND c = 2")
        client.run(f"DELETE v, l[0] FROM {table} WHERE p = 3 AND q = 'q0' AND c = 3")
        client.run(f"UPDATE {table} SET s = 5 WHERE p = 99 AND q = 'alone'")
        client.run(f"DELETE FROM {table} WHERE p = 4 AND q = 'q1'")
    return client


def _insert(client: Cql, n: int) -> None:
    for table in ("indexed", "plain"):
        client.run(
            f"INSERT INTO {table} (p, q, c, s, v, t, l, e, m, f, d) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1.50)",
            n % 7, f"q{n % 3}", n, n % 4, n % 5, f"text {n % 6}", [n % 3, n % 4], [f"e{n % 2}", "x"],
            {"a": n % 3, f"k{n % 4}": 1}, [n % 2, 1],
        )  # fmt: skip


SERVED = [
    "v = 3", "v = 77", "v = 1234", "v > 3", "v >= 2 AND v < 4", "v IN (1, 77)", "v < 1", "t = 'text 2'",
    "l CONTAINS 2", "l CONTAINS 9", "e CONTAINS 'e1'", "m CONTAINS KEY 'k2'", "m CONTAINS 9", "m['a'] = 2",
    "f = [1, 1]", "s = 2", "s = 5", "s > 2", "c = 17", "c > 50", "q = 'q1'", "d = 1.5",
    "v = 3 AND t = 'text 2'",
    "v = 3 AND l CONTAINS 2 AND m['a'] = 1", "s = 2 AND v = 2", "q = 'q0' AND v = 4", "c > 20 AND v = 1",
    "p = 1 AND q = 'q1' AND v = 77", "p = 1 AND q = 'q1' AND c > 10 AND v > 0",
    "p IN (1, 2) AND q = 'q1' AND v = 1", "p = 1 AND q = 'q1' AND c = 1 AND v = 77",
    "p = 1 AND q = 'q1' AND c = 1 AND s = 3",
    "token(p, q) > 0 AND v = 3", "token(p, q) <= 0 AND v > 1", "p = 3 AND q = 'q0' AND s = 1",
]  # fmt: skip
NOT_THIS_ROW = [
    f"p = 1 AND q = 'q1' AND c = 1 AND {other}" for other in ("v < 77", "t = 'text 1'", "l CONTAINS 9")
]
SERVED += NOT_THIS_ROW


@pytest.mark.parametrize("where", SERVED)
def test_an_index_answers_what_filtering_answers(cql: Cql, where: str) -> None:
    wanted = cql.run(f"SELECT * FROM plain WHERE {where} ALLOW FILTERING")
    assert _sorted(cql.run(f"SELECT * FROM indexed WHERE {where}")) == _sorted(wanted)
    assert cql.run(f"SELECT count(*) FROM indexed WHERE {where}") == [{"count": len(wanted)}]
    pages = cql.pages(f"SELECT * FROM indexed WHERE {where}", 4)
    assert _sorted([row for page in pages for row in page]) == _sorted(wanted)
    assert all(len(page) == 4 for page in pages[:-1])


@pytest.mark.parametrize(
    "where",
    [
        "p = 1 AND q = 'q1' AND v >= 0", "p IN (1, 2, 3) AND q = 'q1' AND v IN (0, 1, 2, 3, 77)",
        "token(p, q) > -3000000000000000000 AND v > 0", "token(p, q) <= 0 AND t < 'text 5'",
    ],
)  # fmt: skip
def test_where_keys_are_named_rows_keep_the_order_of_the_table(cql: Cql, where: str) -> None:
    """Else who asks for the rows after the last token that was seen would miss some."""
    wanted = cql.run(f"SELECT * FROM plain WHERE {where} ALLOW FILTERING")
    assert len(wanted) >= 3
    assert cql.run(f"SELECT * FROM indexed WHERE {where}") == wanted
    assert cql.run(f"SELECT * FROM indexed WHERE {where} LIMIT 3") == wanted[:3]
    assert [row for page in cql.pages(f"SELECT * FROM indexed WHERE {where}", 2) for row in page] == wanted


def test_long_values_that_begin_alike_are_found_once_each(cql: Cql) -> None:
    cql.run("CREATE TABLE long (k int PRIMARY KEY, t text)")
    cql.run("CREATE INDEX ON long (t)")
    settle(cql.cluster)
    a, b, c = ("x" * 2_000 + end for end in "abc")
    for number, text in enumerate((a, b, c, "x")):
        cql.run("INSERT INTO long (k, t) VALUES (?, ?)", number, text)
    for where, values, found in (
        ("t IN (?, ?)", (a, b), [0, 1]), ("t IN (?, ?, ?)", (c, "x", a), [0, 2, 3]), ("t = ?", (b,), [1]),
        ("t > ? AND t < ?", (a, c), [1]), ("t >= ?", (b,), [1, 2]),
    ):  # fmt: skip
        assert sorted(row["k"] for row in cql.run(f"SELECT k FROM long WHERE {where}", *values)) == found
        pages = cql.pages(f"SELECT k FROM long WHERE {where}", 1, *values)
        assert sorted(row["k"] for page in pages for row in page) == found


@pytest.mark.parametrize("looked_at", [1, 2, 3])
def test_a_look_that_ends_at_an_entry_of_another_range_gives_nothing_twice(
    cql: Cql, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(lsm.finding, "LOOKED_AT_MAX", looked_at)
    for where in ("s >= 1", "s IN (0, 3)", "s > 1 AND c > 9", "s < 3 AND v = 2"):
        wanted = cql.run(f"SELECT * FROM plain WHERE {where} ALLOW FILTERING")
        assert _sorted(cql.run(f"SELECT * FROM indexed WHERE {where} ALLOW FILTERING")) == _sorted(wanted)
        pages = cql.pages(f"SELECT * FROM indexed WHERE {where} ALLOW FILTERING", 4)
        assert _sorted([row for page in pages for row in page]) == _sorted(wanted)


def test_the_oracle_of_these_tests_finds_something(cql: Cql) -> None:
    empty = [w for w in SERVED if not cql.run(f"SELECT * FROM plain WHERE {w} ALLOW FILTERING")]
    assert empty == ["v = 1234", "l CONTAINS 9", *NOT_THIS_ROW]


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["p"], row["q"], -1 if row["c"] is None else row["c"]))


def test_the_whole_key_and_an_index_name_a_row_that_has_both(cql: Cql) -> None:
    cql.run("CREATE TABLE tickets (k int PRIMARY KEY, state text, n int)")
    cql.run("CREATE INDEX ON tickets (state)")
    settle(cql.cluster)
    cql.run("INSERT INTO tickets (k, state, n) VALUES (1, 'open', 5)")
    for state, found in (("open", [{"n": 5}]), ("closed", [])):
        assert cql.run(f"SELECT n FROM tickets WHERE k = 1 AND state = '{state}'") == found
        assert cql.run("SELECT n FROM tickets WHERE k = ? AND state = ?", 1, state) == found
        assert cql.run("SELECT n FROM tickets WHERE k = ? AND state IN ?", 1, [state]) == found
        assert cql.run(f"SELECT n FROM tickets WHERE k IN (1, 2) AND state = '{state}'") == found
    assert cql.run("SELECT n FROM tickets WHERE k = 1 AND state > 'open'") == []


def test_like_is_served_by_an_index(cql: Cql) -> None:
    texts = [row["t"] for row in cql.run("SELECT t FROM plain")]
    for pattern, holds in (
        ("text 1", lambda t: t == "text 1"),
        ("text%", lambda t: t.startswith("text")),
        ("%r", lambda t: t.endswith("r")),
        ("%xt 2%", lambda t: "xt 2" in t),
        ("%", lambda _: True),
        ("nothing%", lambda t: t.startswith("nothing")),
    ):
        found = [row["t"] for row in cql.run("SELECT t FROM indexed WHERE t LIKE ?", pattern)]
        assert sorted(found) == sorted(t for t in texts if t is not None and holds(t)), pattern
    assert cql.run("SELECT v FROM indexed WHERE p = 1 AND q = 'q1' AND t LIKE 'Oth%' ORDER BY c") == [
        {"v": 77}
    ]


def test_case_may_not_matter(cql: Cql) -> None:
    cql.run("CREATE TABLE folded (k int PRIMARY KEY, t text)")
    cql.run(
        "CREATE CUSTOM INDEX ON folded (t) USING 'StorageAttachedIndex' "
        "WITH OPTIONS = {'case_sensitive': 'false'}"
    )
    settle(cql.cluster)
    for number, text in enumerate(["Straße", "STRASSE", "strand", "other"]):
        cql.run("INSERT INTO folded (k, t) VALUES (?, ?)", number, text)
    for where, keys in (("t = 'strasse'", [0, 1]), ("t LIKE 'STRA%'", [0, 1, 2])):
        assert sorted(row["k"] for row in cql.run(f"SELECT k FROM folded WHERE {where}")) == keys


def test_capitals_are_small_letters_to_an_index_however_the_rows_are_read(cql: Cql) -> None:
    cql.run("CREATE TABLE ordered (k int, c int, t text, PRIMARY KEY (k, c))")
    cql.run("CREATE INDEX ON ordered (t) USING 'sai' WITH OPTIONS = {'case_sensitive': 'false'}")
    settle(cql.cluster)
    for number, text in enumerate(["a", "A", "b", "B"]):
        cql.run("INSERT INTO ordered (k, c, t) VALUES (1, ?, ?)", number, text)
    for where, found in (("t = 'A'", "aA"), ("t IN ('B', 'c')", "bB"), ("t > 'A'", "bB"), ("t <= 'A'", "aA")):
        text = f"SELECT t FROM ordered WHERE k = 1 AND {where}"
        assert "".join(row["t"] for row in cql.run(text)) == found
        assert "".join(row["t"] for row in cql.run(f"{text} ORDER BY c DESC")) == found[::-1]


def test_ranges_of_a_part_of_the_partition_key_that_is_indexed(cql: Cql) -> None:
    cql.run("CREATE TABLE parts (y int, n text, c int, PRIMARY KEY ((y, n), c))")
    cql.run("INSERT INTO parts (y, n, c) VALUES (2015, 'a', 1)")
    cql.run("INSERT INTO parts (y, n, c) VALUES (2020, 'b', 1)")
    assert "Only EQ and IN" in cql.error("SELECT n FROM parts WHERE y > 2016").message
    cql.run("CREATE INDEX ON parts (y)")
    settle(cql.cluster)
    assert cql.run("SELECT n FROM parts WHERE y > 2016") == [{"n": "b"}]
    assert cql.run("SELECT n FROM parts WHERE y >= 2000 AND y <= 2016") == [{"n": "a"}]
    assert "Only EQ and IN" in cql.error("SELECT y FROM parts WHERE n > 'a'").message
    assert isinstance(cql.error("DELETE FROM parts WHERE y > 2016"), wire.Invalid)
    assert len(cql.run("SELECT y FROM parts")) == 2


def test_text_in_one_form_and_in_letters_of_ascii(cql: Cql) -> None:
    cql.run("CREATE TABLE plainly (k int PRIMARY KEY, t text)")
    cql.run(
        "CREATE INDEX ON plainly (t) USING 'sai' "
        "WITH OPTIONS = {'case_sensitive': 'false', 'normalize': 'true', 'ascii': 'true'}"
    )
    settle(cql.cluster)
    for number, text in enumerate(["Élan", "ELAN", "E\u0301lan", "Łódź", "서울", "Smørrebrød"]):
        cql.run("INSERT INTO plainly (k, t) VALUES (?, ?)", number, text)
    for where, keys in (
        ("t = 'elan'", [0, 1, 2]),
        ("t = 'élan'", [0, 1, 2]),
        ("t IN ('lodz', '서울')", [3, 4]),
        ("t LIKE 'SMOR%'", [5]),
        ("t LIKE 'É%' AND k IN (0, 4)", [0]),
        ("k IN (1, 2, 3) AND t = 'Elan'", [1, 2]),
    ):
        query = f"SELECT k FROM plainly WHERE {where}"
        assert sorted(row["k"] for row in cql.run(query)) == keys, where
    (told,) = cql.run("DESCRIBE INDEX plainly_t_idx")
    assert "'ascii': 'true'" in told["create_statement"]


def test_grouped_and_limited_by_partition_though_the_index_is_in_another_order(cql: Cql) -> None:
    for query in (
        "SELECT p, q, count(*) FROM {0} WHERE v > 1 GROUP BY p, q {1}",
        "SELECT p, q, c FROM {0} WHERE v > 1 PER PARTITION LIMIT 1 {1}",
        "SELECT DISTINCT p, q, s FROM {0} WHERE s > 1 {1}",
        "SELECT DISTINCT p, q FROM {0} WHERE s = 1 {1}",
    ):
        wanted = cql.run(query.format("plain", "ALLOW FILTERING"))
        assert cql.run(query.format("indexed", "")) == wanted != []
        pages = cql.pages(query.format("indexed", ""), 2)
        assert [row for page in pages for row in page] == wanted
    assert len(cql.run("SELECT c FROM indexed WHERE v > 1 LIMIT 5")) == 5
    (row,) = cql.run("SELECT max(v) AS most, min(v) AS least FROM indexed WHERE v < 50")
    assert row == {"most": 4, "least": 0}


def test_what_expires_is_not_found(cql: Cql) -> None:
    cql.run("CREATE TABLE expiring (k int PRIMARY KEY, v int, m map<text, int>)")
    cql.run("CREATE INDEX ON expiring (v)")
    cql.run("CREATE INDEX ON expiring (entries(m))")
    settle(cql.cluster)
    cql.run("INSERT INTO expiring (k, v, m) VALUES (1, 1, {'a': 1})")
    cql.run("UPDATE expiring USING TTL 20 SET v = 1, m['a'] = 1 WHERE k = 2")
    cql.run("UPDATE expiring USING TTL 20 SET m['a'] = 1 WHERE k = 1")
    assert len(cql.run("SELECT k FROM expiring WHERE v = 1")) == 2
    assert len(cql.run("SELECT k FROM expiring WHERE m['a'] = 1")) == 2
    cql.cluster.run_for(25_000_000)
    assert cql.run("SELECT k FROM expiring WHERE v = 1") == [{"k": 1}]
    assert cql.run("SELECT k FROM expiring WHERE m['a'] = 1") == []


def test_every_type_that_has_an_order_is_found(cql: Cql) -> None:
    values: dict[str, str] = {
        "ascii": "'x'", "bigint": "-5", "blob": "0xff00", "boolean": "true", "date": "'2024-02-29'",
        "decimal": "-1.20", "double": "-0.5", "float": "1.5", "inet": "'10.0.0.1'", "int": "-7",
        "smallint": "3", "text": "'é'", "time": "'10:00:00'", "timestamp": "1700000000000",
        "timeuuid": "50554d6e-29bb-11e5-b345-feff819cdc9f", "tinyint": "-1",
        "uuid": "123e4567-e89b-42d3-a456-426614174000", "varint": "123456789012345678901234567890",
        "tuple<int, text>": "(1, 'a')",
    }  # fmt: skip
    names = [f"c{number}" for number in range(len(values))]
    columns = ", ".join(f"{name} {of}" for name, of in zip(names, values, strict=True))
    cql.run(f"CREATE TABLE typed (k int PRIMARY KEY, {columns})")
    for name in names:
        cql.run(f"CREATE INDEX ON typed ({name})")
    settle(cql.cluster)
    cql.run(f"INSERT INTO typed (k, {', '.join(names)}) VALUES (1, {', '.join(values.values())})")
    cql.run("INSERT INTO typed (k) VALUES (2)")
    for name, value in zip(names, values.values(), strict=True):
        assert cql.run(f"SELECT k FROM typed WHERE {name} = {value}") == [{"k": 1}], name
        assert cql.run(f"SELECT k FROM typed WHERE {name} >= {value} AND {name} <= {value}") == [{"k": 1}], (
            name
        )


def test_the_index_that_leads_to_the_fewest_rows_drives(cql: Cql, monkeypatch: pytest.MonkeyPatch) -> None:
    table = node_of(cql.cluster, 0).metadata.state.table("ks", "indexed")
    assert table is not None
    names = {index.id: index.name for index in table.indexes}
    used: dict[str, bool] = {}
    find = finding.find

    def noted(engine: Any, command: Any, has_clustering: bool) -> Any:
        used[names.get(command.index, "none")] = True
        return find(engine, command, has_clustering)

    monkeypatch.setattr(lsm.store, "find", noted)
    for where, driver in (
        ("e CONTAINS 'x' AND v = 77", "i_v"),
        ("v >= 0 AND t = 'Other'", "i_t"),
        ("v > 5 AND e CONTAINS 'x' AND m CONTAINS KEY 'a'", "i_v"),
        ("t LIKE '%t%' AND v = 77", "i_v"),
        ("v > 4 AND v < 78 AND t LIKE 'Oth%'", "i_v"),
        ("t LIKE '%ther%'", "i_t"),
    ):
        used.clear()
        pages = cql.pages(f"SELECT c FROM indexed WHERE {where}", 1)
        assert [row for page in pages for row in page] == [{"c": 1}], where
        assert list(used) == [driver], where


def test_bounds_on_one_column_are_one_span(cql: Cql) -> None:
    before = len(cql.requests)
    cql.run("SELECT c FROM indexed WHERE v > 1 AND v <= 3 AND v IN (1, 2, 3, 4)")
    (request,) = (r for r in cql.requests[before:] if isinstance(r, FindRequest))
    (check,) = request.checks
    assert [INT.decode(INT.unkey(first, 0)[0]) for first, end in check.spans if not end] == [2, 3]
    assert request.drive is not None and request.drive.spans == check.spans


# --- statements about indexes


def test_what_there_is_can_be_read_back(cql: Cql) -> None:
    rows = cql.run(
        "SELECT * FROM system_schema.indexes WHERE keyspace_name = 'ks' AND table_name = 'indexed'"
    )
    found = {row["index_name"]: (row["kind"], dict(row["options"])) for row in rows}
    assert found["i_v"] == ("COMPOSITES", {"target": "v"})
    assert found["i_l"] == ("COMPOSITES", {"target": "values(l)"})
    assert found["i_mv"] == ("COMPOSITES", {"target": "values(m)"})
    assert found["i_me"] == ("COMPOSITES", {"target": "entries(m)"})
    assert found["i_f"] == ("COMPOSITES", {"target": "full(f)"})
    cql.run('CREATE TABLE quoted (k int PRIMARY KEY, "V" int, "M" map<int, int>)')
    cql.run('CREATE INDEX ON quoted ("V")')
    cql.run('CREATE INDEX ON quoted (keys("M"))')
    rows = cql.run(
        "SELECT options FROM system_schema.indexes WHERE keyspace_name='ks' AND table_name='quoted'"
    )
    assert sorted(dict(row["options"])["target"] for row in rows) == ['"V"', 'keys("M")']
    (told,) = cql.run("DESCRIBE INDEX ks.i_me")
    assert told["create_statement"] == "CREATE INDEX i_me ON ks.indexed (entries(m));"
    assert any("i_me" in row["create_statement"] for row in cql.run("DESCRIBE TABLE ks.indexed"))


def test_an_index_of_documents_is_shown_with_its_paths() -> None:
    table = Table(
        1,
        "docs",
        "films",
        (Column(0, "id", "text", PARTITION), Column(1, "doc", "json", REGULAR)),
        TableOptions(),
        1,
    )
    targets = (IndexTarget("doc", path=("a", "b")), IndexTarget("doc", path=("c",), descending=True))
    told = describe.text(describe.create_index(table, Index(7, "i", "doc", targets=targets)))
    assert told == (
        "CREATE CUSTOM INDEX i ON docs.films (doc) USING 'sullae.documents' "
        "WITH OPTIONS = {'paths': 'a.b, c DESC'};"
    )


@pytest.mark.parametrize(
    ("using", "kept"),
    [
        ("'sai'", "StorageAttachedIndex"),
        ("'StorageAttachedIndex'", "StorageAttachedIndex"),
        ("'org.apache.cassandra.index.sai.StorageAttachedIndex'", "StorageAttachedIndex"),
        ("'org.apache.cassandra.index.sasi.SASIIndex'", "org.apache.cassandra.index.sasi.SASIIndex"),
    ],
)
def test_kinds_of_index_that_others_know(cql: Cql, using: str, kept: str) -> None:
    cql.run("CREATE TABLE IF NOT EXISTS kinds (k int PRIMARY KEY, v text)")
    settle(cql.cluster)
    cql.run(
        f"CREATE CUSTOM INDEX by_v ON kinds (v) USING {using} WITH OPTIONS = {{'case_sensitive': 'TRUE'}}"
    )
    settle(cql.cluster)
    (row,) = cql.run("SELECT kind, options FROM system_schema.indexes WHERE keyspace_name = 'ks' "
                     "AND table_name = 'kinds'")  # fmt: skip
    assert row["kind"] == "CUSTOM"
    assert dict(row["options"]) == {"case_sensitive": "true", "class_name": kept, "target": "v"}
    cql.run("INSERT INTO kinds (k, v) VALUES (1, 'found')")
    assert cql.run("SELECT k FROM kinds WHERE v LIKE '%oun%'") == [{"k": 1}]
    cql.run("DROP INDEX by_v")
    settle(cql.cluster)


def test_names_are_made_and_repeated_statements_do_nothing(cql: Cql) -> None:
    cql.run("CREATE TABLE named (k int PRIMARY KEY, v int, w int)")
    settle(cql.cluster)
    cql.run("CREATE INDEX ON named (v)")
    cql.run("CREATE INDEX IF NOT EXISTS ON named (v)")
    cql.run("CREATE INDEX IF NOT EXISTS named_v_idx ON named (w)")
    settle(cql.cluster)
    names = [row["index_name"] for row in cql.run(
        "SELECT index_name FROM system_schema.indexes WHERE keyspace_name = 'ks' AND table_name = 'named'"
    )]  # fmt: skip
    assert names == ["named_v_idx"]
    cql.run("DROP INDEX ks.named_v_idx")
    cql.run("DROP INDEX IF EXISTS named_v_idx")
    settle(cql.cluster)
    assert "ALLOW FILTERING" in cql.error("SELECT k FROM named WHERE v = 1").message


def test_a_column_with_an_index_stays_and_a_key_may_be_renamed(cql: Cql) -> None:
    cql.run("CREATE TABLE kept (k int, c int, v int, PRIMARY KEY (k, c))")
    cql.run("CREATE INDEX kept_c ON kept (c)")
    cql.run("CREATE INDEX kept_v ON kept (v)")
    settle(cql.cluster)
    cql.run("INSERT INTO kept (k, c, v) VALUES (1, 2, 3)")
    assert "kept_v" in cql.error("ALTER TABLE kept DROP v").message
    cql.run("ALTER TABLE kept RENAME c TO d")
    settle(cql.cluster)
    assert cql.run("SELECT k FROM kept WHERE d = 2") == [{"k": 1}]
    cql.run("DROP INDEX kept_v")
    settle(cql.cluster)
    cql.run("ALTER TABLE kept DROP v")


def test_truncate_empties_the_index_too(cql: Cql) -> None:
    cql.run("CREATE TABLE emptied (k int PRIMARY KEY, v int)")
    cql.run("CREATE INDEX ON emptied (v)")
    settle(cql.cluster)
    cql.run("INSERT INTO emptied (k, v) VALUES (1, 1)")
    cql.run("TRUNCATE emptied")
    settle(cql.cluster)
    assert cql.run("SELECT k FROM emptied WHERE v = 1") == []
    cql.run("INSERT INTO emptied (k, v) VALUES (2, 1)")
    assert cql.run("SELECT k FROM emptied WHERE v = 1") == [{"k": 2}]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("CREATE INDEX ON indexed (nothing)", "Column 'nothing' doesn't exist"),
        ("CREATE INDEX ON nothing (v)", "Table 'ks.nothing' doesn't exist"),
        ("CREATE INDEX i_v ON indexed (u)", "exists already"),
        ("CREATE INDEX another ON indexed (v)", "i_v"),
        ("CREATE INDEX ON indexed (u, d)", "multiple columns"),
        ("CREATE INDEX ON indexed (keys(e))", "values(e)"),
        ("CREATE INDEX ON indexed (full(l))", "values(l)"),
        ("CREATE INDEX ON indexed (f)", "full(f)"),
        ("CREATE INDEX ON indexed (keys(u))", "Non-collection"),
        ("CREATE INDEX ON indexed (u) USING 'nonsense'", "nonsense"),
        ("CREATE CUSTOM INDEX ON indexed (u)", "USING"),
        ("CREATE INDEX ON indexed (u) USING 'sai' WITH OPTIONS = {'normalize': 'maybe'}", "normalize"),
        ("DROP INDEX nothing", "Index 'ks.nothing' doesn't exist"),
        (
            "SELECT * FROM indexed WHERE u = 123e4567-e89b-42d3-a456-426614174000",
            "create an index that serves u",
        ),
        ("SELECT * FROM indexed WHERE v = 1 AND u = 123e4567-e89b-42d3-a456-426614174000", "data filtering"),
        ("SELECT * FROM indexed WHERE v != 1", 'Unsupported "!=" relation'),
        ("SELECT * FROM plain WHERE t LIKE 'x%' ALLOW FILTERING", "LIKE"),
        ("SELECT * FROM indexed WHERE v LIKE 'x%'", "LIKE"),
        ("SELECT * FROM indexed WHERE t LIKE ''", "not empty"),
        ("SELECT * FROM indexed WHERE v = 'x'", "v"),
    ],
)
def test_what_cannot_be_done_says_so(cql: Cql, text: str, part: str) -> None:
    error = cql.error(text)
    assert isinstance(error, (wire.Invalid, wire.ConfigError)), error
    assert part in error.message


def test_partition_keys_counters_and_durations_cannot_be_indexed(cql: Cql) -> None:
    cql.run("CREATE TABLE odd (k int PRIMARY KEY, d duration)")
    cql.run("CREATE TABLE counted (k int PRIMARY KEY, n counter)")
    settle(cql.cluster)
    assert "only partition key column k" in cql.error("CREATE INDEX ON odd (k)").message
    assert "duration" in cql.error("CREATE INDEX ON odd (d)").message
    assert "counter" in cql.error("CREATE INDEX ON counted (n)").message
