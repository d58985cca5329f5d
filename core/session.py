"""Sessions: what a client has done and seen, in a small token, and the levels that its next requests need.

A session promises that its reads see its own writes and never go back, through whichever peer. Two things
make that true, and both are in the token:

- *The metadata epoch* that the session has seen. A peer that is behind it pulls, then serves; so what was
  created through one peer exists at the next.
- *Levels that overlap.* Two majorities of the replicas have one in common, and a read at QUORUM repairs
  before it answers; so with a quorum in every step nothing more has to be remembered: not what was written,
  nor where, nor when. Therefore nothing in a session is done by less than a quorum. ANY, ONE, TWO and THREE
  become QUORUM where they need fewer replicas than that, LOCAL_ONE becomes LOCAL_QUORUM. A local quorum
  overlaps with another one of the same datacentre only: so the token says where local levels were used, and
  a read for which that is not enough asks a quorum in each datacentre.

Who needs ONE's speed or its availability more than this promise makes those requests outside of the session.
Remembering positions of logs instead would let a replica that has followed them serve alone; but cells that
a read repair brought are in no log that is followed, so that reads could go back.

Levels SERIAL and LOCAL_SERIAL stay: their order is decided, not counted.

That reads never go back is promised of reads by key. Searches and finds see all that the session wrote, too,
but the one replica that serves a range may also show a write of somebody's that is not acknowledged yet, and
the next read may ask others.

A token is opaque to clients, has at most TOKEN_CHARS_MAX characters, and is not secret; one that was made up
can at worst make its sender wait.
"""

from __future__ import annotations

import base64
import binascii
from zlib import crc32

import msgspec

from core.consistency import Level, need, valid_for_writes

TOKEN_CHARS_MAX = 256
"""Also of what is not believed before it is looked at."""
EVERYWHERE = "*"
"""In place of a datacentre's name: several of them."""
_DATACENTRE_CHARS_MAX = 64
_FORMAT = 1

Factors = tuple[tuple[str, int], ...]


class Token(msgspec.Struct, frozen=True, array_like=True):
    """What a session has to remember.

    `full` False: of the schema only, no levels are changed. `local` names the datacentre in which local
    levels were used ("": in none), `wide` says that others were used.
    """

    epoch: int = 0
    full: bool = True
    local: str = ""
    wide: bool = False

    def seen(self, epoch: int) -> Token:
        """With this epoch, if it is newer."""
        return self if epoch <= self.epoch else msgspec.structs.replace(self, epoch=epoch)


NEW = "new"
"""What a client sends that has no token yet."""

TOKENS_MAX = 32
"""So many a request may name: a client that does several things at once gets several."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Token)


def encode_token(token: Token) -> str:
    """The text of a token: base64url of a format byte, a checksum and the fields."""
    data = _encoder.encode(token)
    framed = bytes([_FORMAT]) + crc32(data).to_bytes(4, "big") + data
    return base64.urlsafe_b64encode(framed).rstrip(b"=").decode("ascii")


def decode_token(text: str) -> Token | None:
    """The token that a text is; None if it is none. `NEW` is an empty token."""
    if text == NEW:
        return Token()
    if not 0 < len(text) <= TOKEN_CHARS_MAX or not text.isascii():
        return None
    try:
        framed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        data = framed[5:]
        if framed[:1] != bytes([_FORMAT]) or framed[1:5] != crc32(data).to_bytes(4, "big"):
            return None
        token = _decoder.decode(data)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        return None
    fits = 0 <= token.epoch < 2**63 and len(token.local) <= _DATACENTRE_CHARS_MAX
    return token if fits else None


def decode_tokens(text: str) -> Token | None:
    """The one token that several, with commas between them, come to; None if one of them is none."""
    if len(text) > TOKENS_MAX * (TOKEN_CHARS_MAX + 2):
        return None
    parts = text.split(",")
    found = [token for part in parts if (token := decode_token(part.strip())) is not None]
    if not found or len(found) < len(parts) or len(parts) > TOKENS_MAX:
        return None
    merged = Token(max(token.epoch for token in found), full=any(token.full for token in found))
    for token in found:
        if token.local:
            merged = _used(merged, token.local)
        if token.wide:
            merged = _used(merged, "")
    return merged


def session_level(
    token: Token, level: Level, factors: Factors, datacentre: str, *, is_read: bool
) -> tuple[Level, Token]:
    """The level at which a session's request is done, and the token after it.

    `factors` are the replication factors of the table, as for `need`; `datacentre` is the coordinator's.
    """
    if not token.full:
        return level, token
    if not valid_for_writes(level):  # SERIAL and LOCAL_SERIAL
        return level, _used(token, datacentre if level is Level.LOCAL_SERIAL else "")
    is_local = level in (Level.LOCAL_ONE, Level.LOCAL_QUORUM)
    if len(factors) == 1 and factors[0][0] == "":  # SimpleStrategy knows no datacentres
        return _at_least(Level.QUORUM, level, factors, datacentre), _used(token, "")
    if is_local:
        if is_read and (token.wide or token.local not in ("", datacentre)):
            return Level.EACH_QUORUM, _used(token, "")
        return Level.LOCAL_QUORUM, _used(token, datacentre)
    if is_read and token.local and level is not Level.ALL:
        return Level.EACH_QUORUM, _used(token, "")
    return _at_least(Level.QUORUM, level, factors, datacentre), _used(token, "")


def _at_least(floor: Level, level: Level, factors: Factors, datacentre: str) -> Level:
    is_enough = need(level, factors, datacentre).total >= need(floor, factors, datacentre).total
    return level if is_enough and level is not Level.ANY else floor


def _used(token: Token, local: str) -> Token:
    """With a level that counts everywhere, or in this datacentre only."""
    if not local:
        return token if token.wide else msgspec.structs.replace(token, wide=True)
    if token.local == local:
        return token
    return msgspec.structs.replace(token, local=EVERYWHERE if token.local else local)
