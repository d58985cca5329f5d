"""Patterns with `*` and `?`, matched in time that no pattern makes explode (a regular expression's would)."""

from __future__ import annotations

STAR, ANY = "*", "?"


def parts_of(pattern: str, *, plain: bool = False) -> tuple[str | int, ...]:
    """A pattern made ready: characters, 0 for a star, 1 for any one character.

    A backslash takes the next character as it is; with `plain` only stars mean anything.
    """
    found: list[str | int] = []
    at = 0
    while at < len(pattern):
        here = pattern[at]
        at += 1
        if here == STAR:
            if not found or found[-1] != 0:
                found.append(0)
        elif plain:
            found.append(here)
        elif here == ANY:
            found.append(1)
        else:
            if here == "\\" and at < len(pattern):
                here = pattern[at]
                at += 1
            found.append(here)
    return tuple(found)


def fits(parts: tuple[str | int, ...], text: str) -> bool:
    """Whether the whole text is of this pattern: at most len(parts) * len(text) steps.

    Only the last star seen ever has to take more: what stood before it fits already.
    """
    at = part = 0
    star, kept = -1, 0
    while at < len(text):
        if part < len(parts) and (parts[part] == 1 or parts[part] == text[at]):
            at += 1
            part += 1
        elif part < len(parts) and parts[part] == 0:
            star, kept = part, at
            part += 1
        elif star >= 0:
            kept += 1
            at, part = kept, star + 1
        else:
            return False
    return all(rest == 0 for rest in parts[part:])
