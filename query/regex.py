"""Regular expressions in linear time: RE2's, so that no pattern of a user can hold up a peer.

This is the one file that knows RE2. A pattern may hold what RE2 knows: no backreferences and no lookaround,
which are what makes other engines exponential.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import re2

PATTERN_CHARS_MAX: Final = 4_096
PROGRAM_BYTES_MAX: Final = 512 * 1024
"""What a compiled pattern with its automata may take: RE2 falls back to a slower way, never to more memory.
"""
PATTERNS_KEPT: Final = 128
"""Compiled patterns that are kept for the next piece of work: a filter's are needed again and again."""
PROGRAM_STEPS_MAX: Final = 2_000
"""Steps of a compiled pattern: at worst each is tried at each byte of a text (about 5 ns)."""
FLAGS: Final = "imsx"
STEPS_TIMES_BYTES_MAX: Final = 64_000_000
"""Steps of patterns times bytes of text: what judging one document may cost (at worst about 5 ns each)."""


class Regex:
    """A pattern as a function: whether a text holds a match. `steps` times the text's bytes is its worst
    cost.
    """

    __slots__ = ("_program", "_search", "steps")

    def __init__(self, program: Any, steps: int) -> None:
        self._program = program
        self._search: Callable[[str], object] = program.search
        self.steps = steps

    def __call__(self, text: str) -> bool:
        """Whether the text holds a match."""
        try:
            return self._search(text) is not None
        except UnicodeEncodeError:  # half of a surrogate pair: no text, so nothing matches
            return False

    def found(self, text: str, limit: int) -> list[tuple[str, int, list[str | None]]]:
        """The first matches, none within another: what matched, from which character on, and its groups."""
        try:
            matches = islice(self._program.finditer(text), limit)
            return [(match[0], match.start(), list(match.groups())) for match in matches]
        except UnicodeEncodeError:
            return []


@lru_cache(PATTERNS_KEPT)
def compiled(pattern: str, flags: str) -> Regex | str:
    """The pattern as a function, or what is wrong with it.

    Flags: `i` ignores case, `m` has ^ and $ match at lines, `s` has the dot match newlines, `x` ignores
    whitespace and comments in the pattern.
    """
    if len(pattern) > PATTERN_CHARS_MAX:
        return f"a pattern has at most {PATTERN_CHARS_MAX} characters; this one has {len(pattern)}"
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        return f"unknown option {unknown[0]!r}; there are i, m, s and x"
    if "x" in flags:
        pattern = _compact(pattern)
    inline = "".join(flag for flag in "ims" if flag in flags)
    options = re2.Options()
    options.log_errors = False
    options.max_mem = PROGRAM_BYTES_MAX
    try:
        program = re2.compile(f"(?{inline}){pattern}" if inline else pattern, options)
    except re2.error as error:
        why = error.args[0] if error.args else "it does not compile"
        text = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
        return f"the pattern is refused ({text}); backreferences and lookaround are not supported"
    except UnicodeEncodeError:
        return "the pattern holds half of a surrogate pair"
    if program.programsize > PROGRAM_STEPS_MAX:
        return f"the pattern compiles to {program.programsize} steps; {PROGRAM_STEPS_MAX} are the limit"
    return Regex(program, program.programsize)


def literal_beginning(pattern: str, flags: str) -> str:
    """What every text that matches begins with, as far as that is plain to see; "" if nothing is.

    Only patterns that are anchored at the text's beginning, look at case, and have no alternatives.
    """
    if not pattern.startswith("^") or "|" in pattern or not set(flags) <= {"s"}:
        return ""
    found: list[str] = []
    at = 1
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and pattern[at + 1 : at + 2] and not pattern[at + 1].isalnum():
            at += 1
            char = pattern[at]
        elif char in ".[](){}*+?$^\\":
            break
        at += 1
        if pattern[at : at + 1] in ("*", "?", "{"):  # it may be there or not
            break
        found.append(char)
    return "".join(found)


def _compact(pattern: str) -> str:
    """The pattern without the whitespace and comments that the option x allows, which RE2 does not know."""
    kept, at, within_class = [], 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            kept.append(pattern[at : at + 2])
            at += 2
            continue
        if within_class:
            within_class = char != "]"
        elif char == "[":
            within_class = True
            if pattern[at + 1 : at + 2] == "]":  # a bracket that comes first is one of the class
                kept.append("[")
                char, at = "]", at + 1
            elif pattern[at + 1 : at + 3] == "^]":
                kept.append("[^")
                char, at = "]", at + 2
        elif char == "#":
            end = pattern.find("\n", at)
            at = len(pattern) if end < 0 else end + 1
            continue
        elif char.isspace():
            at += 1
            continue
        kept.append(char)
        at += 1
    return "".join(kept)
