"""What an index holds, to compare with rows, and whether its files are what was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.changing import Change, hash_of
from index.mapping import DEFAULT, Rules, compile_mapping
from index.naive_segments import Kept, NaiveSegments
from index.segments import TantivyPlace, TantivySegments, damaged_files
from index.tiers import Tiers
from lsm.keys import TOKEN_MAX, TOKEN_MIN, row_key, token_of
from ring.tokens import token_of as token_of_partition

ALL = ((TOKEN_MIN, TOKEN_MAX),)


def rules() -> Rules:
    found = compile_mapping(DEFAULT)
    assert isinstance(found, Rules)
    return found


def key_of(number: int) -> bytes:
    name = b"k%d" % number
    return row_key(1, token_of_partition(name), name, b"")


def document_of(number: int) -> bytes:
    return b'{"title": "the book of %d", "n": %d}' % (number, number)


def changes(*numbers: int) -> list[Change]:
    return [Change(key_of(number), document_of(number)) for number in numbers]


@pytest.mark.parametrize("kind", ["tantivy", "naive"])
def test_both_tiers_tell_what_they_hold_without_what_is_hidden(kind: str, tmp_path: Path) -> None:
    durable = (
        TantivySegments(rules(), tmp_path) if kind == "tantivy" else NaiveSegments(rules(), Kept({}, 0, {}))
    )
    tiers = Tiers(rules(), durable)
    assert tiers.held(ALL) == {}
    tiers.commit(changes(*range(20)), 1)
    newer = b'{"title": "another"}'
    tiers.show([Change(key_of(3), newer), Change(key_of(4), None), *changes(20)], 2)
    wanted = {key_of(n): hash_of(document_of(n)) for n in range(21) if n != 4} | {key_of(3): hash_of(newer)}
    assert tiers.held(ALL) == wanted
    half = ((TOKEN_MIN, -1), (1_000, TOKEN_MAX))
    assert tiers.held(half) == {key: found for key, found in wanted.items() if not 0 <= token_of(key) < 1_000}
    below = {key: found for key, found in wanted.items() if token_of(key) < 0}
    assert tiers.held(((TOKEN_MIN, -1),)) == below and 0 < len(below) < len(wanted)


def test_a_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    tiers = TantivyPlace(tmp_path).open("one", rules())
    tiers.commit(changes(*range(20)), 1)
    tiers.commit([Change(key_of(3), None)], 2)
    tiers.close()
    folder = tmp_path / "one"
    assert tiers.damaged() == ()
    files = [file for file in sorted(folder.iterdir()) if len(file.name.partition(".")[0]) == 32]
    assert {file.suffix for file in files} >= {".store", ".idx", ".term", ".pos", ".fast"}
    for file in files:
        whole = file.read_bytes()
        end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")  # where the footer begins
        for at in (0, end // 2, end - 1, len(whole) - 1):
            broken = bytearray(whole)
            broken[at] ^= 4
            file.write_bytes(broken)
            assert damaged_files(folder) == (file.name,), at
        file.write_bytes(whole[:3])
        assert damaged_files(folder) == (file.name,)
        file.write_bytes(whole)
    assert damaged_files(folder) == ()
