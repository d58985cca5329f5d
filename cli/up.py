"""`sullae up`: a process per peer of the configuration, from the first start to the last goodbye.

One main thread takes events from one queue (a peer is ready, a peer ended, a signal came) and decides; the
threads that wait for those things decide nothing. Promises:

- One `up` per data directory, held by a lock on DATA/up.lock that the kernel frees whatever happens.
- A peer that cannot start ends the whole, with that peer's last words. Later a peer that ends is reported,
  with the command that starts it again; it is restarted only if that was asked for.
- SIGINT, SIGTERM and SIGHUP stop every peer and wait for it; a second signal kills. When this process is
  killed, the kernel stops the peers.
"""

from __future__ import annotations

import fcntl
import os
import queue
import shlex
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Final

from cli import https, output, places
from cli.children import Child, Event
from cli.node import node_command
from cli.output import Failure
from cli.sample import Sample
from cli.telling import Telling

TICK_S: Final = 0.25
STILL_WAITING_S: Final = 10.0
STOPPING_MAX_S: Final = 30.0
BACK_OFF_FIRST_S: Final = 1.0
BACK_OFF_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 60.0
"""A peer that ran this long before it ended is restarted without waiting longer than the first time."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    """What `sullae up` was asked for."""

    config: Path
    data: Path
    sample: bool = True
    restart: bool = False
    insecure: bool = False
    verbose: bool = False
    as_json: bool = False


def up(options: Options) -> int:
    """Run the cluster until a signal comes; the exit status."""
    config = places.read_config(options.config)
    with _Lock(options.data):
        for peer in config.peers:
            ports = config.ports
            for port, what in ((ports.rest, "REST"), (ports.cql, "CQL"), (ports.peer, "the peers")):
                if why := places.why_not_bindable(peer.address, port):
                    text = f"{peer.name} cannot listen on {peer.address} port {port} ({what}): {why}"
                    hint = "stop what holds it, or choose other ports in cluster.yml"
                    raise Failure(text, hint=hint if "in use" in why else "", code="cannot_listen")
        crew = [
            Child(
                peer.name,
                url,
                _node_command(options, peer.name),
                options.data / f"{peer.name}.log",
            )
            for peer, url in zip(config.peers, places.urls_of(config), strict=True)
        ]
        shell = ["shell", config.peers[0].address, str(config.ports.cql)]
        shell += https.options("--ssl-ca", "--ssl-cert", "--ssl-key")
        return _Supervisor(options, config.name, crew, shell).run()


def _node_arguments(options: Options, name: str) -> list[str]:
    given = ["node", name, "--config", str(options.config), "--data", str(options.data)]
    return [*given, "--insecure"] if options.insecure else given


def _node_command(options: Options, name: str) -> list[str]:
    return node_command(
        name,
        options.config,
        options.data,
        insecure=options.insecure,
        log_format="json",
        parent=os.getpid(),
    )


class _Lock:
    """At most one `up` on a data directory."""

    def __init__(self, data: Path) -> None:
        self._path = data / "up.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert self._file is not None
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            raise Failure(
                f"another `sullae up` (pid {holder}) runs on {self._path.parent}",
                hint="stop that one first, or give this one another directory: --data DIR",
                code="already_up",
            ) from None
        except (FileExistsError, NotADirectoryError):
            raise Failure(f"{self._path.parent} is no directory", code="bad_data") from None
        except OSError as error:
            raise Failure(f"{self._path}: {error.strerror or error}", code="bad_data") from None
        try:
            self._file.truncate(0)
            self._file.write(str(os.getpid()))
            self._file.flush()
        except OSError as error:
            hint = "peers need room there: free some, or give another directory: --data DIR"
            raise Failure(f"{self._path}: {error.strerror or error}", hint=hint, code="bad_data") from None

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()


class _Supervisor:
    """The main thread's state: who runs, and what we are doing about it."""

    def __init__(self, options: Options, cluster: str, crew: list[Child], shell: list[str]) -> None:
        self._options = options
        self._cluster = cluster
        self._crew = crew
        self._shell = shell[:1] if shell[1:] == ["127.0.0.1", "9042"] else shell
        names = [child.name for child in crew]
        self._telling = Telling(names, as_json=options.as_json, verbose=options.verbose)
        self._tell = self._telling.tell
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._began_s = time.monotonic()
        self._told_s = self._began_s
        self._was_ready = False
        self._stopping_since_s: float | None = None
        self._killed = False
        self._exit_status = 0
        self._sample: Sample | None = None

    def run(self) -> int:
        """Start, watch, stop."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            for child in self._crew:
                child.start(self._events, self._telling.line_of)
            while self._stopping_since_s is None or any(child.running for child in self._crew):
                self._step()
        finally:
            for child in self._crew:
                child.send(signal.SIGKILL)  # only if one of our own bugs brought us here
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._sample is not None:
            self._sample.join()
        text = "all peers have stopped" if self._exit_status == 0 else "stopped"
        self._tell("stopped", text, exit_status=self._exit_status)
        return self._exit_status

    # --------------------------------------------------------------------------------------------- events

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._events.put(Event("signal", number=number))

    def _step(self) -> None:
        try:
            event = self._events.get(timeout=TICK_S)
        except queue.Empty:
            self._tick(time.monotonic())
            return
        if event.kind == "signal":
            self._on_stop_asked(signal.Signals(event.number).name)
        elif event.kind == "ready":
            assert event.child is not None
            self._on_ready(event.child)
        else:
            assert event.child is not None
            self._on_ended(event.child, event.number)

    def _on_ready(self, child: Child) -> None:
        if self._stopping_since_s is not None or not child.running:
            return
        child.ready = True
        if self._was_ready:
            self._tell("ready_again", f"{child.name} is ready again", peer=child.name, pid=child.pid)
        elif all(other.ready for other in self._crew):
            self._was_ready = True
            self._all_ready()

    def _on_ended(self, child: Child, status: int) -> None:
        pid = child.pid
        child.ended()
        if self._stopping_since_s is not None:
            if status not in (0, -signal.SIGTERM) and not self._killed:
                self._exit_status = 1
                text = f"{child.name} {_how(status)} while stopping; see {child.log}"
                self._tell("ended_badly", text, peer=child.name)
            return
        again = output.own_command(*_node_arguments(self._options, child.name))
        facts = {"peer": child.name, "pid": pid, "status": status, "restart": again}
        if not self._was_ready:
            last = [text for _, text in child.tail]
            text = f"{child.name} could not start: it {_how(status)}; its log is {child.log}"
            self._tell("cannot_start", text, **facts, log=str(child.log), last=last)
            if not any(self._telling.shows(level) for level, _ in child.tail):
                self._telling.add("Its last words:\n  " + "\n  ".join(last), "red")
            self._exit_status = 1
            self._stop()
        elif self._options.restart:
            pause = self._back_off_s(child)
            child.restart_at_s = time.monotonic() + pause
            self._tell("died", f"{child.name} {_how(status)}; restarting it in {pause:.0f} s", **facts)
        else:
            self._tell("died", f"{child.name} {_how(status)}; restart it with: {again}", **facts)
            if not any(other.running for other in self._crew):
                self._tell("none_left", "no peer is left")
                self._exit_status = 1
                self._stop()

    def _on_stop_asked(self, why: str) -> None:
        if self._stopping_since_s is None:
            self._tell("stopping", f"{why}: stopping the peers (once more to kill them)")
            self._stop()
        else:
            self._kill("killed the peers that had not stopped")

    def _tick(self, now_s: float) -> None:
        if self._stopping_since_s is not None:
            if now_s - self._stopping_since_s > STOPPING_MAX_S and not self._killed:
                self._exit_status = 1
                self._kill(f"killed the peers that had not stopped after {STOPPING_MAX_S:.0f} s")
            return
        for child in self._crew:
            if child.restart_at_s is not None and now_s >= child.restart_at_s:
                child.restarts += 1
                child.start(self._events, self._telling.line_of)
        if not self._was_ready and now_s - self._told_s > STILL_WAITING_S:
            self._told_s = now_s
            missing = "; ".join(f"{c.name}: {c.why_not}" for c in self._crew if not c.ready)
            self._tell("waiting", f"still waiting for {missing}")

    # ------------------------------------------------------------------------------------------ decisions

    def _stop(self) -> None:
        self._stopping_since_s = time.monotonic()
        if self._sample is not None:
            self._sample.stop()
        for child in self._crew:
            child.send(signal.SIGTERM)

    def _kill(self, text: str) -> None:
        self._killed = True
        names = ", ".join(child.name for child in self._crew if child.running)
        self._tell("killed", f"{text}: {names}")
        for child in self._crew:
            child.send(signal.SIGKILL)

    def _back_off_s(self, child: Child) -> float:
        if time.monotonic() - child.started_s > HEALTHY_AFTER_S:
            child.restarts = 0
        return float(min(BACK_OFF_MAX_S, BACK_OFF_FIRST_S * 2**child.restarts))

    def _all_ready(self) -> None:
        took_s = time.monotonic() - self._began_s
        peers = [{"name": c.name, "url": c.url, "pid": c.pid, "log": str(c.log)} for c in self._crew]
        count = output.count_text(len(peers), "peer")
        text = f"ready: {count} of cluster {self._cluster} in {took_s:.1f} s"
        self._tell("ready", text, peers=peers, seconds=took_s)
        self._telling.peers([(c.name, c.url, str(c.pid), str(c.log)) for c in self._crew])
        urls = [child.url for child in self._crew]
        if self._options.sample:
            self._sample = Sample(urls, self._options.data, self._telling.console, self._after_sample)
            self._sample.start()
        else:
            self._after_sample("")

    def _after_sample(self, said: str) -> None:
        """Called by the sample's thread when it is done, or at once where none was wanted."""
        if said:
            self._tell("sample", said)
        urls = [child.url for child in self._crew]
        lines = ["", "Try, in another terminal:"]
        lines += [f"  {line}" for line in _to_try(urls, sample=self._options.sample)]
        status = ["status"]
        if self._options.config != places.CONFIG:
            status += ["--config", str(self._options.config)]
        lines += [f"  {output.own_command(*self._shell)}", f"  {output.own_command(*status)}", ""]
        lines += [f"The API: {urls[0]}/docs. Ctrl-C stops the cluster.", ""]
        self._telling.add("\n".join(lines))


def _to_try(urls: list[str], *, sample: bool) -> list[str]:
    """Lines for a shell, each of which works as it stands."""
    second, third = urls[1 % len(urls)], urls[2 % len(urls)]
    lines = [
        f"-X PUT --data 'hello, ring' {urls[0]}/v1/kv/demo/a%2Fb",
        f"-i {third}/v1/kv/demo/a%2Fb",
    ]
    if sample:
        lines += [
            f"{second}/v1/kv/movies/the-land-girls-1998",
            f"'{third}/v1/kv/cities?prefix=KR/&limit=5'",
            f'{second}/v1/docs/movies/_find -d \'{{"filter": {{"IMDB Rating": {{"$gte": 9}}}}}}\'',
            f"-G {third}/v1/search/movies --data-urlencode 'q=space -horror' -d size=3",
            f"-G {urls[0]}/v1/search/cities --data-urlencode 'q=서울'",
        ]
    curl = shlex.join(["curl", *https.options("--cacert", "--cert", "--key")])
    return [f"{curl} {line}" for line in lines]


def _how(status: int) -> str:
    """How a process ended."""
    if status < 0:
        return f"died (signal {-status})"
    return f"ended (exit status {status})"
