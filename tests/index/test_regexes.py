"""Regular expressions over terms: what they mean, what is refused, and that a bomb is none."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings, strategies as st

from index.bounds import RefusedError
from index.encoding import escaped
from index.regexes import term_regex, term_test, wildcard_term_regex


def fits(pattern: str, text: str, *, ignore_case: bool = False, flags: tuple[str, ...] = ("ALL",)) -> bool:
    return term_test(term_regex(pattern, ignore_case=ignore_case, flags=flags))(escaped(text))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("qu.ck", "quick", True),
        ("qu.ck", "a quick one", False),
        ("qui", "quick", False),
        ("a b", "a b", True),
        ("a[ -]b", "a b", True),
        ("a[^x]b", "a b", True),
        ("a.b", "a\nb", True),
        ("a.*b", "a\n\nb", True),
        ("a..b", "a\nb", False),
        (r"a\sb", "a\tb", True),
        (r"a[\s]b", "a b", True),
        (r"\d{2,3}", "123", True),
        (r"\d{2,3}", "1234", False),
        (r"[\d-]+", "1-2", True),
        (r"\w+", "a_1", True),
        (r"\W", "a", False),
        (r"\D+", "ab", True),
        ("[^a-c]x", "dx", True),
        ("[^a-c]x", "ax", False),
        ("^a$", "^a$", True),
        ("(ab|cd)+", "abcd", True),
        ("(ab|)c", "c", True),
        ("()", "", True),
        ('"a.b"*', "a.ba.b", True),
        ('"a.b"', "axb", False),
        (r"a\.b", "axb", False),
        ("@x", "anything x", True),
        ("주문.*", "주문상세", True),
        ("[가-힣]+", "주문", True),
        ("a{0}b", "b", True),
        ("[]", "", None),
        ("[\U0001f600-\U0001f64f]", "\U0001f601", True),
    ],
)
def test_what_fits(pattern: str, text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(RefusedError):
            term_regex(pattern)
    else:
        assert fits(pattern, text) is expected


def test_case_and_flags() -> None:
    assert fits("qu[a-i]ck É", "QUICK é", ignore_case=True)
    assert not fits("quick", "Quick")
    assert fits("a@b", "a@b", flags=("NONE",))
    assert fits("a~b", "a~b", flags=("NONE",))
    assert term_test(wildcard_term_regex(r"a?c\**"))(escaped("AbC* and more"))


@pytest.mark.parametrize(
    ("pattern", "position", "said"),
    [
        ("a(b", 1, "not closed"),
        ("ab)", 2, "has no beginning"),
        ("a[b", 1, "not closed"),
        ("*a", 0, "has nothing before it"),
        ("a{2,1}", 1, "is the greater one"),
        ("a{9999}", 1, "up to 1000"),
        ("a{x}", 1, "belongs here"),
        ("[z-a]", 0, "no range"),
        ("a~b", 1, "is not supported"),
        ("<1-9>", 0, "is not supported"),
        ("a\\", 1, "nothing follows"),
        ('"a', 0, "not closed"),
        ("(" * 60 + ")" * 60, 51, "nested more than"),
        ("a" * 1001, -1, "at most 1000 characters"),
        ("((a{100}){100}){100}", -1, "too large"),
    ],
)
def test_what_is_refused(pattern: str, position: int, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        term_regex(pattern)
    assert said in refused.value.error.detail
    assert refused.value.error.position == position


def test_no_expression_takes_long() -> None:
    begun = time.process_time()
    assert not fits("(a+)+b", "a" * 5_000)
    assert not fits("(a|a)*(a|a)*(a|a)*c", "a" * 5_000)
    assert time.process_time() - begun < 1


SIMPLE = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "x", " "]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from("?*+")).map(lambda two: f"({two[0]}){two[1]}"),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(SIMPLE, st.text("abx \n", max_size=6))
@example("[^a]", "\n")
def test_the_common_notation_means_the_same(pattern: str, text: str) -> None:
    assert fits(pattern, text) is (re.fullmatch(pattern, text, re.DOTALL) is not None)
