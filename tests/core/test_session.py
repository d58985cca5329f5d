"""Session tokens, and that the levels of a session overlap whatever was asked for."""

from __future__ import annotations

from itertools import chain, combinations, product

import pytest
from hypothesis import given, strategies as st

from core.consistency import Level, need
from core.session import EVERYWHERE, TOKEN_CHARS_MAX, Token, decode_token, encode_token, session_level

PLAIN = [level for level in Level if level not in (Level.SERIAL, Level.LOCAL_SERIAL)]
READS = [level for level in PLAIN if level is not Level.ANY]
TWO_PLACES = (("east", 3), ("west", 3))
UNEVEN = (("east", 3), ("west", 2))
ONE_PLACE = (("", 3),)

tokens = st.builds(Token, st.integers(0, 2**63 - 1), st.booleans(), st.text(max_size=60), st.booleans())


@given(tokens)
def test_a_token_is_what_it_was(token: Token) -> None:
    text = encode_token(token)
    assert decode_token(text) == token
    assert text.isascii() and not set(text) & set(' ,;="')
    if token.local.isascii():
        assert len(text) <= TOKEN_CHARS_MAX


@given(st.text(max_size=300))
def test_anything_else_is_none(text: str) -> None:
    assert text == "new" or decode_token(text) is None


def test_a_token_with_one_character_changed_is_none() -> None:
    text = encode_token(Token(17, True, "east", True))
    for at in range(len(text)):
        other = "A" if text[at] != "A" else "B"
        changed = decode_token(text[:at] + other + text[at + 1 :])
        assert changed is None or (at == len(text) - 1 and changed == decode_token(text))


def replicas(factors: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    return [(name, n) for name, count in factors for n in range(count)]


def enough(level: Level, factors: tuple[tuple[str, int], ...], here: str) -> list[frozenset[tuple[str, int]]]:
    """The smallest sets of replicas that meet a level."""
    wanted, everybody = need(level, factors, here), replicas(factors)
    found: list[frozenset[tuple[str, int]]] = []
    for some in chain.from_iterable(combinations(everybody, n) for n in range(1, len(everybody) + 1)):
        counts: dict[str, int] = {}
        for name, _ in some:
            counts[name] = counts.get(name, 0) + 1
        if wanted.met(counts, here) and not any(one <= frozenset(some) for one in found):
            found.append(frozenset(some))
    return found


@pytest.mark.parametrize("factors", [ONE_PLACE, TWO_PLACES, UNEVEN, (("", 1),), (("", 2),), (("", 5),)])
def test_whatever_was_written_or_read_before_is_seen_by_every_read_after(
    factors: tuple[tuple[str, int], ...],
) -> None:
    places = [name for name, _ in factors]
    for first, second, here, there in product(PLAIN, READS, places, places):
        for first_reads in (False, True):
            if first_reads and first is Level.ANY:
                continue
            done, token = session_level(Token(), first, factors, here, is_read=first_reads)
            then, _ = session_level(token, second, factors, there, is_read=True)
            for some in enough(done, factors, here):
                for others in enough(then, factors, there):
                    assert some & others, (first, done, here, second, then, there)


def test_a_third_step_overlaps_the_first_two() -> None:
    """The token says where local levels were used, and whether others were, however many steps ago."""
    for levels in product((Level.ONE, Level.QUORUM, Level.LOCAL_ONE, Level.EACH_QUORUM), repeat=3):
        for where in product(("east", "west"), repeat=3):
            token, done = Token(), []
            for level, here in zip(levels[:2], where[:2], strict=True):
                raised, token = session_level(token, level, TWO_PLACES, here, is_read=False)
                done.append(enough(raised, TWO_PLACES, here))
            last, _ = session_level(token, levels[2], TWO_PLACES, where[2], is_read=True)
            reads = enough(last, TWO_PLACES, where[2])
            assert all(one & other for sets in done for one in sets for other in reads), (levels, where)


def test_nothing_is_done_with_less_than_was_asked() -> None:
    for factors, level in product((ONE_PLACE, TWO_PLACES), READS):
        before = need(level, factors, factors[0][0])
        after, _ = session_level(Token(), level, factors, factors[0][0], is_read=False)
        assert need(after, factors, factors[0][0]).total >= min(before.total, sum(n for _, n in factors))


def test_a_local_session_stays_local_and_one_that_moves_does_not() -> None:
    level, token = session_level(Token(), Level.LOCAL_ONE, TWO_PLACES, "east", is_read=False)
    assert (level, token.local, token.wide) == (Level.LOCAL_QUORUM, "east", False)
    assert session_level(token, Level.LOCAL_ONE, TWO_PLACES, "east", is_read=True)[0] is Level.LOCAL_QUORUM
    moved, after = session_level(token, Level.LOCAL_ONE, TWO_PLACES, "west", is_read=True)
    assert moved is Level.EACH_QUORUM and after.wide
    _, both = session_level(token, Level.LOCAL_QUORUM, TWO_PLACES, "west", is_read=False)
    assert both.local == EVERYWHERE


def test_a_token_of_the_schema_alone_and_serial_levels_change_nothing() -> None:
    schema = Token(5, full=False)
    assert session_level(schema, Level.ONE, ONE_PLACE, "", is_read=True) == (Level.ONE, schema)
    assert session_level(Token(), Level.SERIAL, ONE_PLACE, "", is_read=True)[0] is Level.SERIAL
