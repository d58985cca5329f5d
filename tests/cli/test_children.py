"""What peers say is kept in files of a bounded size, whatever becomes of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.children import RotatingLog


def test_a_log_that_is_full_gives_way_to_another(tmp_path: Path) -> None:
    path = tmp_path / "n1.log"
    path.write_bytes(b"from before\n")
    with RotatingLog(path, bytes_max=20) as log:
        for line in (b"one\n", b"two two\n", b"three\n", b"four\n"):
            log.write(line)
    assert path.read_bytes() == b"three\nfour\n"
    assert (tmp_path / "n1.log.1").read_bytes() == b"from before\none\ntwo two\n"


def test_what_cannot_be_written_or_renamed_stops_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "away" / "n1.log"
    with RotatingLog(path, bytes_max=10) as log:
        log.write(b"lost: there is no such folder\n")
        path.parent.mkdir()
        log.write(b"first, and long\n")

        def refused(*_: object) -> None:
            raise OSError("read-only")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", refused)
            log.write(b"lost, as it was to go to another file\n")
            log.write(b"and on\n")
        for number in range(2):
            log.write(b"%d-----------\n" % number)
    assert path.read_bytes() == b"1-----------\n"
    assert path.with_name("n1.log.1").read_bytes() == b"first, and long\nand on\n0-----------\n"
    assert capsys.readouterr().err.count(os.fspath(path)) == 2
