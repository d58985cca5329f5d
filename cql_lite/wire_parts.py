"""The notations of the CQL native protocol: [string], [bytes], [consistency]... and what they are made of.

Source: native_protocol_v5.spec, section 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Final

from core.consistency import Level
from cql_lite.frames import MalformedError

u16 = Struct(">H")
i32 = Struct(">i")
u32 = Struct(">I")
i64 = Struct(">q")

LEVELS: Final = (
    Level.ANY,
    Level.ONE,
    Level.TWO,
    Level.THREE,
    Level.QUORUM,
    Level.ALL,
    Level.LOCAL_QUORUM,
    Level.EACH_QUORUM,
    Level.SERIAL,
    Level.LOCAL_SERIAL,
    Level.LOCAL_ONE,
)
"""Consistency levels by their code."""

LEVEL_BYTES: Final = {level: u16.pack(code) for code, level in enumerate(LEVELS)}

NULL: Final = i32.pack(-1)
UNSET_LENGTH: Final = -2
UUID_BYTES: Final = 16


def level_of(code: int) -> Level:
    """The consistency level with this code; raises MalformedError."""
    if code >= len(LEVELS):
        raise MalformedError(f"unknown consistency level {code}", fatal=False)
    return LEVELS[code]


class Reader:
    """Reads a body from front to back; anything cut off or out of range raises MalformedError."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def _number(self, packer: Struct) -> int:
        at = self.at
        self.at = at + packer.size
        try:
            value: int = packer.unpack_from(self.data, at)[0]
        except struct.error:
            raise MalformedError("a message is cut off", fatal=False) from None
        return value

    def byte(self) -> int:
        """[byte]."""
        return self.take(1)[0]

    def short(self) -> int:
        """[short]: 16 bits without sign."""
        return self._number(u16)

    def int32(self) -> int:
        """[int]: 32 bits with sign."""
        return self._number(i32)

    def flags(self) -> int:
        """[int] as bits."""
        return self._number(u32)

    def long(self) -> int:
        """[long]: 64 bits with sign."""
        return self._number(i64)

    def take(self, length: int) -> bytes:
        """So many bytes."""
        end = self.at + length
        if length < 0 or end > len(self.data):
            raise MalformedError("a message is cut off", fatal=False)
        found = self.data[self.at : end]
        self.at = end
        return found

    def string(self) -> str:
        """[string]."""
        return _text(self.take(self.short()))

    def long_string(self) -> str:
        """[long string]."""
        return _text(self.take(self.int32()))

    def sized(self) -> bytes | None:
        """[bytes]: None for a negative length."""
        length = self.int32()
        return None if length < 0 else self.take(length)

    def short_bytes(self) -> bytes:
        """[short bytes]."""
        return self.take(self.short())

    def strings(self) -> tuple[str, ...]:
        """[string list]."""
        return tuple(self.string() for _ in range(self.short()))

    def string_map(self) -> dict[str, str]:
        """[string map]."""
        return {self.string(): self.string() for _ in range(self.short())}

    def string_multimap(self) -> dict[str, tuple[str, ...]]:
        """[string multimap]."""
        return {self.string(): self.strings() for _ in range(self.short())}

    def bytes_map(self) -> dict[str, bytes | None]:
        """[bytes map]."""
        return {self.string(): self.sized() for _ in range(self.short())}

    def consistency(self) -> Level:
        """[consistency]."""
        return level_of(self.short())

    def inet_address(self) -> bytes:
        """[inetaddr]: 4 or 16 bytes."""
        length = self.byte()
        if length not in (4, 16):
            raise MalformedError(f"an address has 4 or 16 bytes, not {length}", fatal=False)
        return self.take(length)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        raise MalformedError(f"text that is not UTF-8: {problem.reason}", fatal=False) from None


# --- writing


def string(text: str) -> bytes:
    """[string]; text over 65,535 bytes is cut, at a character."""
    data = text.encode()
    if len(data) > 0xFFFF:
        data = data[:0xFFFF].decode(errors="ignore").encode()
    return u16.pack(len(data)) + data


def long_string(text: str) -> bytes:
    """[long string]."""
    data = text.encode()
    return i32.pack(len(data)) + data


def sized(data: bytes | None) -> bytes:
    """[bytes]."""
    return NULL if data is None else i32.pack(len(data)) + data


def short_bytes(data: bytes) -> bytes:
    """[short bytes]."""
    return u16.pack(len(data)) + data


def strings(texts: Iterable[str]) -> bytes:
    """[string list]."""
    parts = [string(text) for text in texts]
    return u16.pack(len(parts)) + b"".join(parts)


def string_map(entries: Mapping[str, str]) -> bytes:
    """[string map]."""
    return u16.pack(len(entries)) + b"".join(string(k) + string(v) for k, v in entries.items())


def string_multimap(entries: Mapping[str, Iterable[str]]) -> bytes:
    """[string multimap]."""
    return u16.pack(len(entries)) + b"".join(string(k) + strings(v) for k, v in entries.items())


def bytes_map(entries: Mapping[str, bytes | None]) -> bytes:
    """[bytes map]."""
    return u16.pack(len(entries)) + b"".join(string(k) + sized(v) for k, v in entries.items())


def inet_address(address: bytes) -> bytes:
    """[inetaddr]."""
    return bytes((len(address),)) + address
