"""Aggregations: what is asked of all documents that match, and the partial answers that merge.

Each peer computes a `Partial` over its own documents; partials of disjoint documents add up by
index/merging.py, in any order, to that of all of them, and only then become the answer in Elasticsearch's
form. What cannot be added up exactly in little space is kept as a sketch: percentiles of many values as a
DDSketch (Masson et al. 2019, relative error of values 1 %), cardinality as a set of 64-bit hashes, and above
DISTINCT_EXACT_MAX as HyperLogLog (Flajolet et al. 2007, 2^14 registers, standard error 0.8 %).

Buckets are keyed by values. The `inside` of a bucket aggregation is computed per bucket. A document with
several values counts once in each bucket that any of them falls in. `view` is as in index/query.py; "" is
any.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from index.query import Hit, Query, SortKey, SortValue, Value
from query.zones import UTC_ZONE, Zone

BUCKETS_MAX: Final = 10_000
"""Buckets of one partial aggregation, at one peer. Terms beyond are dropped (the rarest) and counted in
`others`; of the others more are refused.
"""

BUCKETS_IN_ALL_MAX: Final = 65_536
"""Buckets of one search at one peer, nested ones too; more are refused."""

DISTINCT_EXACT_MAX: Final = 4_096
HLL_BITS: Final = 14
SKETCH_ACCURACY: Final = 0.01
SKETCH_EXACT_MAX: Final = 500


# --- asked


class TermsOf(msgspec.Struct, frozen=True, tag="terms"):
    """A bucket per value (EXACT, NUMBER, DATE, BOOLEAN).

    `order` is pairs of what (`_count`, `_key`, or the name of a metric inside, with `.field` for stats) and
    whether descending. `include` and `exclude` are values, or an expression of text (index/regexes.py).
    """

    field: str
    view: str = ""
    size: int = 10
    order: tuple[tuple[str, bool], ...] = (("_count", True), ("_key", False))
    count_min: int = 1
    missing: Value | None = None
    inside: Aggregations = ()
    include: Choice | None = None
    exclude: Choice | None = None


Choice = tuple[Value, ...] | str

Order = tuple[tuple[str, bool], ...]

BY_KEY: Final[Order] = (("_key", False),)


class RangesOf(msgspec.Struct, frozen=True, tag="range"):
    """A bucket per range: its name, low (included), high (excluded); NUMBER or DATE. `format` is how dates
    are shown, in `zone`.
    """

    field: str
    view: str
    ranges: tuple[tuple[str, float | None, float | None], ...]
    inside: Aggregations = ()
    keyed: bool = False
    format: str = ""
    zone: Zone = UTC_ZONE


class HistogramOf(msgspec.Struct, frozen=True, tag="histogram"):
    """A bucket per interval of numbers; a bucket's key is its low end. `extended` are bounds between which
    there are empty buckets, too, `hard` such beyond which there are none.
    """

    field: str
    interval: float
    offset: float = 0.0
    count_min: int = 0
    inside: Aggregations = ()
    missing: float | None = None
    extended: Bounds | None = None
    hard: Bounds | None = None
    order: Order = BY_KEY
    keyed: bool = False


Bounds = tuple[float | None, float | None]


class DatesOf(msgspec.Struct, frozen=True, tag="date_histogram"):
    """A bucket per interval of time. Its key is its beginning, in microseconds since 1970 UTC.

    `calendar` is minute, hour, day, week (from Monday), month, quarter or year of a zone; or "", then
    intervals are `interval_us` long. All begin `offset_us` later. Bounds are as in HistogramOf.
    """

    field: str
    calendar: str = ""
    interval_us: int = 0
    zone: Zone = UTC_ZONE
    count_min: int = 0
    inside: Aggregations = ()
    offset_us: int = 0
    missing: int | None = None
    extended: Bounds | None = None
    hard: Bounds | None = None
    order: Order = BY_KEY
    keyed: bool = False
    format: str = ""


class Source(msgspec.Struct, frozen=True):
    """What a composite combines: the keys of buckets of TermsOf, HistogramOf or DatesOf. With `missing`
    documents without any have null.
    """

    name: str
    of: TermsOf | HistogramOf | DatesOf
    descending: bool = False
    missing: bool = False
    missing_first: bool = True


class CompositeOf(msgspec.Struct, frozen=True, tag="composite"):
    """A bucket per combination of what its sources say of a document: the first `size` after `after`
    (index/composites.py).
    """

    sources: tuple[Source, ...]
    size: int = 10
    after: tuple[SortValue, ...] | None = None
    inside: Aggregations = ()


class Filtered(msgspec.Struct, frozen=True, tag="filters"):
    """A bucket per named query (planned, where peers see it), and one of the name `other`, if there is one,
    for what is in none.
    """

    filters: tuple[tuple[str, Query], ...]
    inside: Aggregations = ()
    other: str = ""
    anonymous: bool = False


class NestedOf(msgspec.Struct, frozen=True, tag="nested"):
    """One bucket, of the objects at a path: each counts as a document."""

    path: str
    inside: Aggregations = ()


class GlobalOf(msgspec.Struct, frozen=True, tag="global"):
    """One bucket, of all documents, whatever the query: a question of its own, so no peer sees it."""

    inside: Aggregations = ()


class Without(msgspec.Struct, frozen=True, tag="missing"):
    """One bucket, of the documents that have no value in this field."""

    field: str
    inside: Aggregations = ()


class StatsOf(msgspec.Struct, frozen=True, tag="stats"):
    """Count, sum, least, greatest and squares of the numbers, the dates, or (view "") of dates where there
    are no numbers. `kind` is what is shown: stats, extended_stats (with bounds of `sigma` deviations), min,
    max, sum, avg, value_count.
    """

    field: str
    view: str = "number"
    kind: str = "stats"
    missing: float | None = None
    sigma: float = 2.0


class PercentilesOf(msgspec.Struct, frozen=True, tag="percentiles"):
    """Values below which these percentages of all lie; with `ranks` instead the percentage below each."""

    field: str
    view: str = "number"
    percents: tuple[float, ...] = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
    ranks: bool = False
    missing: float | None = None
    keyed: bool = True


class WeightedOf(msgspec.Struct, frozen=True, tag="weighted_avg"):
    """The average of numbers that count as often as another number of the same document says."""

    value: str
    weight: str
    value_missing: float | None = None
    weight_missing: float | None = None


class DistinctOf(msgspec.Struct, frozen=True, tag="cardinality"):
    """How many different values there are."""

    field: str
    view: str = ""
    missing: Value | None = None


class TopHitsOf(msgspec.Struct, frozen=True, tag="top_hits"):
    """The first documents, in an order of their own (none: by score), without the very first `offset`."""

    size: int = 3
    sort: tuple[SortKey, ...] = ()
    source: tuple[tuple[str, ...], tuple[str, ...]] | bool = True
    offset: int = 0


class PipelineOf(msgspec.Struct, frozen=True, tag="pipeline"):
    """What is computed of the answers of others, when those are whole (index/pipelines.py): no peer sees it.

    `paths` lead to what it is computed of, by name ("" if there is one); `options` are those of its kind.
    """

    kind: str
    paths: tuple[tuple[str, str], ...]
    options: dict[str, Any] = {}


Aggregation = (
    TermsOf
    | RangesOf
    | HistogramOf
    | DatesOf
    | CompositeOf
    | Filtered
    | Without
    | NestedOf
    | GlobalOf
    | StatsOf
    | PercentilesOf
    | WeightedOf
    | DistinctOf
    | TopHitsOf
    | PipelineOf
)

Aggregations = tuple[tuple[str, Aggregation], ...]
"""Named, in the order asked."""


# --- partial answers


class Bucket(msgspec.Struct, frozen=True, array_like=True):
    """A bucket: its key, how many documents are in it, and what was asked inside it."""

    key: SortValue
    count: int
    inside: Partials = {}


class Buckets(msgspec.Struct, frozen=True, tag="buckets"):
    """Of TermsOf, HistogramOf, DatesOf, CompositeOf (keys are values), RangesOf, Filtered, Without, NestedOf
    (keys are names).

    `others` counts the documents of buckets that were dropped, `error` is the greatest count that a dropped
    one can have.
    """

    buckets: tuple[Bucket, ...]
    others: int = 0
    error: int = 0


class Moments(msgspec.Struct, frozen=True, tag="moments"):
    """Of StatsOf. `dates` where numbers were asked for, there are none, and dates will do."""

    count: int = 0
    total: float = 0.0
    low: float | None = None
    high: float | None = None
    squares: float = 0.0
    dates: Moments | None = None


class Weighted(msgspec.Struct, frozen=True, tag="weighted"):
    """Of WeightedOf: the sum of values times weights, and that of weights."""

    total: float = 0.0
    weights: float = 0.0


class Sketch(msgspec.Struct, frozen=True, tag="sketch"):
    """Of PercentilesOf: all values, ascending, where they are few (SKETCH_EXACT_MAX); else how many have
    which logarithm (base (1 + a) / (1 - a) of accuracy a, rounded up), positive and negative (of the absolute
    value), how many are 0, and the least and greatest.
    """

    positive: dict[int, int] = {}
    negative: dict[int, int] = {}
    zeros: int = 0
    low: float | None = None
    high: float | None = None
    exact: tuple[float, ...] = ()


class Distinct(msgspec.Struct, frozen=True, tag="distinct"):
    """Of DistinctOf: the hashes, or the registers if they are many. See index/sketches.py."""

    hashes: tuple[int, ...] = ()
    registers: bytes = b""


class Top(msgspec.Struct, frozen=True, tag="top"):
    """Of TopHitsOf: the first, in order, and how many there are to choose from."""

    hits: tuple[Hit, ...]
    total: int


Partial = Buckets | Moments | Weighted | Sketch | Distinct | Top

Partials = dict[str, Partial]
"""By name. In a Bucket they stand one level down, so this is as deep as the question was."""
