"""What the parser says of text that is no CQL, what bounds it, and that nothing else comes out of it."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given, settings, strategies as st

from core import limits
from cql_lite import ast
from cql_lite.errors import InvalidRequestError
from cql_lite.lexer import Lexemes, Piece, split
from cql_lite.parser import CqlSyntaxError, parse
from tests.cql_lite.test_parser_rows import (
    ASSIGNMENTS,
    CONDITIONS,
    INSERTS,
    LITERALS,
    RELATIONS,
    SELECTORS,
)
from tests.cql_lite.test_parser_schema import DESCRIBED, ROLES, SCHEMA, TYPES
from tests.fuzzing import INPUTS, SEED


def refused(cql: str) -> CqlSyntaxError:
    with pytest.raises(CqlSyntaxError) as caught:
        parse(cql)
    return caught.value


ERRORS: list[tuple[str, int, int, str]] = [
    ("", 1, 1, "expected a statement (SELECT, INSERT, "),
    ("-- nothing", 1, 11, "found the end of the statement"),
    ("SELEC * FROM t", 1, 1, "found 'SELEC': did you mean SELECT?"),
    ("SELECT *\nFORM t", 2, 1, "expected FROM or a comma after what is selected, but found 'FORM': did"),
    ("SELECT a b FROM t", 1, 10, "expected FROM or a comma"),
    ("SELECT * FROM t WHER a = 1", 1, 17, "did you mean WHERE?"),
    ("SELECT * FROM t LIMIT 1 WHERE a = 1", 1, 25, "(in this order)"),
    ("SELECT * FROM table", 1, 15, 'as a name it is written "table"'),
    ("SELECT * FROM 't'", 1, 15, 'names are written bare or in "double quotes"'),
    ("SELECT * FROM ?", 1, 15, "names cannot be bound"),
    ("SELECT * FROM t WHERE a = \"x\"", 1, 27, "text is written in 'single quotes'"),
    ("SELECT * FROM t WHERE a = b", 1, 27, "expected a value, but found 'b'"),
    ("SELECT * FROM t WHERE a = 'it's'", 1, 31, "a quote within text is written twice"),
    ("SELECT 'abc FROM t", 1, 8, "found a ' that begins a text which never ends"),
    ('SELECT "abc FROM t', 1, 8, 'found a " that begins a name which never ends'),
    ("SELECT /* a FROM t", 1, 8, "found a /* that begins a comment which never ends"),
    ("SELECT $$a$ FROM t", 1, 8, "found a $ that begins no text"),
    ("SELECT # FROM t", 1, 8, "found the character '#'"),
    ("SELECT *, a FROM t", 1, 9, "expected FROM"),
    ("SELECT a, * FROM t", 1, 11, "* stands alone"),
    ("SELECT a[..] FROM t", 1, 12, "a key before or after .."),
    ("SELECT a FROM t WHERE a = 1 OR b = 2", 1, 29, "there is no OR in CQL"),
    ("UPDATE t SET a = 1 WHERE k = 1 IF a BETWEEN 1 AND 2", 1, 37, "conditions have no BETWEEN"),
    ("SELECT a FROM t WHERE a BETWEEN 1", 1, 34, "expected AND after BETWEEN and a value"),
    ("UPDATE t SET a = 1 WHERE k = 1 IF a NOT IN (1)", 1, 35, "NOT IN is no condition"),
    ("SELECT a FROM t WHERE a IN 1", 1, 28, "its values stand in parentheses"),
    ("SELECT a FROM t WHERE a IS NULL", 1, 28, "expected NOT after IS"),
    ("SELECT a FROM t WHERE a == 1", 1, 26, "expected a value"),
    ("SELECT a FROM t LIMIT x", 1, 23, "expected a whole number, or ? to bind one, after LIMIT"),
    ("SELECT a FROM t; SELECT b FROM t", 1, 18, "there is one statement in a request"),
    ("INSERT INTO t VALUES (1)", 1, 15, "expected ( with the names of columns"),
    ("INSERT INTO t (a) VALUES (1) USING TTL 1 AND TTL 2", 1, 46, "expected one TTL"),
    ("INSERT INTO t JSON {}", 1, 20, "expected a JSON object as text, or ?"),
    ("UPDATE t SET a = 1", 1, 19, "an UPDATE names the rows it changes"),
    ("UPDATE t SET a = b + 1 WHERE k = 1", 1, 18, "b stands on the right of a"),
    ("UPDATE t SET a = [1] + b WHERE k = 1", 1, 24, "b stands on the right of a"),
    ("UPDATE t SET a['k'] += 1 WHERE k = 1", 1, 21, "elements and fields are set, not added to"),
    ("UPDATE t SET a = 1 WHERE k = 1 IF NOT EXISTS", 1, 35, "IF NOT EXISTS is for INSERT"),
    ("DELETE FROM t", 1, 14, "to remove everything, use TRUNCATE"),
    ("DELETE * FROM t WHERE k = 1", 1, 8, "without columns DELETE removes whole rows"),
    ("DELETE FROM t USING TTL 1 WHERE k = 1", 1, 21, "expected TIMESTAMP after USING"),
    ("BEGIN BATCH SELECT a FROM t; APPLY BATCH", 1, 13, "expected INSERT, UPDATE, DELETE or APPLY BATCH"),
    ("BEGIN BATCH INSERT INTO t (a) VALUES (1)", 1, 41, "or APPLY BATCH"),
    ("CREATE TABLE t (a int PRIMARY)", 1, 30, "expected KEY after PRIMARY"),
    ("CREATE TABLE t (a list<int PRIMARY KEY)", 1, 28, "expected > after the parameters of list"),
    ("CREATE TABLE t (a map<int> PRIMARY KEY)", 1, 26, "expected 2 parameters of map"),
    ("CREATE TABLE t (a int<text> PRIMARY KEY)", 1, 22, "list, set, map, tuple, vector and frozen have some"),
    ("CREATE KEYSPACE k WITH replication = {'a': [1]}", 1, 39, "something else than constants"),
    ("CREATE KEYSPACE k WITH replication = {'a': 1, 'a': 2}", 1, 47, "a stands twice"),
    ("ALTER TABLE t DROP a USING TIMESTAMP ?", 1, 38, "nothing can be bound in ALTER"),
    ("GRANT SELEC ON t TO r", 1, 13, "permissions are ALL, CREATE"),
    ("DROP TABLE IF EXIST t", 1, 15, "did you mean EXISTS?"),
]  # fmt: skip


@pytest.mark.parametrize(("cql", "line", "column", "said"), ERRORS, ids=[cql for cql, *_ in ERRORS])
def test_an_error_says_where_and_what_to_do(cql: str, line: int, column: int, said: str) -> None:
    error = refused(cql)
    assert (error.line, error.column) == (line, column), error
    assert said in str(error)
    assert str(error).startswith(f"line {line}, column {column}: ")


def test_what_is_found_is_shown_in_bounds() -> None:
    assert len(str(refused(f"SELECT a FROM t WHERE {'x' * 100_000} y"))) < 200


# --- bounds

DEPTH = limits.STATEMENT_DEPTH_MAX


@pytest.mark.parametrize(
    "cql",
    [
        "SELECT a FROM t WHERE a = " + "[" * 10_000,
        "SELECT " + "(" * 10_000 + " FROM t",
        "SELECT " + "f(" * 10_000,
        "SELECT " + "- " * 10_000 + "a FROM t",
        "SELECT " + "(int)" * 10_000 + "1 FROM t",
        "SELECT a" + "+a" * 10_000 + " FROM t",
        "SELECT a" + ".b" * 10_000 + " FROM t",
        "SELECT a" + "[1]" * 10_000 + " FROM t",
        "SELECT a FROM t WHERE " + "(" * 10_000,
        "UPDATE t SET a" + "['b']" * 10_000 + " = 1 WHERE k = 1",
        "CREATE TABLE t (a " + "list<" * 10_000,
        "INSERT INTO t (a) VALUES (" + "{1: " * 10_000,
    ],
    ids=lambda cql: cql[:40],
)
def test_depth_is_bounded(cql: str) -> None:
    error = refused(cql)
    assert "deep" in str(error) or "steps" in str(error)


def test_what_is_just_deep_enough_parses() -> None:
    nested = "[" * (DEPTH - 2) + "]" * (DEPTH - 2)
    parse(f"SELECT a FROM t WHERE a = {nested}")
    parse("SELECT a" + " + a" * (DEPTH - 1) + " FROM t")
    parse("UPDATE t SET a" + "['b']" * limits.JSON_DEPTH_MAX + " = 1 WHERE k = 1")


def test_a_comment_that_never_ends_is_looked_at_once() -> None:
    lexemes = Lexemes("SELECT a " + "/* " * 100_000)
    assert len(lexemes.kinds) == 4
    (piece,) = split("SELECT a /* b; c /* d;")
    assert not piece.ended


def test_width_is_not_bounded() -> None:
    found = parse(f"SELECT a FROM t WHERE a IN ({', '.join(map(str, range(20_000)))})")
    assert isinstance(found, ast.Select)
    items = found.where[0].right
    assert isinstance(items, ast.InList)
    assert len(items.items) == 20_000


def test_length_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATEMENT_CHARS_MAX", 20)
    parse("SELECT a FROM t     ")
    assert "of at most 20" in str(refused("SELECT a FROM t      "))


@pytest.mark.parametrize("cql", ["SELECT a FROM t", "/* */ SELECT /* */ a FROM t -- end", "SELECT a FROM t;"])
def test_the_number_of_words_is_bounded(cql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few characters they have: a peer that reads a million of them does nothing else for seconds."""
    whole = 8
    monkeypatch.setattr(limits, "STATEMENT_LEXEMES_MAX", whole)
    parse(cql)
    for most in (1, 2, 4):
        monkeypatch.setattr(limits, "STATEMENT_LEXEMES_MAX", most)
        error = refused(cql)
        assert f"a statement of more than {most} words" in str(error)
        assert "its values as bound ones" in str(error)


