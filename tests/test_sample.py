"""The sample files: what the documentation says of them is true."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest


def records(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("name", "count"), [("movies", 3_201), ("cities", 4_095)])
def test_every_record_has_a_key_of_its_own(project: Path, name: str, count: int) -> None:
    keys = [record["id"] for record in records(project / "sample" / f"{name}.ndjson.gz")]
    assert len(keys) == len(set(keys)) == count
    assert all(isinstance(key, str) and key for key in keys)
    assert f"{count:,}" in (project / "sample" / "README.md").read_text()


def test_korean_text_is_there(project: Path) -> None:
    cities = {record["id"]: record for record in records(project / "sample" / "cities.ndjson.gz")}
    assert "서울" in cities["KR/Seoul"]["alternatenames"]
    hangul = [c for c in cities.values() if any("가" <= ch <= "힣" for n in c["alternatenames"] for ch in n)]
    assert len(hangul) > 1_000


def test_the_sample_is_small(project: Path) -> None:
    assert sum(path.stat().st_size for path in (project / "sample").iterdir() if path.is_file()) < 2_000_000
