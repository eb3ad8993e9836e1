"""Two hosts on this machine: network namespaces that a cable connects, each with a cache of its own.

They share the disk, as hosts do that see one network folder.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.program import ROOT


@dataclass(frozen=True, kw_only=True)
class Host:
    """One of the two; the first one holds torchrun's key-value store."""

    name: str
    number: int
    cache: Path

    @property
    def address(self) -> str:
        return f"10.77.0.{1 + self.number}"

    def torchrun(self, *arguments: object, out: Path) -> subprocess.Popen[bytes]:
        """Starts softlab as one of two nodes; what it prints is in OUT."""
        node = [
            *("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "softlab"),
            *("--rdzv-endpoint", "10.77.0.1:29777", "--rdzv-conf", f"is_host={str(self.number == 0).lower()}"),
            *("--local-addr", self.address, "-m", "softlab"),
        ]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": self.cable,
            "XDG_CACHE_HOME": str(self.cache),
        }
        command = [*self.inside, sys.executable, "-m", "torch.distributed.run", *node, *map(str, arguments)]
        with out.open("wb") as file:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def plug(self, *, is_in: bool) -> None:
        """The cable, at this host's end."""
        ip(*self.inside[1:], "ip", "link", "set", self.cable, "up" if is_in else "down")

    @property
    def cable(self) -> str:
        return f"sl{self.number}"

    @property
    def inside(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)


@contextmanager
def two_hosts(folder: Path) -> Iterator[list[Host]]:
    """Skips where namespaces can't be made."""
    mark = secrets.token_hex(3)
    hosts = [
        Host(name=f"softlab-{mark}-{number}", number=number, cache=folder / f"cache-{number}") for number in (0, 1)
    ]
    try:
        for host in hosts:
            ip("netns", "add", host.name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no hosts of their own can be made here: {getattr(error, 'stderr', None) or error}")
    try:
        first, second = hosts
        end = ("peer", "name", second.cable, "netns", second.name)
        ip("link", "add", first.cable, "netns", first.name, "type", "veth", *end)
        for host in hosts:
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.cable)
            ip("-n", host.name, "link", "set", "lo", "up")
            host.plug(is_in=True)
        yield hosts
    finally:
        for host in hosts:
            ip("netns", "delete", host.name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def wait_for(processes: Sequence[subprocess.Popen[bytes]], *, seconds: float = 400) -> list[int]:
    """Their exit codes; they are ended after so long."""
    try:
        return [process.wait(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
