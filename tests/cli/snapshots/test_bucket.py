"""Backups in S3-compatible storage: the same as in a folder, and clear words about what is refused."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.output import Failure
from cli.snapshots.folder import Folder
from cli.snapshots.places import Disk, Place, place_of
from tests.cli.snapshots.s3 import KEY, Storage, storage
from tests.cli.snapshots.test_folder import add, digest

pytest.importorskip("obstore")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with storage() as server:
        yield server


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, s3: Storage, tmp_path: Path) -> Place:
    return Disk(tmp_path / "place") if request.param == "disk" else place_of("s3://bucket/some/where", s3.url)


def test_snapshots_share_files_and_go_without_hurting_each_other(place: Place, tmp_path: Path) -> None:
    folder = Folder(place)
    assert folder.names() == []
    add(folder, "old", 1, b"shared", b"only old")
    add(folder, "new", 2, b"shared", b"only new")
    folder.add(digest(b"of none"), io.BytesIO(b"of none"))
    assert folder.names() == ["old", "new"]
    assert [size for _, size in place.below("files/")] and len(place.below("files/")) == 4
    folder.bring(digest(b"shared"), tmp_path / "file", linked=True)
    assert (tmp_path / "file").read_bytes() == b"shared"
    assert folder.delete("old") == len(b"only old") + len(b"of none")
    assert folder.names() == ["new"]
    assert folder.damaged(folder.manifests("new")) == []
    with pytest.raises(Failure, match="no whole snapshot called 'old'"):
        folder.manifests("old")
    with pytest.raises(FileNotFoundError):
        folder.bring(digest(b"only old"), tmp_path / "other", linked=False)
    with pytest.raises(Failure, match="already"):
        folder.begin("new")


def test_what_is_damaged_or_missing_is_told(place: Place) -> None:
    folder = Folder(place)
    add(folder, "one", 1, b"first", b"second", b"third")
    (first, second) = (f"files/{digest(data)[:2]}/{digest(data)}" for data in (b"first", b"second"))
    place.write(first, b"fi-st")
    place.delete([second])
    wrong = folder.damaged(folder.manifests("one"))
    assert len(wrong) == 2
    assert f"{first} in {place} is damaged (000000.sst of n1)" in wrong
    assert f"{second} in {place} is missing (000001.sst of n1)" in wrong
    with pytest.raises(Failure, match="arrived damaged"):
        folder.add(digest(b"x"), io.BytesIO(b"y"))
    assert not folder.has(digest(b"x"))


def test_a_large_file_goes_in_parts_and_comes_back(s3: Storage, tmp_path: Path) -> None:
    folder = Folder(place_of("s3://bucket", s3.url))
    data = bytes(range(251)) * 60_000  # 15 MB
    assert folder.add(digest(data), io.BytesIO(data)) == len(data)
    assert s3.uploads == 1, "in parts"
    folder.bring(digest(data), tmp_path / "back", linked=True)
    assert (tmp_path / "back").read_bytes() == data


def test_who_may_not_hears_so_and_where_the_keys_come_from(
    s3: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    with pytest.raises(Failure, match="refuses") as refused:
        Folder(place_of("s3://bucket/x", s3.url)).names()
    assert "AWS_ACCESS_KEY_ID" in str(refused.value.hint)


def test_a_place_that_is_none_and_an_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="names no bucket"):
        place_of("s3://", "")
    monkeypatch.setitem(sys.modules, "cli.snapshots.bucket", None)
    with pytest.raises(Failure) as missing:
        place_of("s3://bucket", "")
    assert "sullae-server[s3]" in str(missing.value.hint)
