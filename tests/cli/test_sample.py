"""The sample is loaded once, and to its end."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from cli import sample
from cli.output import console
from tests.cli.fake import FakeCluster

ROWS = 1_500
EVERYWHERE = dict.fromkeys(("movies", "docs.movies", "cities", "docs.cities"), ROWS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small sample in place of the real one."""
    for bucket in sample.FILES:
        lines = [json.dumps({"id": f"{bucket}/{n}", "n": n}) for n in range(ROWS)]
        (tmp_path / f"{bucket}.ndjson.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    return tmp_path


def load(cluster: FakeCluster, folder: Path) -> str:
    said: list[str] = []
    loading = sample.Sample([cluster.url], folder / "data", console(), said.append)
    loading.start()
    loading.join()
    assert len(said) == 1
    return said[0]


def test_it_is_loaded_once(cluster: FakeCluster, folder: Path) -> None:
    said = load(cluster, folder)
    assert "bucket movies: 1,500 records loaded" in said and "collection cities: 1,500 records" in said
    assert {name: len(keys) for name, keys in cluster.buckets.items()} == EVERYWHERE
    cluster.buckets["movies"].clear()  # what a user deleted stays deleted
    assert load(cluster, folder) == ""
    assert cluster.buckets["movies"] == {}
    assert list((folder / "data").iterdir()) == []


def test_a_load_that_broke_off_goes_on_at_the_next_start(cluster: FakeCluster, folder: Path) -> None:
    cluster.fault = lambda number: 403 if number > 3 else 0
    assert "the sample is not loaded: as asked by the test" in load(cluster, folder)
    assert 0 < len(cluster.buckets["movies"]) < ROWS
    cluster.fault = lambda number: 0
    load(cluster, folder)
    assert {name: len(keys) for name, keys in cluster.buckets.items()} == EVERYWHERE


def test_the_state_of_another_samples_load_is_not_gone_on_with(cluster: FakeCluster, folder: Path) -> None:
    cluster.fault = lambda number: 403
    load(cluster, folder)
    (folder / "movies.ndjson.gz").write_bytes(gzip.compress(b'{"id":"new","n":1}'))
    cluster.fault = lambda number: 0
    assert "bucket movies: 1 record loaded" in load(cluster, folder)


def test_an_installation_without_it_says_so(cluster: FakeCluster, folder: Path) -> None:
    for file in folder.glob("*.gz"):
        file.unlink()
    assert "this installation has no movies.ndjson.gz" in load(cluster, folder)


def test_nobody_there_is_told_and_stops_nothing(folder: Path) -> None:
    said: list[str] = []
    loading = sample.Sample(["http://127.0.0.1:1"], folder / "data", console(), said.append)
    loading.start()
    loading.join()
    assert said[0].startswith("the sample is not loaded: no peer answers at http://127.0.0.1:1")
