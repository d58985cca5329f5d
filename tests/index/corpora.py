"""Random documents and queries, for tests that compare two ways of answering."""

from __future__ import annotations

from random import Random
from typing import Any

from core.json_values import render
from index.aggregation import (
    Aggregation,
    DatesOf,
    DistinctOf,
    Filtered,
    HistogramOf,
    NestedOf,
    PercentilesOf,
    RangesOf,
    StatsOf,
    TermsOf,
    TopHitsOf,
    Without,
)
from index.changing import Change
from index.query import (
    ALL,
    BOOLEAN,
    DATE,
    EXACT,
    NUMBER,
    TEXT,
    WHOLE,
    All,
    Bool,
    Boost,
    Boosting,
    Constant,
    DisMax,
    Exists,
    Fuzzy,
    Ids,
    InFields,
    Nested,
    Nothing,
    Phrase,
    Prefix,
    Query,
    Range,
    Regexp,
    SortKey,
    Statistics,
    Term,
    TermKey,
    Terms,
    Wildcard,
    terms_of,
)
from index.regexes import term_regex
from lsm.keys import row_key
from query.zones import zone_of
from ring.tokens import token_of as token_of_partition

WORDS = [
    "space",
    "ship",
    "star",
    "dune",
    "world",
    "king",
    "sand",
    "ocean",
    "night",
    "river",
    "tower",
    "stone",
    "light",
    "storm",
    "garden",
]
NAMES = ["alpha", "Beta", "gamma.ray", "delta*", "eps ilon", "한글", "ze\x01ta", "a" * 300]
TEXTS = ("title", "body", "tags", "notes.deep")


def key_of(number: int, table: int = 7) -> bytes:
    partition = f"id-{number}".encode()
    return row_key(table, token_of_partition(partition), partition)


def document(random: Random) -> dict[str, Any]:
    """A document with some of everything."""

    def text(longest: int) -> str:
        count = random.randint(1, longest)
        return " ".join(WORDS[min(int(random.expovariate(0.3)), len(WORDS) - 1)] for _ in range(count))

    found: dict[str, Any] = {"title": text(6), "year": random.randint(1990, 2005)}
    if random.random() < 0.8:
        found["body"] = text(80)
    if random.random() < 0.5:
        found["tags"] = [random.choice(WORDS) for _ in range(random.randint(0, 4))]
    if random.random() < 0.3:
        found["notes"] = {
            "deep": [text(5), {"at": "x"}],
            "score": random.choice([-1.5, 0, 2, 2.0, 1e30, 10**25]),
        }
    if random.random() < 0.4:
        found["parts"] = [
            {"kind": random.choice("abc"), "size": random.randint(1, 4), "of": text(3)}
            for _ in range(random.randint(0, 3))
        ]
    if random.random() < 0.5:
        found["name"] = random.choice(NAMES)
    if random.random() < 0.5:
        found["at"] = f"20{random.randint(10, 20)}-0{random.randint(1, 9)}-11T10:00:00Z"
    if random.random() < 0.5:
        found["ok"] = random.random() < 0.5
    if random.random() < 0.1:
        found["nothing"] = None
    return found


def changes(random: Random, count: int, of: int) -> list[Change]:
    """Puts, puts again and deletes of some of so many keys."""
    found = []
    for _ in range(count):
        key = key_of(random.randrange(of))
        gone = random.random() < 0.2
        found.append(Change(key, None if gone else render(document(random))))
    return found


