"""A proxy on loopback that has a request carried out, and loses the answer."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(kw_only=True)
class LossyProxy:
    """In front of one server."""

    server_port: int
    port: int
    lost: int = 0
    """How many more answers to PUT requests are lost."""

    statuses: list[int] = field(default_factory=list)
    """What the server answered to PUT requests, also where that was lost."""

    guard: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def loses(self, method: str, status: int) -> bool:
        """Whether this answer is to be lost; it is counted."""
        with self.guard:
            if method != "PUT":
                return False
            self.statuses.append(status)
            self.lost -= 1
            return self.lost >= 0


@contextmanager
def running_proxy(server_port: int) -> Iterator[LossyProxy]:
    server = _Server(("127.0.0.1", 0), type("OwnForwarder", (_Forwarder,), {}))
    proxy = LossyProxy(server_port=server_port, port=server.server_port)
    server.RequestHandlerClass.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


class _Forwarder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: LossyProxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server = http.client.HTTPConnection("127.0.0.1", self.proxy.server_port)
        try:
            # With the host that the client has signed.
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            data = answer.read()
        finally:
            server.close()
        if self.proxy.loses(self.command, answer.status):
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""
