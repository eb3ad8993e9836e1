"""A web server on loopback that answers wrongly, in a way chosen for each path."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from softlab.identity import digest_of


@dataclass(kw_only=True)
class FaultyServer:
    """What it holds and how it answers may be changed while it runs."""

    port: int
    objects: dict[str, bytes] = field(default_factory=dict)
    """By path, without the first slash."""

    faults: dict[str, "Fault"] = field(default_factory=dict)
    """By path; all other paths are answered as they should be."""

    requests: list[str] = field(default_factory=list)
    """What was asked, as in `GET name` or `GET name bytes=7-`."""

    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, path: str) -> int:
        """How often a path was asked for, this time included."""
        return Counter(request.split(" ")[1] for request in self.requests)[path]


class Handler(BaseHTTPRequestHandler):
    """Of one connection."""

    protocol_version = "HTTP/1.1"
    faulty: FaultyServer

    def answer(self) -> None:
        self.name = self.path.lstrip("/").partition("?")[0]
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.faulty.requests.append(f"{self.command} {self.name} {self.headers.get('Range', '')}".rstrip())
        self.faulty.faults.get(self.name, sound)(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    @property
    def data(self) -> bytes:
        return self.faulty.objects[self.name]

    @property
    def number(self) -> int:
        """Of this request among those for its path, from 1."""
        return self.faulty.count(self.name)

    def start(self, status: int, *, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Last-Modified", "Sat, 01 Nov 2025 12:00:00 GMT")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def give(self, data: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(data)

    def break_off(self, *, with_reset: bool = False) -> None:
        self.wfile.flush()
        if with_reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


Fault = Callable[[Handler], None]


def sound(handler: Handler) -> None:
    """As a good server answers: with ranges, conditions and tags."""
    if handler.name not in handler.faulty.objects:
        return answering(404)(handler)
    tag = f'"{digest_of(handler.data)[:16]}"'
    if handler.headers.get("If-Match", tag) != tag:
        return answering(412)(handler)
    start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
    rest, size = handler.data[start:], len(handler.data)
    if "Range" in handler.headers:
        handler.start(206, length=len(rest), ETag=tag, Content_Range=f"bytes {start}-{size - 1}/{size}")
    else:
        handler.start(200, length=size, ETag=tag)
    return handler.give(rest)


def answering(status: int, body: bytes = b"", *, times: int = 1 << 30) -> Fault:
    """With this status, so many times; then as it should."""

    def answer(handler: Handler) -> None:
        if handler.number > times:
            return sound(handler)
        handler.start(status, length=len(body))
        return handler.give(body)

    return answer


def breaking_off(*, after: int, times: int = 1 << 30, with_reset: bool = False, takes_ranges: bool = True) -> Fault:
    """After so many bytes of those that it announced, so many times; then as it should, maybe without ranges."""

    def answer(handler: Handler) -> None:
        if "Range" in handler.headers and not takes_ranges:
            del handler.headers["Range"]
        if handler.number > times:
            return sound(handler)
        handler.start(200, length=len(handler.data), ETag=f'"{digest_of(handler.data)[:16]}"')
        handler.give(handler.data[:after])
        return handler.break_off(with_reset=with_reset)

    return answer


def replaced_by(data: bytes, *, after: int) -> Fault:
    """The object becomes another one while it is read for the first time."""

    def answer(handler: Handler) -> None:
        if handler.number > 1:
            return sound(handler)
        breaking_off(after=after)(handler)
        handler.faulty.objects[handler.name] = data
        return None

    return answer


def dripping(*, pause_s: float) -> Fault:
    """One byte at a time; none, if the pause is longer than the reader waits."""

    def answer(handler: Handler) -> None:
        handler.start(200, length=len(handler.data))
        for start in range(len(handler.data)):
            if handler.faulty.closing.wait(pause_s):
                break
            handler.give(handler.data[start : start + 1])

    return answer


def pausing(*, pause_s: float) -> Fault:
    """Between the head of the answer and its bytes."""

    def answer(handler: Handler) -> None:
        handler.start(200, length=len(handler.data), ETag=f'"{digest_of(handler.data)[:16]}"')
        handler.faulty.closing.wait(pause_s)
        handler.give(handler.data)

    return answer


def stalling(*, after: int) -> Fault:
    """So many bytes of those that it announced, and then nothing, while the connection stays; no more of a range."""

    def answer(handler: Handler) -> None:
        size, tag = len(handler.data), f'"{digest_of(handler.data)[:16]}"'
        if "Range" in handler.headers:
            start = int(handler.headers["Range"].removeprefix("bytes=").split("-")[0])
            handler.start(206, length=size - start, ETag=tag, Content_Range=f"bytes {start}-{size - 1}/{size}")
        else:
            handler.start(200, length=size, ETag=tag)
            handler.give(handler.data[:after])
        handler.wfile.flush()
        handler.faulty.closing.wait()

    return answer


def silent(handler: Handler) -> None:
    """No answer at all."""
    handler.faulty.closing.wait()
    handler.break_off()


def without_tag(handler: Handler) -> None:
    handler.start(200, length=len(handler.data))
    handler.give(handler.data)


def without_length(handler: Handler) -> None:
    """In chunks, as a server answers that compresses on the way."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.give(b"%x\r\n%s\r\n0\r\n\r\n" % (len(handler.data), handler.data))


@contextmanager
def running_faulty(objects: dict[str, bytes] | None = None) -> Iterator[FaultyServer]:
    server = _Server(("127.0.0.1", 0), type("OwnHandler", (Handler,), {}))
    faulty = FaultyServer(port=server.server_port, objects=dict(objects or {}))
    server.RequestHandlerClass.faulty = faulty  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield faulty
    finally:
        faulty.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a connection that the client keeps open must not hold up the end

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients that give up are what is tested."""
