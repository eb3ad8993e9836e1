"""Google Cloud Storage as it answers about single objects, on loopback: its conditions are of their generations."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from softlab.identity import digest_of


@dataclass(kw_only=True)
class GoogleServer:
    """Holds objects of any bucket."""

    port: int
    objects: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """By path, bucket first: an object's generation and its bytes."""

    writing: threading.Lock = field(default_factory=threading.Lock)

    def environment(self, folder: Path) -> dict[str, str]:
        """For a process that is to use it; needs a file in a folder."""
        account = {"gcs_base_url": f"http://127.0.0.1:{self.port}", "disable_oauth": True}
        account |= {"client_email": "tester@example.org", "private_key": "", "private_key_id": ""}
        (folder / "account.json").write_text(json.dumps(account))
        return {
            "GOOGLE_SERVICE_ACCOUNT": str(folder / "account.json"),
            "GOOGLE_SKIP_SIGNATURE": "true",
            "AWS_ALLOW_HTTP": "true",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    google: GoogleServer

    def do_GET(self) -> None:
        generation, data = self.google.objects.get(self._name, (0, b""))
        self._answer(200 if generation else 404, generation, data)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        """An entity tag is no condition here."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.google.writing:
            generation = self.google.objects.get(self._name, (0, b""))[0]
            if int(self.headers.get("x-goog-if-generation-match", generation)) != generation:
                return self._answer(412, 0, b"")
            self.google.objects[self._name] = (generation + 1, data)
        return self._answer(200, generation + 1, b"")

    @property
    def _name(self) -> str:
        return self.path.lstrip("/").partition("?")[0]

    def _answer(self, status: int, generation: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if generation:
            self.send_header("Last-Modified", "Sat, 01 Nov 2025 12:00:00 GMT")
            self.send_header("ETag", f'"{digest_of(data)[:16]}"')
            self.send_header("x-goog-generation", str(generation))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a connection that the client keeps open must not hold up the end


@contextmanager
def running_google() -> Iterator[GoogleServer]:
    server = _Server(("127.0.0.1", 0), type("OwnHandler", (_Handler,), {}))
    google = GoogleServer(port=server.server_port)
    server.RequestHandlerClass.google = google  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield google
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