def leaf(random: Random) -> Query:
    """A query without others inside."""
    field = random.choice([*TEXTS, ALL, WHOLE, "absent"])
    word = random.choice(WORDS)
    year = random.randint(1989, 2006)
    kinds: list[Any] = [
        lambda: Term(field, TEXT, word),
        lambda: Term(field, TEXT, word),
        lambda: Term("year", NUMBER, year),
        lambda: Term("name", EXACT, random.choice(NAMES)),
        lambda: Term("ok", BOOLEAN, True),
        lambda: Terms("year", NUMBER, (year, year + 1, 2.5)),
        lambda: Terms(field, TEXT, (word, random.choice(WORDS))),
        lambda: Phrase(field, ((0, word), (1, random.choice(WORDS)))),
        lambda: Phrase(field, ((0, word), (2, random.choice(WORDS)))),
        lambda: Phrase(field, ((0, word), (1, random.choice(WORDS))), slop=random.randint(1, 3)),
        lambda: Phrase(field, ((0, word), (0, random.choice(WORDS)), (1, random.choice(WORDS)))),
        lambda: Phrase(field, ((0, word), (1, random.choice(WORDS)[:2])), prefix=True),
        lambda: Prefix(field, TEXT, word[:2]),
        lambda: Prefix("name", EXACT, random.choice(NAMES)[:2]),
        lambda: Wildcard(field, TEXT, random.choice(["s*e", "?tar", "*o*", "s\\*e"])),
        lambda: Wildcard("name", EXACT, random.choice(["*a*", "delta\\*", "gamma?ray", "eps *"])),
        lambda: Regexp(field, TEXT, term_regex(random.choice(["s.*e", "[a-m]+", "(st|sp)ar?.*", ".{4}"]))),
        lambda: Regexp(
            "name", EXACT, term_regex(random.choice([".*A.*", "eps .+", "[^a-c].*"]), ignore_case=True)
        ),
        lambda: Nested(
            "parts",
            Bool(
                (
                    Term("parts.kind", EXACT, random.choice("abc")),
                    Term("parts.size", NUMBER, random.randint(1, 4)),
                )
            ),
        ),
        lambda: Nested(
            "parts",
            Bool((Term("parts.of", TEXT, word),), must_not=(Term("parts.kind", EXACT, "a"),)),
            random.choice(["avg", "max", "min", "sum", "none"]),
        ),
        lambda: InFields(random.choice(["t*", "notes.*", "*o*", "zz*"]), Term(ALL, TEXT, word)),
        lambda: Fuzzy(field, TEXT, word[:-1] + "x", random.randint(0, 2), random.randint(0, 1)),
        lambda: Fuzzy(field, TEXT, word[1] + word[0] + word[2:], 1, 0, random.random() < 0.5),
        lambda: Fuzzy("name", EXACT, "Bita", 1),
        lambda: Range("year", NUMBER, year, year + 5, random.random() < 0.5, random.random() < 0.5),
        lambda: Range("notes.score", NUMBER, random.choice([-2, 0, 1.5]), random.choice([None, 2, 10**26])),
        lambda: Range("name", EXACT, "b", random.choice([None, "f", "zz"])),
        lambda: Range("at", DATE, 1_400_000_000_000_000, random.choice([None, 1_500_000_000_000_000])),
        lambda: Exists(random.choice(["notes", "notes.deep", "name", "absent", "nothing"])),
        lambda: Ids(tuple(key_of(random.randrange(60)) for _ in range(3))),
        lambda: All(),
        lambda: Nothing(),
    ]
    made: Query = random.choice(kinds)()
    return made


def query(random: Random, depth: int = 2) -> Query:
    """A planned query."""
    if depth == 0 or random.random() < 0.3:
        return leaf(random)

    def some(most: int) -> tuple[Query, ...]:
        return tuple(query(random, depth - 1) for _ in range(random.randint(0, most)))

    kind = random.randrange(5)
    if kind == 0:
        should = some(3)
        return Bool(some(2), should, some(1), some(1), random.randint(0, len(should)))
    if kind == 1:
        return DisMax(some(3), random.choice([0.0, 0.3]))
    if kind == 2:
        return Boosting(query(random, depth - 1), query(random, depth - 1), 0.5)
    if kind == 3:
        return Constant(query(random, depth - 1), 3.0)
    return Boost(query(random, depth - 1), random.choice([0.0, 0.5, 2.0]))


