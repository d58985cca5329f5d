"""kill -9 of a process that commits without end: what is found is some commit, whole, and what it covers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from index.asking import Ask, Found
from index.mapping import DEFAULT, Rules, compile_mapping
from index.query import NUMBER, Range, Statistics
from index.segments import TantivySegments
from lsm.keys import TOKEN_MAX, TOKEN_MIN

PER_COMMIT = 7

WRITER = f"""
import sys
from pathlib import Path
from index.changing import Change
from index.mapping import DEFAULT, compile_mapping
from index.segments import TantivySegments
from tests.index.corpora import key_of

segments = TantivySegments(compile_mapping(DEFAULT), Path(sys.argv[1]))
number = segments.covers()
while True:
    number += 1
    some = [Change(key_of(n), b'{{"n": %d, "at": %d}}' % (n, number)) for n in range({PER_COMMIT} * number)]
    segments.commit(some[-{PER_COMMIT} - 3 :], number)
    print(number, flush=True)
"""


@pytest.mark.process
def test_whatever_moment_a_process_is_killed_at(tmp_path: Path) -> None:
    rules = compile_mapping(DEFAULT)
    assert isinstance(rules, Rules)
    told = 0
    for life in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "index")],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).resolve().parents[2],
        )
        assert process.stdout is not None
        for _ in range(4):
            told = int(process.stdout.readline())
        time.sleep(0.003 * life)  # somewhere inside of the next commit
        process.kill()
        process.wait()
        process.stdout.close()
        segments = TantivySegments(rules, tmp_path / "index")
        covers = segments.covers()
        assert covers >= told
        assert segments.documents() == PER_COMMIT * covers
        for low, high, count in ((covers, None, PER_COMMIT + 3), (covers + 1, None, 0)):
            ask = Ask(Range("at", NUMBER, low, high), Statistics(), 0)
            found = segments.search(ask, ((TOKEN_MIN, TOKEN_MAX),))
            assert isinstance(found, Found) and found.total == min(count, PER_COMMIT * covers)
        segments.close()
