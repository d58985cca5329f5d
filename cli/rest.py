"""The CLI's HTTP client: the standard library's, one kept connection per peer, errors in sentences.

A `Cluster` is a list of peers' URLs of which any will do. A request goes to the first that can be reached;
the next one is tried only where the connection could not be made. Only an idle connection that turns out to
be closed has its request sent again, which is harmless for everything the CLI asks. Not safe for threads:
each thread makes its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from cli.output import Failure

CONNECT_TIMEOUT_S: Final = 2.0
ANSWER_TIMEOUT_S: Final = 30.0
PASS_OVER_S: Final = 8.0
"""Longer than any read takes at a peer: one that is silent so long stands still, and others can answer."""
DEFAULT_URL: Final = "http://127.0.0.1:8080"
ERROR_BYTES_MAX: Final = 64 * 1024
REFUSED_AT: Final = 400
NOT_FOUND: Final = 404


class UnreachableError(Exception):
    """No connection, or it broke; `sent` says that the request may have been received."""

    def __init__(self, url: str, reason: str, *, sent: bool) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; a `Failure` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failure(f"{self.url} answered {self.status} with something that is not JSON") from None


class Peer:
    """One peer's REST address and the connection kept to it."""

    def __init__(self, url: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """`url` such as http://127.0.0.1:8080; raises `Failure` if it is none."""
        self.url = checked_url(url)
        self.timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, read the whole answer. Raises `UnreachableError`."""
        with self.stream(method, path, body, headers) as response:
            data = self._guarded(response.read)
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(self.url, response.status, found, data)

    @contextlib.contextmanager
    def stream(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give the answer to be read bit by bit. Raises `UnreachableError`."""
        kept = self._connection is not None
        try:
            response = self._send(method, path, body, dict(headers or {}))
        except UnreachableError:
            if not kept:
                raise
            response = self._send(method, path, body, dict(headers or {}))  # an idle connection was closed
        try:
            yield response
        finally:
            if response.will_close or not response.isclosed():
                self.close()  # what is left unread would be taken for the next answer

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        connection = self._connection or self._connect()
        self._connection = connection

        def exchange() -> http.client.HTTPResponse:
            connection.request(method, path, body, headers)
            return connection.getresponse()

        response: http.client.HTTPResponse = self._guarded(exchange)
        return response

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host, timeout_s = parts.hostname or "", CONNECT_TIMEOUT_S
        if parts.scheme == "https":
            from cli import https

            tls = https.context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, parts.port, timeout=timeout_s, context=tls
            )
        else:
            connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        try:
            connection.connect()
        except OSError as error:
            raise UnreachableError(self.url, reason_of(error), sent=False) from error
        connection.sock.settimeout(self.timeout_s)
        return connection

    def _guarded(self, act: Any) -> Any:
        """What `act` gives; a broken connection is closed and told as `UnreachableError`."""
        try:
            return act()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise UnreachableError(self.url, reason_of(error), sent=True) from error