def sort_key(random: Random) -> SortKey:
    """One sort key; some fields have several values, or none."""
    field, view = random.choice(
        [
            ("year", NUMBER),
            ("year", ""),
            ("name", ""),
            ("name", EXACT),
            ("tags", ""),
            ("at", DATE),
            ("ok", ""),
        ]
        + [("notes.score", NUMBER), ("absent", "")]
    )
    mode = random.choice(["", "", "", "min", "max"]) if view != "" or field == "tags" else ""
    missing = random.choice([None, None, None, 5]) if view == NUMBER else None
    return SortKey(field, view, random.random() < 0.5, random.random() < 0.3, mode, missing)


def aggregation(random: Random, depth: int = 1) -> Aggregation:
    """An aggregation, perhaps with others inside."""
    inside: Any = ()
    if depth and random.random() < 0.5:
        inside = (("in", aggregation(random, depth - 1)),)
    word = Term("body", TEXT, random.choice(WORDS))
    near = Phrase("body", ((0, "space"), (1, "ship")), slop=2)
    kinds: list[Any] = [
        lambda: TermsOf(random.choice(["year", "tags", "name", "ok", "absent"]), inside=inside),
        lambda: TermsOf("year", NUMBER, missing=7, inside=inside),
        lambda: TermsOf("name", missing=random.choice(["none", "alpha"]), inside=inside),
        lambda: RangesOf("year", NUMBER, (("old", None, 1995), ("new", 1995, 2003)), inside),
        lambda: HistogramOf("year", 5, 1, inside=inside),
        lambda: HistogramOf("notes.score", 1e9, inside=inside),
        lambda: DatesOf("at", random.choice(["month", "year"]), inside=inside),
        lambda: Filtered((("a", word), ("b", near)), inside),
        lambda: Filtered((("a", word), ("b", All())), inside),
        lambda: Without(random.choice(["name", "notes", "year"]), inside),
        lambda: Filtered((("a", word), ("b", near)), inside, other="rest"),
        lambda: NestedOf("parts", inside),
        lambda: NestedOf("parts", (("of", TermsOf("parts.kind", inside=(("s", StatsOf("parts.size")),))),)),
        lambda: TermsOf("tags", include=term_regex("s.*"), exclude=("space",), inside=inside),
        lambda: HistogramOf("notes.score", 1.0, missing=5.0, hard=(0.0, 4.0), inside=inside),
        lambda: HistogramOf("year", 5, hard=(1995.0, None), inside=inside),
        lambda: DatesOf(
            "at", "month", zone=zone_of("Europe/Berlin") or (), offset_us=3_600_000_000, inside=inside
        ),
        lambda: DatesOf("at", "", 86_400_000_000, zone_of("+09:00") or (), missing=1_500_000_000_000_000),
        lambda: StatsOf(random.choice(["year", "notes.score", "tags"])),
        lambda: StatsOf("name", EXACT, "value_count"),
        lambda: StatsOf("notes.score", missing=random.choice([2.0, 2.5])),
        lambda: StatsOf(random.choice(["at", "year", "absent"]), ""),
        lambda: DistinctOf("tags", missing="none"),
        lambda: PercentilesOf(random.choice(["year", "notes.score"])),
        lambda: DistinctOf(random.choice(["year", "tags", "name"])),
        lambda: TopHitsOf(2, (SortKey("year", NUMBER),)),
    ]
    made: Aggregation = random.choice(kinds)()
    return made


def fields_in(asked: Query) -> tuple[str, ...]:
    """The fields whose lengths a query needs."""
    return tuple(dict.fromkeys(key.field for key in terms_of(asked)))


def terms_in(asked: Query) -> tuple[TermKey, ...]:
    """The terms whose weights a query needs."""
    return terms_of(asked)


__all__ = ["Statistics", "changes", "document", "fields_in", "key_of", "leaf", "query", "terms_in"]