# --- nothing but statements and errors

CORPUS = [
    *[f"SELECT {cql} FROM t" for cql, _ in SELECTORS],
    *[f"SELECT a FROM t WHERE {cql}" for cql, _ in RELATIONS],
    *[f"INSERT INTO t (a) VALUES ({cql})" for cql, _ in LITERALS],
    *[f"UPDATE t SET {cql} WHERE k = 1" for cql, _ in ASSIGNMENTS],
    *[f"DELETE a FROM t WHERE k = 1 IF {cql}" for cql, _ in CONDITIONS],
    *[f"CREATE TABLE t (a {cql} PRIMARY KEY)" for cql, _ in TYPES],
    *[cql for cql, _ in (*INSERTS, *SCHEMA, *ROLES)],
    *[cql for cql, _ in DESCRIBED],
    *[cql for cql, *_ in ERRORS],
]


def mutated(draw: random.Random) -> str:
    """A statement of the corpus with a few lexemes or characters dropped, doubled, swapped or put in."""
    lexemes = Lexemes(draw.choice(CORPUS))
    pieces = list(lexemes.texts)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(pieces))
        what = draw.randrange(7)
        if what == 0:
            del pieces[place:]
        elif what == 1:
            pieces.insert(place, pieces[place])
        elif what == 2:
            pieces.insert(place, draw.choice(Lexemes(draw.choice(CORPUS)).texts))
        elif what == 3:
            pieces[place] = draw.choice(Lexemes(draw.choice(CORPUS)).texts)
        elif what == 4:
            pieces[place] = pieces[place][: draw.randrange(len(pieces[place]) + 1)]
        elif what == 5:
            pieces[place] += draw.choice(string.printable + "é\u0000\U0001f600")
        else:
            del pieces[place]
        pieces = pieces or [""]
    return draw.choice(["", " ", " ", " ", "\n"]).join(pieces)