class Cluster:
    """Several peers of which any will do; connections are closed after each request."""

    def __init__(self, urls: Sequence[str], timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """`urls` in the order in which they are tried."""
        assert urls, "there is at least one URL"
        self.peers = [Peer(url, timeout_s) for url in urls]

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer of the first peer that can be reached; a `Failure` if none can.

        Who was asked and then fell silent is passed over only where asking again changes nothing.
        """
        reasons = []
        for peer in self.peers:
            if method == "GET" and peer is not self.peers[-1]:
                peer.timeout_s = min(peer.timeout_s, PASS_OVER_S)
            try:
                return peer.request(method, path, body, headers)
            except UnreachableError as error:
                if error.sent and method != "GET":
                    raise broken(error) from error
                reasons.append(error)
            finally:
                peer.close()
        raise nobody_answers(reasons)

    @contextlib.contextmanager
    def stream(self, method: str, path: str) -> Iterator[tuple[Peer, http.client.HTTPResponse]]:
        """The answer of the first peer that can be reached, to be read line by line with `lines_of`."""
        reasons = []
        for peer in self.peers:
            with contextlib.ExitStack() as stack:
                stack.callback(peer.close)
                try:
                    response = stack.enter_context(peer.stream(method, path))
                except UnreachableError as error:
                    if error.sent:
                        raise broken(error) from error
                    reasons.append(error)
                    continue
                yield peer, response
                return
        raise nobody_answers(reasons)


def lines_of(peer: Peer, response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The lines of an answer; a `Failure` where the connection breaks under it."""
    while True:
        try:
            line = response.readline()
        except (OSError, http.client.HTTPException) as error:
            raise broken(UnreachableError(peer.url, reason_of(error), sent=True)) from error
        if not line:
            return
        yield line


def nobody_answers(errors: Sequence[UnreachableError]) -> Failure:
    """No peer could be reached."""
    places = ", ".join(f"{error.url} ({error.reason})" for error in errors)
    hint = "start the peers with `make up` (or `sullae up`), or say where they are: --url http://HOST:PORT"
    if any(error.sent and error.url.startswith("http:") for error in errors):
        hint += "; a peer that speaks TLS is at https://HOST:PORT"
    return Failure(
        f"no peer answers at {places}",
        hint=hint,
        code="no_peer",
    )


def broken(error: UnreachableError) -> Failure:
    """The connection broke under a request."""
    return Failure(
        f"{error.url} did not answer to the end: {error.reason}",
        hint="whether the request was carried out is unknown; asking again is safe for put, delete and get",
        code="broken",
    )


def refusal(answer: Answer) -> Failure:
    """What a peer's error answer (RFC 9457 problem details) says, as a failure."""
    return refusal_of(answer.url, answer.status, answer.body)


def refusal_of(url: str, status: int, body: bytes) -> Failure:
    """The same from its parts."""
    code, detail = f"http_{status}", ""
    try:
        problem = json.loads(body)
        code = str(problem.get("type", code)).rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1] or code
        detail = str(problem.get("detail") or problem.get("title") or "")
    except (ValueError, AttributeError):
        detail = body[:200].decode(errors="replace").strip()
    text = detail or http.client.responses.get(status, "refused")
    return Failure(f"{text} ({status} from {url})", code=code)


def expect(answer: Answer) -> Answer:
    """The answer itself, or its refusal raised."""
    if answer.status >= REFUSED_AT:
        raise refusal(answer)
    return answer


def checked_url(url: str) -> str:
    """`url` without its path; `Failure` where it is no http URL with a host."""
    text = url if "//" in url else f"http://{url}"
    parts = urlsplit("")
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and is_host(parts.hostname or "") and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise Failure(f"not the URL of a peer: {url}", hint=f"such as {DEFAULT_URL}", code="bad_url")
    return f"{parts.scheme}://{parts.netloc}"


def is_host(text: str) -> bool:
    """Whether this can be asked for as an address or a name: what is no name raises anything but OSError."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return text.isprintable() and text != "" and " " not in text


def url_of(address: str, port: int, *, tls: bool = False) -> str:
    """The REST URL of an IP address."""
    host = f"[{address}]" if ":" in address else address
    return f"http{'s' if tls else ''}://{host}:{port}"


def beside(url: str, address: str) -> str:
    """The REST URL of another peer: as this one's, at its address."""
    parts = urlsplit(url)
    is_secured = parts.scheme == "https"
    return url_of(address, parts.port or (443 if is_secured else 80), tls=is_secured)


def segment(text: str) -> str:
    """A bucket or key as one segment of a path, slashes included."""
    return quote(text, safe="")


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if type(error).__module__ == "ssl":
        import ssl

        from cli import https

        if isinstance(error, ssl.SSLError):
            return https.reason_of(error)
    if isinstance(error, TimeoutError | socket.timeout):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "the connection was closed"
    if isinstance(error, http.client.BadStatusLine | http.client.UnknownProtocol):
        return "it does not speak HTTP"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
