"""Korean without a dictionary: words, their stems and the pairs of their syllables.

A written word (eojeol) is a noun or verb stem with particles (josa) or endings stuck to it, and compounds are
written together: 주문상세내역 is order + details + list, 회원의 is member + of. So a word is indexed as

- itself, and its stems: what is left when a particle or an ending is taken off, at least two syllables;
- every pair of neighbouring syllables, each at a position of its own; the next word begins where the shortest
  stem ends, beside the pairs of what is stuck to it;
- if asked for, the beginnings of its initial consonants: ㅈㅁ finds 주문.

A search asks for the pairs of a word's shortest stem, one after the other: 주문 finds 주문상세내역, and
회원의 finds 회원에게; and as words stand alike in texts and searches, the phrase 회원의 이름 finds
회원 이름. What is taken off too much costs precision, never a result. Latin letters and digits that are
stuck to Hangul are words of their own (iPhone을). Offsets are those of the text in normal form (NFC), which
all text is but what some file systems give.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import Final

from index.analysis.tokens import TOKEN_CHARS_MAX, Token
from index.analysis.words import lowered, standard_terms, standard_tokens

SYLLABLES: Final = "\uac00-\ud7a3"
JAMO: Final = "\u3131-\u314e"

_HANGUL: Final = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
_RUNS = re.compile(rf"([{SYLLABLES}]{{1,{TOKEN_CHARS_MAX}}})|([{JAMO}]+)|[^{SYLLABLES}{JAMO}]+")

INITIALS: Final = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
INITIALS_MAX: Final = 12

_JOSA = (
    "이 가 은 는 을 를 의 에 도 로 와 과 만 께 랑 야 아 나 에서 에게 한테 으로 까지 부터 "
    "보다 처럼 같이 마다 조차 마저 밖에 이나 이란 이랑 라고 이라 라는 하고 이며 이고 대로 만큼 "
    "께서 에도 에는 에만 로서 로써 로는 로도 과의 와의 과는 와는 만의 만이 만을 도록 들이 들은 "
    "들을 들의 들에 들도 들과 으로서 으로써 으로는 으로도 에서는 에서도 에서의 에게서 에게는 에게도 "
    "한테서 까지는 까지도 부터는 부터의 이라고 이라는 이라도 에서부터 으로부터 로부터 에게로 들에게 "
    "들에서 들까지 들에게서 입니다 이에요 예요 이다 였다 이었다 이었습니다 였습니다 인데 이지만 일까"
)
_ENDINGS = (
    "하다 하는 하고 하여 하며 하면 하게 하지 하기 하던 하자 한다 한 할 함 해 해서 해요 해야 "
    "했다 했던 했고 했지만 했습니다 했어요 합니다 합니까 하세요 하십시오 하였다 하였습니다 하려면 "
    "하려고 하므로 하지만 하거나 하도록 되다 되는 되고 되어 되며 되면 되지 된다 된 될 됨 돼 돼서 "
    "됐다 됐습니다 됩니다 되었다 되었습니다 되지만 되도록 되거나 시키다 시키는 시킨 시켜 시킵니다 "
    "습니다 습니까 었다 았다 였고 었습니다 았습니다 었던 았던 었고 았고 겠다 겠습니다 는다 는데 "
    "지만 면서 다가 려고 려면 도록 어서 아서 어요 아요 네요 지요 세요 거나 던지 든지 적인 적으로 "
    "스러운 스럽게 롭게 로운"
)

_SUFFIXES: Final = frozenset(f"{_JOSA} {_ENDINGS}".split())
_SUFFIX_MAX: Final = max(map(len, _SUFFIXES))
STEM_MIN: Final = 2


@lru_cache(maxsize=20_000)
def stems(word: str) -> tuple[str, ...]:
    """What is left of a word without one suffix, or one and another behind it; the shortest first, then
    longer ones.
    """
    found: dict[str, None] = {}
    longest = min(_SUFFIX_MAX, len(word) - STEM_MIN)
    for length in range(longest, 0, -1):
        if word[-length:] in _SUFFIXES:
            found[word[:-length]] = None
    return tuple(found)


@lru_cache(maxsize=20_000)
def initials(word: str) -> str:
    """The initial consonants of a word's syllables."""
    return "".join(INITIALS[(ord(syllable) - 0xAC00) // 588] for syllable in word)


def korean_tokens(text: str, *, query: bool = False, with_initials: bool = False) -> list[Token]:
    """The tokens to index, or those to search for."""
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    found: list[Token] = []
    position = 0
    for match in _RUNS.finditer(text):
        first, word = match.start(), match[0]
        if match[1] is not None:
            if word in _SUFFIXES and first and text[first - 1].isalnum():
                continue  # a particle behind Latin letters or digits
            after = _hangul(found, word, first, position, query)
            if with_initials and not query:
                letters = initials(word)[:INITIALS_MAX]
                end = first + len(word)
                found += [Token(letters[:n], first, end, position) for n in range(1, len(letters) + 1)]
            position = after
        elif match[2] is not None:
            found.append(Token(word, first, first + len(word), position))
            position += 1
        else:
            for term, start, end, _ in standard_tokens(word):
                found.append(Token(lowered(term), first + start, first + end, position))
                position += 1
    return found


def mixed_tokens(text: str, *, query: bool = False) -> list[Token]:
    """Words, and where there is Hangul, what `korean_tokens` makes of it: no language has to be declared."""
    if text.isascii() or _HANGUL.search(text) is None:
        return standard_tokens(text)
    return korean_tokens(text, query=query)


def mixed_terms(text: str) -> list[str] | None:
    """The terms to index, None where they are not at positions 0, 1, 2, ..."""
    return standard_terms(text) if text.isascii() or _HANGUL.search(text) is None else None


def _hangul(found: list[Token], word: str, first: int, position: int, query: bool) -> int:
    """Add one word's tokens; returns the position after it, which is that after its shortest stem: so a
    phrase finds what it was copied from, and the same words with other particles.
    """
    shorter = stems(word)
    stem = shorter[0] if shorter else word
    if query:
        word = stem
        if len(word) <= 2:
            found.append(Token(word, first, first + len(word), position))
            return position + 1
    else:
        wholes = [term for term in (word, *shorter) if len(term) != 2]  # a pair is among the pairs
        found += [Token(term, first, first + len(term), position) for term in wholes]
    pairs = [one + two for one, two in pairwise(word)]
    for at, pair in enumerate(pairs):
        found.append(Token(pair, first + at, first + at + 2, position + at))
    return position + max(1, len(stem) - 1)
