"""The folder of backups: files once each, checked, kept as long as a snapshot needs them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from cli.output import Failure
from cli.snapshots.folder import Folder, Snapshot
from server.snapshots.taking import FORMAT, HASH_BYTES, About, File, Manifest


def digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()


def add(folder: Folder, name: str, at_us: int, *contents: bytes) -> None:
    """A whole snapshot of one peer with these files."""
    folder.begin(name)
    files = []
    for number, data in enumerate(contents):
        if not folder.has(digest(data)):
            folder.add(digest(data), io.BytesIO(data))
        files.append(File(f"{number:06}.sst", len(data), digest(data)))
    manifest = Manifest(FORMAT, name, at_us, About("c", "00", "n1", "11", 1), tuple(files))
    folder.put(name, manifest)
    whole = Snapshot(name, at_us, at_us + 1, "c", ("n1",), (), sum(map(len, contents)))
    folder.complete(whole, [manifest])


def test_snapshots_share_files_and_deleting_one_leaves_what_others_need(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    add(folder, "old", 1, b"shared", b"only old")
    add(folder, "new", 2, b"shared", b"only new")
    assert folder.names() == ["old", "new"]
    assert len(list(tmp_path.glob("files/*/*"))) == 3
    assert folder.delete("old") == len(b"only old")
    assert folder.names() == ["new"]
    assert folder.damaged(folder.manifests("new")) == []
    with pytest.raises(Failure, match="no whole snapshot called 'old'"):
        folder.manifests("old")


def test_a_snapshot_without_its_last_file_is_none(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    add(folder, "whole", 1, b"data")
    folder.begin("begun")
    folder.add(digest(b"more"), io.BytesIO(b"more"))
    assert folder.names() == ["whole"]
    assert folder.sweep() == len(b"more")
    folder.begin("begun")
    with pytest.raises(Failure, match="already"):
        folder.begin("whole")
    with pytest.raises(Failure, match="cannot be a snapshot's name"):
        folder.begin("../elsewhere")


def test_a_snapshot_whose_files_were_deleted_meanwhile_is_not_told_to_be_whole(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    add(folder, "old", 1, b"shared")
    folder.begin("new")
    assert folder.has(digest(b"shared"))
    folder.delete("old")
    files = (File("1.sst", 6, digest(b"shared")),)
    manifest = Manifest(FORMAT, "new", 2, About("c", "00", "n1", "11", 1), files)
    with pytest.raises(Failure, match="1 files that the snapshot needs were deleted"):
        folder.complete(Snapshot("new", 2, 3, "c", ("n1",), (), 6), [manifest])
    assert folder.names() == []


def test_files_are_checked_as_they_come_and_when_asked(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with pytest.raises(Failure, match="damaged"):
        folder.add(digest(b"sent"), io.BytesIO(b"sEnt"))
    assert not list(tmp_path.glob("files/*/*")), "nothing of it is kept"
    add(folder, "one", 1, b"first", b"second")
    files = {file.name: file for file in tmp_path.glob("files/*/*")}
    files[digest(b"first")].write_bytes(b"fIrst")
    files[digest(b"second")].unlink()
    problems = folder.damaged(folder.manifests("one"))
    assert ["is damaged" in text for text in problems] == [True, False]
    assert "is missing (000001.sst of n1)" in problems[1]
    (tmp_path / "snapshots" / "one" / "n1.json").write_bytes(b"{")
    with pytest.raises(Failure, match="cannot be used"):
        folder.manifests("one")


@pytest.mark.parametrize(
    "file", [File("../../evil", 1, "0" * 64), File("a.sst", 1, "../" + "0" * 61), File("a.sst", 1, "0" * 63)]
)
def test_a_manifest_leads_nowhere_else(tmp_path: Path, file: File) -> None:
    folder = Folder(tmp_path)
    add(folder, "one", 1, b"data")
    folder.put("one", Manifest(FORMAT, "one", 1, About("c", "00", "n1", "11", 1), (file,)))
    with pytest.raises(Failure, match="cannot be a file of a snapshot"):
        folder.manifests("one")
