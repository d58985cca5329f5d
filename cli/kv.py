"""`sullae kv`: one key at a time, and listings."""

from __future__ import annotations

import json
import mimetypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from cli.output import ANSWERED_NO_EXIT, Failure, bytes_text, print_json
from cli.places import urls_to_try
from cli.rest import NOT_FOUND, REFUSED_AT, Answer, Cluster, Peer, expect, lines_of, refusal_of, segment
from cli.shell.tables import escaped
from core.limits import VALUE_BYTES_MAX

TEXT: Final = "text/plain; charset=utf-8"
OCTETS: Final = "application/octet-stream"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Target:
    """Which key of which bucket, where, and at which level."""

    urls: Sequence[str]
    config: Path
    bucket: str
    key: str | None
    consistency: str | None

    def cluster(self) -> Cluster:
        """The peers to ask."""
        return Cluster(urls_to_try(self.urls, self.config))

    def path(self, **query: str | int | None) -> str:
        """The path of the key (of the bucket, if there is none) with its query."""
        path = f"/v1/kv/{segment(self.bucket)}" + ("" if self.key is None else f"/{segment(self.key)}")
        given = {name: value for name, value in query.items() if value not in (None, "")}
        if self.consistency is not None:
            given["consistency"] = self.consistency
        return f"{path}?{urlencode(given)}" if given else path


def read_value(value: str | None, file: Path | None) -> tuple[bytes, str]:
    """The value and its guessed content type, from the argument, a file or standard input."""
    if (value is None) == (file is None):
        text = "give the value, or - for standard input, or --file FILE"
        raise Failure(text, code="bad_option", exit_status=2)
    try:
        if file is not None:
            with file.open("rb") as opened:
                data, name = opened.read(VALUE_BYTES_MAX + 1), file.name  # one more is refused by the peer
        elif value == "-":
            data, name = sys.stdin.buffer.read(VALUE_BYTES_MAX + 1), ""
        else:
            assert value is not None
            data, name = value.encode(errors="surrogateescape"), ""
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}", code="bad_file") from None
    return data, guess(data, name)


def guess(data: bytes, name: str) -> str:
    """A content type: by the file's name, else JSON, text or bytes by what is there."""
    by_name, encoding = mimetypes.guess_type(name)
    if by_name is not None and encoding is None:
        return by_name
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return OCTETS
    if text.lstrip()[:1] in ("{", "["):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return TEXT
        return JSON
    return TEXT


def put(target: Target, data: bytes, content_type: str, *, ttl_s: int | None, as_json: bool) -> int:
    """Have the key hold these bytes."""
    path = target.path(ttl=ttl_s)
    answer = expect(target.cluster().request("PUT", path, data, {"Content-Type": content_type}))
    if as_json:
        print_json(_facts(target, answer, bytes=len(data), content_type=content_type))
    else:
        print(f"{target.bucket}/{target.key}: {bytes_text(len(data))} of {content_type}")
    return 0


def get(target: Target, out: Path | None, *, as_json: bool) -> int:
    """Write what the key holds to standard output or a file."""
    answer = target.cluster().request("GET", target.path())
    if answer.status == NOT_FOUND:
        text = f"{target.bucket}/{target.key}: there is nothing"
        raise Failure(text, code="not_found", exit_status=ANSWERED_NO_EXIT)
    expect(answer)
    if out is not None:
        try:
            out.write_bytes(answer.body)
        except OSError as error:
            raise Failure(f"{out}: {error.strerror or error}", code="bad_file") from None
    content_type = answer.headers.get("content-type", OCTETS)
    if as_json:
        value = {} if out is not None else _value_in_json(answer.body)
        print_json(_facts(target, answer, bytes=len(answer.body), content_type=content_type, **value))
    elif out is None:
        sys.stdout.buffer.write(answer.body)
        sys.stdout.buffer.flush()
        if sys.stdout.isatty() and not answer.body.endswith(b"\n"):
            print()
    return 0


def _value_in_json(body: bytes) -> dict[str, str]:
    import base64

    try:
        return {"value": body.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(body).decode()}


def delete(target: Target, *, as_json: bool) -> int:
    """Have the key hold nothing."""
    answer = expect(target.cluster().request("DELETE", target.path()))
    if as_json:
        print_json(_facts(target, answer))
    else:
        print(f"{target.bucket}/{target.key}: deleted")
    return 0


def _facts(target: Target, answer: Answer, **more: Any) -> dict[str, Any]:
    etag = {"etag": answer.headers["etag"]} if "etag" in answer.headers else {}
    return {"bucket": target.bucket, "key": target.key, **etag, **more}


def listing(target: Target, *, prefix: str, after: str, limit: int | None, as_json: bool) -> int:
    """Write keys one a line, as they come; at the end say how to go on where there is more.

    On a terminal control characters in them are escaped.
    """
    path = target.path(prefix=prefix, after=after, limit=limit)
    shown = escaped if sys.stdout.isatty() else str
    with target.cluster().stream("GET", path) as (peer, response):
        if response.status == NOT_FOUND:
            text = f"there is no bucket {target.bucket}"
            raise Failure(text, code="not_found", exit_status=ANSWERED_NO_EXIT)
        if response.status >= REFUSED_AT:
            raise refusal_of(peer.url, response.status, response.read())
        for line in lines_of(peer, response):
            entry = _entry(peer, line)
            if "detail" in entry or "title" in entry:
                text = str(entry.get("detail") or entry.get("title"))
                hint = f"go on with --after {entry['cursor']}" if entry.get("cursor") else ""
                raise Failure(text, hint=hint, code="broken_listing")
            if as_json:
                print_json(entry)
            elif "key" in entry:
                print(shown(entry["key"]))
            elif entry.get("cursor"):
                print(f"more: --after {entry['cursor']}", file=sys.stderr)
            if "cursor" in entry:
                return 0
    raise Failure(f"{peer.url} did not list to the end", code="broken_listing")


def _entry(peer: Peer, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise Failure(f"{peer.url} did not list to the end", code="broken_listing")
    return entry
