"""Text as indexes compare it."""

from __future__ import annotations

import pytest

from core.plain_text import plain
from core.schema import IndexTarget

ALL = IndexTarget("t", fold=True, normalize=True, ascii=True)


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        ("Straße", IndexTarget("t"), "Straße"),
        ("Straße", IndexTarget("t", fold=True), "strasse"),
        ("Straße", IndexTarget("t", ascii=True), "Strasse"),
        ("e\u0301", IndexTarget("t", normalize=True), "é"),
        ("e\u0301", IndexTarget("t", ascii=True), "e\u0301"),
        ("E\u0301", ALL, "e"),
        ("Ærøskøbing “Łódź”", ALL, 'aeroskobing "lodz"'),
        ("ﬁn ① 서울 日本", ALL, "fin 1 서울 日本"),
    ],
)
def test_what_becomes_of_it(text: str, target: IndexTarget, expected: str) -> None:
    assert plain(text.encode(), target).decode() == expected
