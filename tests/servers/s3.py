"""A real S3 server, SeaweedFS, on loopback."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY, SECRET_KEY = "tester", "a-secret-of-the-tests"
READER_KEY, READER_SECRET = "reader", "another-secret-of-the-tests"
STARTS_WITHIN_S = 60.0
SOCKETS = Path("/tmp")
"""Where SeaweedFS leaves sockets when it is killed, whatever TMPDIR is."""


@dataclass(kw_only=True)
class S3Server:
    """May be killed and started again on the same data and ports."""

    folder: Path
    port: int
    """Of S3; the other services of the server have ports of their own."""

    ports: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to have all rights."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def start(self) -> None:
        master, volume, filer = self.ports
        arguments = [
            *("-dir", str(self.folder / "data"), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"),
            *("-master.telemetry=false", f"-master.port={master}", f"-volume.port={volume}"),
            *("-filer", f"-filer.port={filer}", "-s3", f"-s3.port={self.port}"),
            *(f"-s3.config={self.folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
            *("-master.volumeSizeLimitMB=64", "-volume.max=4000"),
            *("-master.electionTimeout=1s", "-master.heartbeatInterval=100ms"),
        ]
        weed = shutil.which("weed", path=_path())
        assert weed, "asked for only where it is installed"
        with (self.folder / "log").open("ab") as log:
            command = [weed, f"-logdir={self.folder}", "server", *arguments]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "SeaweedFS doesn't answer"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash would."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def make_bucket(self, name: str) -> str:
        """Its URL. obstore makes no buckets."""
        self._client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def _answers(self) -> bool:
        """Whether it takes a write, which it does some time after it takes connections."""
        name = f"starting-{secrets.token_hex(4)}"
        try:
            self._client().create_bucket(Bucket=name)
            self._client().put_object(Bucket=name, Key="written", Body=b"at start")
        except (BotoCoreError, ClientError):
            return False
        return True

    def _client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 0}),
        )


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Ended by its process id; nothing of it is left."""
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps(_identities()))
    port, *others = free_ports(4)
    server = S3Server(folder=folder, port=port, ports=tuple(others))
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
        for port in (server.port, *server.ports):
            for number in (port, port + 10_000):
                for left in SOCKETS.glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink()


def has_weed() -> bool:
    return shutil.which("weed", path=_path()) is not None


def free_ports(count: int) -> list[int]:
    """Which, with 10,000 more, were free this moment: SeaweedFS takes those for its own protocol."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + 10_000 > 65_535:
                port -= 20_000
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
    return found


def _identities() -> dict[str, object]:
    def identity(name: str, secret: str, actions: list[str]) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}

    return {
        "identities": [
            identity(ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "List", "Tagging", "Write"]),
            identity(READER_KEY, READER_SECRET, ["Read", "List"]),
        ]
    }


def _path() -> str:
    """Programs of this environment first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
