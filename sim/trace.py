"""One hash over everything that happened: the proof that a seed decides a run.

Every message delivered, every answer that left a node and every store outcome goes in as bytes, with its
virtual time and the machine. Two interpreters with different PYTHONHASHSEED must agree; one byte changed
anywhere must show.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any

import msgspec

from core.messages import Message, encode_message

_HEAD = Struct(">BQI").pack
MESSAGE, ANSWER, OUTCOME = 1, 2, 3


def _named(value: object) -> str:
    """What is no data: a function (in a ticket, say) by its name, not by where it is in memory."""
    return getattr(value, "__qualname__", None) or repr(value)


class Trace:
    """The running hash. `perturb` is for the test that a change of one byte moves it."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._encode = msgspec.msgpack.Encoder(enc_hook=_named).encode
        self.entries = 0
        self.perturb = -1

    def message(self, now_us: int, machine: int, source: bytes, message: Message) -> None:
        """A message was delivered to a machine."""
        self._add(MESSAGE, now_us, machine, source + encode_message(message))

    def value(self, kind: int, now_us: int, machine: int, name: object, value: Any) -> None:
        """An answer or an outcome; `name` is its request id or ticket."""
        body = self._encode((type(value).__name__, name, value))
        self._add(kind, now_us, machine, body)

    def _add(self, kind: int, now_us: int, machine: int, body: bytes) -> None:
        self.entries += 1
        if self.entries == self.perturb:
            body = bytes([body[0] ^ 1]) + body[1:]
        self._hash.update(_HEAD(kind, now_us, machine))
        self._hash.update(body)

    def digest(self) -> str:
        """The hash so far."""
        return self._hash.hexdigest()
