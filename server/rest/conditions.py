"""Conditions (RFC 9110, 13.1): If-Match and If-None-Match; on updates they are decided with the write itself.

A condition that is not understood must not be ignored: that would lose what it protects.
"""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from core.consistency import Level
from core.requests import ConditionalRequest, Judged, WriteRequest
from kv import operations as kv
from kv.buckets import Bucket
from server.rest.problems import ProblemError

TAGS_MAX: Final = 100
_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_SEPARATOR: Final = re.compile(r"[ \t]*,[ \t,]*")


def condition_of(request: web.BaseRequest) -> kv.Condition | None:
    """The condition in the headers of an update; None if there is none."""
    if "If-Unmodified-Since" in request.headers:
        detail = "times are not exact enough: use If-Match with the value's ETag; nothing was written"
        raise ProblemError("conditional-not-supported", detail)
    return read_condition_of(request)


def read_condition_of(request: web.BaseRequest) -> kv.Condition | None:
    """The condition in the headers of a read; None if there is none."""
    headers = request.headers
    if "If-Match" not in headers and "If-None-Match" not in headers:
        return None
    return kv.Condition(_tags(request, "If-Match"), _tags(request, "If-None-Match"))


def _tags(request: web.BaseRequest, name: str) -> tuple[str, ...] | None:
    if name not in request.headers:
        return None
    text = ",".join(request.headers.getall(name)).strip(" \t")
    if text == "*":
        return ("*",)
    tags: list[str] = []
    at = 0
    while match := _TAG.match(text, at):
        tags.append(match[0])
        at = match.end()
        separator = _SEPARATOR.match(text, at)
        if separator is None:
            break
        at = separator.end()
    if not tags or at != len(text) or len(tags) > TAGS_MAX:
        raise ProblemError("bad-request", f'{name} is * or up to {TAGS_MAX} entity tags like "1f-2a"')
    return tuple(tags)


def conditional(bucket: Bucket, write: WriteRequest, condition: kv.Condition) -> ConditionalRequest:
    """The write under its condition; a serial level decides it, and it is then waited for at a quorum."""
    serial_level, level = Level.SERIAL, write.level
    if level is Level.SERIAL:
        level = Level.QUORUM
    elif level is Level.LOCAL_SERIAL:
        serial_level, level = level, Level.LOCAL_QUORUM
    return kv.conditional(bucket, write, condition.holds, level, serial_level)


def tag_of(bucket: Bucket, judged: Judged) -> str:
    """The tag of what was written; a problem (412) with that of what is there, if the condition is false."""
    if judged.version is not None:
        return kv.etag(judged.version)
    value = kv.value_of(bucket, judged.reads[0])
    if value is None:
        raise ProblemError("precondition-failed", "the key holds nothing; nothing was written", etag=None)
    error = ProblemError(
        "precondition-failed", f"the value's entity tag is {value.etag}; nothing was written", etag=value.etag
    )
    error.headers["ETag"] = value.etag
    raise error