def parse_or_error(cql: str) -> ast.Statement | CqlSyntaxError | InvalidRequestError:
    """A tree, or what is wrong; what is CQL that this version has not is an InvalidRequestError."""
    try:
        return parse(cql)
    except (CqlSyntaxError, InvalidRequestError) as error:
        return error


def survived(count: int, seed: int) -> int:
    """How many of so many mutated statements parse; the others are syntax errors that point into the text."""
    draw = random.Random(f"{seed}:statements")
    parsed = 0
    for _ in range(count):
        cql = mutated(draw)
        found = parse_or_error(cql)
        parsed += isinstance(found, ast.Node)
        if isinstance(found, CqlSyntaxError):
            lines = cql.split("\n")
            assert 1 <= found.line <= len(lines), cql
            assert 1 <= found.column <= len(lines[found.line - 1]) + 1, cql
        assert all(piece.text in cql for piece in split(cql))
    return parsed


def test_fuzzed_statements_give_syntax_errors_at_worst() -> None:
    parsed = survived(INPUTS, SEED)
    assert INPUTS // 40 < parsed < INPUTS - INPUTS // 40


@given(st.text(st.sampled_from("aB0.-'\"$(){}[]<>=,;:?/*+ \n_ex"), max_size=60))
@settings(max_examples=300)
def test_any_text_is_a_statement_or_an_error(text: str) -> None:
    for cql in (text, f"SELECT {text}", f"INSERT INTO t (a) VALUES ({text})"):
        assert isinstance(parse_or_error(cql), (ast.Node, CqlSyntaxError, InvalidRequestError))


