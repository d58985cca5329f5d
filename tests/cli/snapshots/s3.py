"""A small S3-compatible storage in this process: as much of the protocol as a client of backups uses.

Objects (PUT, GET with ranges, HEAD, DELETE), listing, deleting many, uploads in parts. Requests must be
signed under the one key that there is; the signature itself is not checked.
"""

from __future__ import annotations

import contextlib
import html
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zlib import crc32

KEY = "backup-operator"
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


class Storage(ThreadingHTTPServer):
    """Buckets are what a path begins with; they need not be made."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.uploads = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def storage() -> Iterator[Storage]:
    server = Storage()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Storage

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", /, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def _begin(self) -> tuple[str, dict[str, str], bytes]:
        """Path, query and body."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        return unquote(parts.path).lstrip("/"), query, body

    def _may(self) -> bool:
        if f"Credential={KEY}/" in self.headers.get("Authorization", ""):
            return True
        self._error(403, "InvalidAccessKeyId")
        return False

    def do_PUT(self) -> None:
        name, query, body = self._begin()
        if not self._may():
            return
        if "partNumber" in query:
            self.server.parts[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.server.objects[name] = body
        self._answer(200, ETag=f'"{crc32(body)}"')

    def do_GET(self) -> None:
        name, query, _ = self._begin()
        if not self._may():
            return
        if "list-type" in query:
            self._list(name.rstrip("/"), query.get("prefix", ""))
            return
        data = self.server.objects.get(name)
        if data is None:
            self._error(404, "NoSuchKey")
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        status, more = 200, {}
        if self.command != "HEAD" and found is not None:
            first, last = int(found[1]), min(int(found[2]), len(data) - 1)
            status, more = 206, {"Content_Range": f"bytes {first}-{last}/{len(data)}"}
            data = data[first : last + 1]
        more["Content_Length"] = str(len(data))
        tag = f'"{crc32(data)}"'
        self._answer(status, data, ETag=tag, Last_Modified="Mon, 23 Nov 2026 00:00:00 GMT", **more)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        name, _, _ = self._begin()
        if self._may():
            self.server.objects.pop(name, None)
            self._answer(204)

    def do_POST(self) -> None:
        name, query, body = self._begin()
        if not self._may():
            return
        if "delete" in query:
            bucket = name.rstrip("/")
            keys = [html.unescape(key) for key in re.findall("<Key>(.*?)</Key>", body.decode())]
            for key in keys:
                self.server.objects.pop(f"{bucket}/{key}", None)
            told = "".join(f"<Deleted><Key>{html.escape(key)}</Key></Deleted>" for key in keys)
            self._answer(200, f'<DeleteResult xmlns="{XMLNS}">{told}</DeleteResult>'.encode())
        elif "uploads" in query:
            self.server.uploads += 1
            number = f"u{self.server.uploads}"
            self.server.parts[number] = {}
            name = "InitiateMultipartUploadResult"
            self._answer(200, f"<{name}><UploadId>{number}</UploadId></{name}>".encode())
        else:
            parts = self.server.parts.pop(query["uploadId"])
            self.server.objects[name] = b"".join(parts[number] for number in sorted(parts))
            text = "<CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>"
            self._answer(200, text.encode())

    def _list(self, bucket: str, prefix: str) -> None:
        names = sorted(name for name in self.server.objects if name.startswith(f"{bucket}/{prefix}"))
        told = "".join(
            f"<Contents><Key>{html.escape(name.removeprefix(bucket + '/'))}</Key>"
            f"<LastModified>2026-11-23T00:00:00.000Z</LastModified><ETag>x</ETag>"
            f"<Size>{len(self.server.objects[name])}</Size></Contents>"
            for name in names
        )
        text = f'<ListBucketResult xmlns="{XMLNS}"><IsTruncated>false</IsTruncated>{told}</ListBucketResult>'
        self._answer(200, text.encode())