# --- scripts


def pieces(script: str) -> list[tuple[str, bool]]:
    return [(piece.text, piece.ended) for piece in split(script)]


def test_scripts_are_split_at_semicolons_that_end_statements() -> None:
    script = (
        "SELECT ';' FROM t; -- a; comment\n"
        'USE "a;b"; /* ; */ CONSISTENCY QUORUM;\n;;'
        "BEGIN BATCH USING TIMESTAMP 1 INSERT INTO t (a) VALUES ($$;$$); DELETE FROM t WHERE a = 1; "
        "APPLY BATCH; BEGIN UNLOGGED BATCH APPLY BATCH; SELECT 1"
    )
    assert pieces(script) == [
        ("SELECT ';' FROM t", True),
        ('USE "a;b"', True),
        ("CONSISTENCY QUORUM", True),
        (
            (
                "BEGIN BATCH USING TIMESTAMP 1 INSERT INTO t (a) VALUES ($$;$$); "
                "DELETE FROM t WHERE a = 1; APPLY BATCH"
            ),
            True,
        ),
        ("BEGIN UNLOGGED BATCH APPLY BATCH", True),
        ("SELECT 1", False),
    ]
    assert split(script)[1] == Piece('USE "a;b"', ast.At(2, 1), ended=True, start=script.index("USE"))
    assert (split(script)[2].at.line, split(script)[2].at.column) == (2, 20)


@pytest.mark.parametrize(
    "text",
    ["SELECT 'abc; ", 'SELECT "a; x', "SELECT $$a; $ b", "SELECT /* ; ", "'", "BEGIN BATCH DELETE a; "],
)
def test_what_was_begun_and_not_ended_goes_on(text: str) -> None:
    assert pieces(f"USE k; {text}") == [("USE k", True), (text.rstrip(), False)]


@pytest.mark.parametrize("text", ["", "  \n", ";", " ; ;\n", "-- nothing", "/* nothing */ ;"])
def test_nothing_is_no_statement(text: str) -> None:
    assert split(text) == ()
